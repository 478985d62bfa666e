"""The runbook of webhooks: each of its commands, as it stands there, shows the cause of a real symptom."""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from mailglass import Message, deliver_later, tenant
from mailglass.ledger import webhooks
from mailglass.settings import configure, load_settings
from mailglass.webhooks import process
from tests.docs.shell import Shell

PAGE = Path(__file__).parents[2] / "docs" / "runbooks" / "webhook-troubleshooting.md"
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


class Site:
    """An endpoint in a process of its own, and a shell beside its log."""

    def __init__(self, cluster: Any, port: int) -> None:
        self.cluster, self.port = cluster, port
        self.delivery_id: UUID | None = None
        self.hook = cluster.directory / "hook"
        self.shell = Shell(cluster.directory, cluster.environment, cluster.guardian, lambda action: self._id(), "")

    def _id(self) -> str:
        assert self.delivery_id is not None
        return str(self.delivery_id)

    def log(self) -> str:
        return str((self.cluster.directory / "web.log").read_text(encoding="utf-8"))

    def post(self, password: str, account: str = "acme-postmark", **fields: Any) -> int:
        credentials = base64.b64encode(f"hooks:{password}".encode()).decode()
        body = json.dumps({"RecordType": "Delivery", "MessageID": str(uuid4()), **fields})
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("POST", f"/webhooks/{account}", body, {"authorization": f"Basic {credentials}"})
            return connection.getresponse().status

    def work(self) -> None:
        runtime = self.cluster.runtime
        process.run(runtime.settings, runtime.database, runtime.accounts, after_claim=lambda more: None)

    def follow(self, section: str) -> str:
        """Run the commands of a section, and return all that they print."""
        block = "\n".join(line[4:] for line in SECTIONS[section].splitlines() if line.startswith("    "))
        assert block
        return self.shell.run(block)


@pytest.fixture
def site(cluster: Any, unused_port: int, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(cluster.directory)
    hook = cluster.directory / "hook"
    hook.write_text("hook-old", encoding="utf-8")
    monkeypatch.setenv("POSTMARK_TOKEN", "a-token")
    cluster.environment["POSTMARK_TOKEN"] = "a-token"
    Path(cluster.environment["MAILGLASS_CONFIG"]).write_text(
        f"""
default_from = "shop@example.com"
[accounts.acme-postmark]
provider = "postmark"
server_token = "env:POSTMARK_TOKEN"
webhook_username = "hooks"
webhook_passwords = ["file:{hook}"]
[[routes]]
accounts = ["acme-postmark"]
""",
        encoding="utf-8",
    )
    configure(load_settings())
    cluster.web(unused_port)
    return Site(cluster, unused_port)


def test_refusals_after_a_rotation_lead_to_the_secret_that_the_provider_uses(
    site: Site, wait_for: Callable[..., None]
) -> None:
    assert site.post("hook-old") == 200
    # rotated here without an overlap, and not yet at the provider; then by an empty file
    site.hook.write_text("hook-new", encoding="utf-8")
    wait_for(lambda: site.post("hook-old") == 401)
    site.hook.write_text("", encoding="utf-8")
    wait_for(lambda: site.post("hook-new") == 200 and "mailglass.secrets.refused" in site.log())
    found = site.follow("Many webhooks are refused")
    assert re.search(r'"status": 401.*"reason": "bad_credentials"|"reason": "bad_credentials".*"status": 401', found)
    assert "webhook_passwords[0]" in found
    assert "[fail] accounts.acme-postmark" in found
    assert "is empty" in found


def test_silence_leads_to_the_account_in_the_url(site: Site) -> None:
    assert site.post("hook-old", account="acme-postmrk") == 404
    with tenant("acme"):
        message = Message(to="ada@example.com", subject="Receipt", text="Thank you.")
        site.delivery_id = UUID(str(deliver_later.delay(message).id))
    found = site.follow("Nothing arrives")
    assert "unknown_account" in site.log()
    assert "\n1\n" in found
    assert "[fail] workers" in found
    assert str(site.delivery_id) in found


def test_repetitions_are_counted_as_duplicates(site: Site, wait_for: Callable[..., None]) -> None:
    known = str(uuid4())
    assert [site.post("hook-old", MessageID=known) for _ in range(3)] == [200] * 3
    wait_for(lambda: '"duplicates": 1' in site.log())
    with tenant("acme"):
        message = Message(to="ada@example.com", subject="Receipt", text="Thank you.")
        site.delivery_id = UUID(str(deliver_later.delay(message).id))
    found = site.follow("Webhooks come again")
    assert found.count('"duplicates": 1') == 2


def test_events_of_another_environment_are_counted_as_orphans(site: Site) -> None:
    foreign: dict[str, Any] = {"Metadata": {"mailglass_id": str(uuid4())}, "DeliveredAt": "2026-03-01T12:00:00Z"}
    assert site.post("hook-old", Recipient="ada@example.com", **foreign) == 200
    site.work()
    found = site.follow("Orphans grow")
    assert re.search(r"acme-postmark \| +1 ", found)
    assert "orphaned" in found


def test_dead_webhooks_are_listed_with_their_reason_and_replayed(site: Site) -> None:
    database = site.cluster.runtime.database
    assert webhooks.store(database, "acme-postmark", "postmark", "a-key", b"no json", {})
    site.work()
    found = site.follow("Webhooks are dead")
    assert "body_not_understood" in found
    assert "1 replayed." in found
