"""Bounces by mail from end to end: sent by us, come back, kept, understood; and nobody else's word counts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy

from mailglass import Message, deliver, inbound
from mailglass.errors import ConfigError, LedgerUnavailableError
from mailglass.inbound import receive_bounce
from mailglass.ledger import deliveries
from mailglass.ledger.suppressions import suppressions_of
from mailglass.mail.addresses import Address
from mailglass.runtime import close_runtime, get_runtime
from mailglass.settings import configure, load_settings
from mailglass.webhooks import process
from mailglass.webhooks.process import WebhookReport
from tests.bounce_mails import COMPLAINT, DELIVERY_STATUSES, OUT_OF_OFFICE, POSTFIX, written
from tests.cluster import Cluster
from tests.integration.test_smtp_scripted import ALL, Peer, server

ADA = Address("ada@example.com")
OPTIONS = """
security = "none"
bounce_domain = "bounces.example.org"
bounce_secret = "env:BOUNCE_SECRET"
"""


@dataclass(frozen=True)
class Sent:
    """What the world knows of a mail that we sent."""

    id: UUID
    verp: str
    proof: str

    def report(self, shape: str, **blanks: Any) -> bytes:
        return written(shape, **{"verp": self.verp, "proof": self.proof, "id": str(self.id), **blanks})


@pytest.fixture
def relay(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster, whose account `relay` proves its mails."""
    monkeypatch.setenv("BOUNCE_SECRET", "sixteen letters!")
    use_port(cluster, 1)
    yield cluster
    close_runtime()


def use_port(cluster: Cluster, port: int) -> None:
    config = Path(cluster.environment["MAILGLASS_CONFIG"])
    text = re.sub(r"port = \d+", f"port = {port}", config.read_text())
    config.write_text(text if OPTIONS in text else text.replace('\nsecurity = "none"\n', OPTIONS))
    close_runtime()
    configure(load_settings())


def send(cluster: Cluster, **message: Any) -> Sent:
    """Send one mail to a server that only notes what it sees."""
    seen: list[str] = []

    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        seen.append(peer.hear("MAIL FROM").partition("<")[2].partition(">")[0])
        peer.hear("RCPT TO", "DATA")
        peer.say("250 ok", "250 ok", "354 go on")
        found = re.search(rb"X-Mailglass-Proof: (\S+)", peer.content())
        seen.append(found[1].decode() if found else "")
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        use_port(cluster, port)
        delivery = deliver(Message(to=ADA, subject="Your order", text="Thank you.", **message))
        close_runtime()
    return Sent(delivery.id, *seen)


def work() -> WebhookReport:
    runtime = get_runtime()
    return process.run(runtime.settings, runtime.database, runtime.accounts, after_claim=lambda more: None)


def stored() -> list[Any]:
    return list(get_runtime().database.query(sqlalchemy.text("SELECT * FROM mailglass.webhook_events ORDER BY id")))


def suppressed() -> list[str]:
    return [entry.reason for entry in suppressions_of(get_runtime().database, "default", ADA)]


def events(sent: Sent) -> list[tuple[str, str | None, str | None]]:
    return [
        (event.kind, event.bounce_class, event.enhanced_status)
        for event in deliveries.timeline(get_runtime().database, sent.id)
        if event.source == "provider"
    ]


def test_a_hard_bounce_in_every_shape_suppresses_its_recipient_once(relay: Cluster) -> None:
    sent = send(relay)
    assert sent.verp == f"bounces+{sent.proof}@bounces.example.org"
    for shape in DELIVERY_STATUSES.values():
        assert receive_bounce("relay", sent.report(shape))
    report = work()
    assert (report.events, report.matched, report.suppressed, report.dead) == (4, 4, 1, 0)
    assert suppressed() == ["hard_bounce"]
    assert events(sent)[0] == ("bounced", "hard", "5.1.1")
    delivery = deliveries.get(get_runtime().database, sent.id)
    assert (delivery.status, delivery.outcome) == ("sent", "bounced")


def test_a_complaint_suppresses_and_an_automatic_reply_does_not(relay: Cluster) -> None:
    sent = send(relay)
    receive_bounce("relay", sent.report(OUT_OF_OFFICE))
    work()
    assert (events(sent), suppressed()) == ([("autoresponded", None, None)], [])
    receive_bounce("relay", sent.report(COMPLAINT))
    work()
    assert suppressed() == ["complaint"]


def test_a_forged_bounce_is_kept_as_unknown_and_changes_nothing(relay: Cluster) -> None:
    sent = send(relay)
    wrong = f"{sent.id.hex}.{'a' * 22}"
    for shape in (*DELIVERY_STATUSES.values(), COMPLAINT, OUT_OF_OFFICE):
        receive_bounce("relay", sent.report(shape, verp=f"bounces+{wrong}@bounces.example.org", proof=wrong))
    before = deliveries.get(get_runtime().database, sent.id)
    report = work()
    assert (report.events, report.suppressed, report.dead) == (6, 0, 0)
    assert {kind for kind, _, _ in events(sent)} == {"unknown"}
    assert suppressed() == []
    after = deliveries.get(get_runtime().database, sent.id)
    assert (after.status, after.outcome) == (before.status, before.outcome)


def test_proof_of_a_mail_suppresses_its_own_recipient_alone(relay: Cluster) -> None:
    sent = send(relay)
    receive_bounce("relay", sent.report(POSTFIX, to="bob@example.com"))
    assert work().suppressed == 0
    assert events(sent) == [("bounced", "undetermined", "5.1.1")]
    bob = Address("bob@example.com")
    assert suppressions_of(get_runtime().database, "default", bob) == []


