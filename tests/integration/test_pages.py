"""The examples of README and docs, run as they stand: conventions in tests/docs/README.md."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from mailglass.ledger.database import Database
from mailglass.settings import configure, load_settings
from mailglass.testing.dns_server import DNSServer
from tests import prose
from tests.cluster import Cluster, Outside
from tests.docs.marks import BY_ANOTHER_TEST, MARKED, RUN_ELSEWHERE
from tests.docs.parsing import MARK, blocks, count, reasons
from tests.docs.project import FILES, LAB_ARGUMENTS, SECRETS, Project, serve_zones, settings
from tests.docs.shell import Shell
from tests.provider_lab import LabProcess, lab_process

PAGES = [str(path.relative_to(prose.ROOT)) for path in prose.pages()]
ROLES = ("mail_worker", "shop", "mail_web", "grafana", "mail_app")


def text(page: str) -> str:
    return (prose.ROOT / page).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def lab() -> Iterator[LabProcess]:
    with lab_process(*LAB_ARGUMENTS, secrets=SECRETS) as process:
        yield process


@pytest.fixture(scope="module")
def server() -> Iterator[DNSServer]:
    with DNSServer() as running:
        for page in PAGES:
            serve_zones(running, re.findall(r"^```zone\n(.*?)^```$", text(page), re.DOTALL | re.MULTILINE))
        yield running


@pytest.fixture
def project(
    cluster: Cluster,
    outside: Outside,
    lab: LabProcess,
    server: DNSServer,
    direct_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Project]:
    directory = cluster.directory
    (directory / "mailglass.toml").write_text(settings(lab, outside.port), encoding="utf-8")
    for name in ("templates", "shop"):
        (directory / name).mkdir()
    for name, content in FILES.items():
        (directory / name).write_text(content, encoding="utf-8")
    (directory / "shop" / "metrics.py").write_text("\n".join(blocks("docs/architecture.md")), encoding="utf-8")
    monkeypatch.chdir(directory)
    monkeypatch.syspath_prepend(str(directory))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    configure(load_settings())
    ledger = Database(direct_url)
    shell = Shell(
        directory, {"OWNER_URL": direct_url}, cluster.guardian, lambda action: found.delivery(action), server.address
    )
    found = Project(directory, direct_url, ledger, shell, server)
    for role in ROLES:
        found.execute(
            f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$"
        )
    yield found
    ledger.dispose()
    for name in found.modules:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("page", [page for page in PAGES if count(page)])
def test_examples_of_a_page_do_what_they_show(page: str, project: Project) -> None:
    project.run(page)


def test_guide_of_sending_domains_shows_records_of_every_kind(server: DNSServer) -> None:
    served = {rdtype.name for records in server.zone.values() for rdtype in records}
    assert served == {"MX", "A", "TXT", "PTR"}


def test_blocks_that_are_not_run_have_a_reason_and_their_number_is_known() -> None:
    found = Counter(reason for page in PAGES for reason in reasons(page))
    elsewhere = [reason for reason in found.elements() if reason.startswith(BY_ANOTHER_TEST)]
    assert {reason: number for reason, number in found.items() if reason not in elsewhere} == dict(MARKED)
    assert len(elsewhere) == RUN_ELSEWHERE
    for reason in elsewhere:
        assert (prose.ROOT / reason.removeprefix(BY_ANOTHER_TEST)).is_file(), reason


@pytest.mark.parametrize("page", [page for page in PAGES if "skip: next" in text(page)])
def test_a_mark_stands_right_above_the_block_that_it_speaks_of(page: str) -> None:
    marks = MARK.findall(text(page))
    assert len(marks) == text(page).count("skip: next")
    assert len(re.findall(MARK.pattern + r"\n?(?:```|    )", text(page), re.MULTILINE)) == len(marks)
