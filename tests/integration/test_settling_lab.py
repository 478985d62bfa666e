"""The lab takes a mail and drops the answer, or a worker dies with it: one mail, sent once, and the ledger knows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy

from mailglass import Message, deliver_later
from mailglass.celery import forget_broker
from mailglass.doorbell import SETTLE
from mailglass.engine import Engine
from mailglass.engine.settler import SettlingReport
from mailglass.errors import LedgerUnavailableError
from mailglass.ledger import deliveries
from mailglass.ledger.lifecycle import Status
from mailglass.routing import Lane
from mailglass.runtime import Runtime, close_runtime, get_runtime
from mailglass.settings import configure, load_settings
from tests.provider_lab import lab_process

SEARCHED = {
    "postmark": 'provider = "postmark"\nserver_token = "env:LAB_KEY"\nbase_url = "{url}"',
    "sendgrid": 'provider = "sendgrid"\napi_key = "env:LAB_KEY"\nsearch = true\nbase_url = "{url}"',
    "mailgun": 'provider = "mailgun"\napi_key = "env:LAB_KEY"\ndomain = "mg.example.com"\nbase_url = "{url}/mailgun"',
    "mailjet": 'provider = "mailjet"\napi_key = "env:LAB_KEY"\nsecret_key = "env:LAB_KEY"\nbase_url = "{url}/mailjet"',
    "sparkpost": 'provider = "sparkpost"\napi_key = "env:LAB_KEY"\nbase_url = "{url}/sparkpost"',
    "mandrill": 'provider = "mandrill"\napi_key = "env:LAB_KEY"\nbase_url = "{url}/mandrill"',
    "brevo": 'provider = "brevo"\napi_key = "env:LAB_KEY"\nsearch = true\nbase_url = "{url}/brevo"',
}
RESEND = 'provider = "resend"\napi_key = "env:LAB_KEY"\nbase_url = "{url}/resend"'
CONFIG = """
default_from = "Shop <shop@example.com>"
log_format = "console"

[engine]
lease = 12
task_budget = 4
send_margin = 6
ring_timeout = 1

[streams.transactional]
max_attempts = 2
uncertain_hold = 300

[[routes]]
accounts = ["acme"]