def test_a_bounce_is_kept_once_whatever_is_added_to_it_on_the_way(relay: Cluster) -> None:
    sent = send(relay)
    raw = sent.report(POSTFIX)
    assert receive_bounce("relay", raw) is True
    assert receive_bounce("relay", b"Received: by another.example.org\r\n" + raw) is False
    assert receive_bounce("relay", raw.replace(b"\r\n", b"\n")) is False
    assert receive_bounce("relay", raw.replace(b"5.1.1", b"5.1.2")) is True
    assert len(stored()) == 2
    assert bytes(stored()[0].body) == raw


def test_of_a_large_bounce_the_beginning_is_kept_and_understood(relay: Cluster) -> None:
    sent = send(relay)
    raw = sent.report(POSTFIX.replace("Thank you.", "Thank you.\n" * 300_000))
    assert len(raw) > 3_000_000
    receive_bounce("relay", raw)
    assert len(stored()[0].body) == 1024 * 1024
    assert work().suppressed == 1


def test_the_envelopes_recipient_is_kept_with_the_mail(relay: Cluster) -> None:
    sent = send(relay)
    bare = sent.report(POSTFIX, verp="bounces@example.org", proof="gone")
    receive_bounce("relay", bare, recipient=sent.verp)
    assert work().suppressed == 1


@pytest.mark.parametrize("raw", [b"", b"\x00\xff", b"no mail at all", b"From: x\n\n"])
@pytest.mark.parametrize("recipient", ["", "x\x00", "\udc80", "x" * 5000])
def test_any_bytes_are_kept_and_sink_nothing(relay: Cluster, raw: bytes, recipient: str) -> None:
    assert receive_bounce("relay", raw, recipient=recipient)
    report = work()
    assert (report.claimed, report.unmatched, report.dead) == (1, 1, 0)


def test_only_an_smtp_account_reports_by_mail(relay: Cluster) -> None:
    with pytest.raises(ConfigError, match=r"accounts.nowhere.provider: reports by webhook"):
        receive_bounce("nowhere", b"x")
    with pytest.raises(ConfigError, match=r"accounts.gone: unknown account"):
        receive_bounce("gone", b"x")


def test_a_bounce_is_kept_when_the_broker_is_away(relay: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = send(relay)

    def fail(task: str) -> None:
        raise ConnectionError

    monkeypatch.setattr(get_runtime().doorbell, "ring_task", fail)
    assert receive_bounce("relay", sent.report(POSTFIX))
    assert work().suppressed == 1


def test_a_worker_is_rung_for_a_bounce(relay: Cluster, until: Any) -> None:
    sent = send(relay)
    relay.worker()
    receive_bounce("relay", sent.report(POSTFIX))
    assert until(lambda: suppressed() == ["hard_bounce"])


# the command


def mailglass(cluster: Cluster, *arguments: str, raw: bytes, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "mailglass", "bounce", "receive", *arguments],
        input=raw,
        capture_output=True,
        check=False,
        env={**os.environ, **cluster.environment, **environ},
    )


def test_the_command_keeps_what_is_piped_into_it(relay: Cluster) -> None:
    sent = send(relay)
    bare = sent.report(POSTFIX, verp="bounces@example.org", proof="gone")
    for _ in range(2):
        done = mailglass(relay, "--account", "relay", "--recipient", sent.verp, raw=bare)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert len(stored()) == 1
    assert work().suppressed == 1


def test_the_command_tells_mail_servers_to_try_again_when_nothing_was_kept(relay: Cluster, unused_port: int) -> None:
    raw = written(POSTFIX, verp="bounces@example.org", proof="", id=str(UUID(int=1)))
    away = {"MAILGLASS_DATABASE_URL": f"postgresql://ada@127.0.0.1:{unused_port}/mailglass"}
    for arguments, environ in (
        (["--account", "relay"], away),
        (["--account", "gone"], {}),
        (["--account", "nowhere"], {}),
        (["--account", "relay"], {"MAILGLASS_DATABASE_URL": ""}),
        (["--account", "relay"], {"MAILGLASS_CONFIG": "/nowhere/mailglass.toml"}),
    ):
        done = mailglass(relay, *arguments, raw=raw, **environ)
        assert done.returncode == 75, done.stderr
        assert done.stderr.startswith(b"mailglass: ")
        assert len(done.stderr.splitlines()) == 1
        assert b"ada@" not in done.stderr
    assert stored() == []


def test_the_command_refuses_emptiness_and_wrong_usage(relay: Cluster) -> None:
    assert mailglass(relay, "--account", "relay", raw=b"\r\n").returncode == 65
    assert mailglass(relay, raw=b"x").returncode == 64


def test_a_schema_that_is_missing_is_no_reason_to_lose_a_bounce(relay: Cluster, empty_database_url: str) -> None:
    done = mailglass(relay, "--account", "relay", raw=b"x", MAILGLASS_DATABASE_URL=empty_database_url)
    assert done.returncode == 75
    assert b"Traceback" not in done.stderr


def test_a_database_that_goes_away_is_said_without_content(relay: Cluster, unused_port: int) -> None:
    os.environ["MAILGLASS_DATABASE_URL"] = f"postgresql://x@127.0.0.1:{unused_port}/x"
    configure(load_settings())
    with pytest.raises(LedgerUnavailableError) as caught:
        inbound.receive_bounce("relay", b"ada@example.com")
    assert "ada@" not in str(caught.value)