[accounts.acme]
{account}
"""
# a process that takes what is queued, hands it over and dies before it can write down the answer
DIES = """
import os, signal, sys
from importlib import import_module
from mailglass.routing import Lane
from mailglass.runtime import get_runtime
provider = get_runtime().accounts.open("acme")
send = provider.send
def dying(mails, *, deadline):
    outcomes = send(mails, deadline=deadline)
    print([outcome.kind.value for outcome in outcomes], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
provider.send = dying
get_runtime().engine.run(Lane.parse(sys.argv[1]))
"""
LANE = Lane("mailglass", "default", "transactional")


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    names = ("mailgun", "mailjet", "sparkpost", "mandrill", "brevo", "resend")
    with lab_process("--open-rate", "0", *(f"--account={name}={name}" for name in names)) as process:
        yield process.url


@dataclass
class Site:
    """A configured mailglass without workers, and the lab."""

    lab: str
    directory: Path
    monkeypatch: pytest.MonkeyPatch

    def account(self, text: str, **more: Any) -> None:
        """Have one account."""
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in more.items())
        config = self.directory / "mailglass.toml"
        config.write_text(CONFIG.format(account=text.format(url=self.lab) + "\n" + lines), encoding="utf-8")
        self.monkeypatch.setenv("MAILGLASS_CONFIG", str(config))
        configure(load_settings())

    @property
    def runtime(self) -> Runtime:
        return get_runtime()

    @property
    def engine(self) -> Engine:
        return self.runtime.engine

    def execute(self, sql: str) -> None:
        self.runtime.database.query(sqlalchemy.text(sql))

    def received(self, delivery_id: UUID) -> int:
        """How often the lab has taken it."""
        counts: dict[str, int] = httpx.get(f"{self.lab}/lab/received", trust_env=False).json()
        return counts.get(str(delivery_id), 0)

    def status(self, delivery_id: UUID) -> Status:
        return deliveries.get(self.runtime.database, delivery_id).status

    def work_until_it_waits_for_evidence(self, delivery_id: UUID) -> None:
        """What is asked again is asked again at once, as often as the stream has attempts."""
        for _ in range(5):
            if self.status(delivery_id) is Status.UNCERTAIN:
                return
            self.execute("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL")
            self.engine.run(LANE)
        pytest.fail(f"it is {self.status(delivery_id)}")


@pytest.fixture
def site(
    lab: str, tmp_path: Path, database_environment: dict[str, str], broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    for name, value in database_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MAILGLASS_BROKER_URL", broker_url)
    monkeypatch.setenv("LAB_KEY", "lab-key-0815")
    yield Site(lab, tmp_path, monkeypatch)
    close_runtime()
    forget_broker()


def queue(recipient: str) -> UUID:
    return UUID(str(deliver_later(Message(to=recipient, subject="Receipt", text="Thank you."))))


@pytest.mark.parametrize("name", SEARCHED)
def test_a_mail_whose_answer_was_lost_is_found_and_not_sent_again(site: Site, name: str) -> None:
    site.account(SEARCHED[name], search_lag=0)
    delivery_id = queue(f"silence.{name}@example.com")
    site.work_until_it_waits_for_evidence(delivery_id)
    report = site.runtime.settler.run()
    assert (report.claimed, report.found, report.settled) == (1, 1, 1)
    delivery = deliveries.get(site.runtime.database, delivery_id)
    assert delivery.status is Status.SENT
    assert delivery.provider_message_id
    site.execute("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL")
    site.engine.run(LANE)
    assert site.received(delivery_id) == 1


@pytest.mark.parametrize("name", [name for name in SEARCHED if name != "brevo"])
def test_a_mail_that_never_arrived_is_not_found_and_sent_again_only_where_that_proves_it(
    site: Site, name: str, unused_port: int
) -> None:
    site.account(SEARCHED[name], search_lag=0)
    delivery_id = queue(f"sunny.{name}@example.com")
    # the request was written and got lost on its way
    site.execute(
        "UPDATE mailglass.deliveries SET status = 'claimed', due_at = NULL, lease_token = gen_random_uuid(), "
        "lease_expires_at = now()"
    )
    site.execute(
        f"UPDATE mailglass.deliveries SET status = 'sending', attempts = 1, account = 'acme', provider = '{name}'"
    )
    assert [kind for _, kind in site.runtime.settler.sweep()] == ["uncertain"]
    report = site.runtime.settler.run()
    assert (report.claimed, report.found, report.resumed) == (1, 0, 0)
    site.account(SEARCHED[name], search_lag=0, search_complete_after=0)
    site.execute("UPDATE mailglass.deliveries SET search_at = now()")
    report = site.runtime.settler.run()
    # what SendGrid's list shows does not say whose it is, and an empty one says that there is none
    assert (report.claimed, report.found, report.resumed) == (1, 0, 1)
    site.engine.run(LANE)
    assert site.status(delivery_id) is Status.SENT
    assert site.received(delivery_id) == 1


@pytest.mark.parametrize("name", ["resend", "brevo", "postmark"])
def test_a_worker_killed_with_the_answer_in_its_hands_leaves_one_mail_at_the_provider(site: Site, name: str) -> None:
    site.account(RESEND if name == "resend" else SEARCHED[name], **({} if name == "resend" else {"search_lag": 0}))
    delivery_id = queue(f"sunny.killed.{name}@example.com")
    dead = subprocess.run(
        [sys.executable, "-c", DIES, str(LANE)], capture_output=True, text=True, env=dict(os.environ), timeout=60
    )
    assert (dead.returncode, "accepted" in dead.stdout) == (-signal.SIGKILL, True), dead.stderr
    assert site.status(delivery_id) is Status.SENDING
    assert site.received(delivery_id) == 1
    site.execute("UPDATE mailglass.deliveries SET lease_expires_at = now()")
    assert [kind for _, kind in site.runtime.settler.sweep()] == ["uncertain"]
    asked_again = name != "postmark"
    assert site.status(delivery_id) is (Status.QUEUED if asked_again else Status.UNCERTAIN)
    if name == "resend":
        site.engine.run(LANE)
    else:
        # Brevo says only that it had the request before, and what became of it by its search
        site.work_until_it_waits_for_evidence(delivery_id)
        assert site.runtime.settler.run().settled == 1
    assert site.status(delivery_id) is Status.SENT
    assert site.received(delivery_id) == 1


def test_single_worker_at_a_time_searches(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mailglass_workers import pumping, tasks

    doorbell, settler = cluster.runtime.doorbell, cluster.runtime.settler
    rung: list[int] = []

    def run(ring: Callable[..., object]) -> SettlingReport:
        rung.append(doorbell.ring_task(SETTLE, pumping.SETTLE_RING_TIMEOUT))
        return SettlingReport(more=True)

    monkeypatch.setattr(settler, "run", run)
    assert doorbell.ring_task(SETTLE) == 1
    tasks.settle()
    # it has rung again for the rest, and only then
    assert (rung, doorbell.ring_task(SETTLE)) == ([0], 0)
    assert cluster.rings.count() == 2


def test_a_search_that_fails_lets_the_next_one_begin(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mailglass_workers import tasks

    def run(ring: Callable[..., object]) -> SettlingReport:
        raise LedgerUnavailableError("the database is away")

    monkeypatch.setattr(cluster.runtime.settler, "run", run)
    assert cluster.runtime.doorbell.ring_task(SETTLE) == 1
    tasks.settle()
    assert cluster.runtime.doorbell.ring_task(SETTLE) == 1


def test_workers_search_by_themselves(site: Site, cluster: Any, wait_for: Callable[..., None]) -> None:
    site.account(SEARCHED["mailgun"], search_lag=0.5)
    cluster.environment["MAILGLASS_CONFIG"] = str(site.directory / "mailglass.toml")
    cluster.environment["LAB_KEY"] = "lab-key-0815"
    lost, quiet = queue("silence.worker@example.com"), queue("sunny.worker@example.com")
    cluster.worker("-P", "solo")
    wait_for(lambda: {site.status(lost), site.status(quiet)} == {Status.SENT}, timeout=60)
    kinds = [(event.kind, event.reason) for event in deliveries.timeline(site.runtime.database, lost)]
    assert ("settled", "search_evidence") in kinds
    assert (site.received(lost), site.received(quiet)) == (1, 1)
