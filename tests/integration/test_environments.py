"""A staging copy of production mails nobody but those who are allowed, and says so of every mail that it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailglass import DeliveryError, Message, deliver, deliver_later, deliver_many
from mailglass.cli import run as command
from mailglass.engine import Engine
from mailglass.errors import ConfigError
from mailglass.ids import uuid7
from mailglass.ledger import deliveries
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.suppressions import Suppression, suppress, suppressions_of
from mailglass.mail.addresses import Address
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.recipients import NOT_ALLOWED_HERE, RecipientPolicy
from mailglass.preflight.configuration import recipients_are_told
from mailglass.preflight.findings import Status as FindingStatus
from mailglass.preflight.surroundings import Surroundings
from mailglass.routing import Lane
from mailglass.runtime import get_runtime
from mailglass.settings import Settings, SyncMode, configure, get_settings
from mailglass.suppressions import sync
from mailglass.suppressions.removal import remove_address
from mailglass.testing.provider import FixedAccounts, ScriptedProvider
from tests.cluster import Cluster, Outside
from tests.integration.test_suppression_sync import replace_time
from tests.settling import LANE, Desk, takes
from tests.unit.test_recipients import ADDRESSES, ALLOWED

DEV = Address("dev@redirect.example")
REFUSES = RecipientPolicy(("*@example.com",))
REDIRECTS = RecipientPolicy(("*@example.com",), DEV, "[staging]")
PAIRS = st.lists(ADDRESSES.map(lambda address: [address.name, address.email.replace("\r\n", " ")]), max_size=3)
CONTENTS = st.fixed_dictionaries({"cc": PAIRS, "bcc": PAIRS, "reply_to": PAIRS})


def within(desk: Desk, recipients: RecipientPolicy | None) -> None:
    desk.settings = replace(desk.settings, recipients=recipients)


def copied(desk: Desk, recipients: Sequence[Address], contents: Sequence[dict[str, Any]]) -> list[UUID]:
    """Deliveries of a copied ledger: written by another environment, as they stood there."""
    items = [
        Item(uuid7(), LANE, uuid7(), json.dumps({"v": 1, "subject": "Receipt", "text": "Thanks."} | content), address)
        for address, content in zip(recipients, contents, strict=True)
    ]
    return [recorded.id for recorded in submit(desk.ledger.run, items)]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(ADDRESSES, CONTENTS), min_size=1, max_size=8), st.sampled_from([REFUSES, REDIRECTS]))
def test_no_provider_call_of_a_copied_ledger_names_anybody_outside(
    desk: Desk, rows: list[tuple[Address, dict[str, Any]]], policy: RecipientPolicy
) -> None:
    within(desk, policy)
    recipients = [Address(address.email.replace("\r\n", " "), address.name) for address, _ in rows]
    desk.main.sent.clear()
    ids = copied(desk, recipients, [content for _, content in rows])
    while Engine(desk.settings, desk.ledger, desk.accounts).run(LANE).claimed:
        pass
    for mail in desk.main.sent:
        for address in (mail.recipient, *mail.cc, *mail.bcc, *mail.reply_to):
            assert ALLOWED.fullmatch(address.email)
    delivered = {mail.delivery_id for mail in desk.main.sent}
    for key in ids:
        delivery = desk.delivery(key)
        assert (delivery.status is Status.SENT) is (key in delivered)
        if key not in delivered:
            assert (delivery.status, delivery.last_error) == (Status.FAILED, NOT_ALLOWED_HERE)
            assert ("failed", NOT_ALLOWED_HERE) in desk.told(key)
    if policy is REDIRECTS:
        assert delivered == set(ids)


def test_redirected_and_left_out_mail_stands_in_the_ledger_once_and_without_an_address(desk: Desk) -> None:
    within(desk, REDIRECTS)
    (key,) = copied(desk, [Address("ada@customer.test")], [{"bcc": [["", "bob@customer.test"]]}])
    desk.main.script = lambda mail: Outcome(OutcomeClass.TRANSIENT)
    desk.work()
    desk.main.script = lambda mail: Outcome(OutcomeClass.ACCEPTED, provider_message_id="p-1")
    desk.work()
    told = desk.told(key)
    assert [pair for pair in told if pair[0] in ("redirected", "left_out")] == [
        ("redirected", NOT_ALLOWED_HERE),
        ("left_out", NOT_ALLOWED_HERE),
    ]
    assert "customer" not in repr(desk.rows("SELECT * FROM mailglass.events"))
    first, second = desk.main.sent
    assert first == replace(second, start_by=first.start_by)
    assert (first.subject, first.recipient, first.bcc) == ("[staging] Receipt", DEV, ())


def test_a_mail_that_may_have_been_sent_is_not_called_refused(desk: Desk) -> None:
    (key,) = desk.uncertain()
    within(desk, RecipientPolicy(("*@elsewhere.example",)))
    desk.end_holds()
    desk.settler.sweep()
    desk.work()
    delivery = desk.delivery(key)
    assert (delivery.status, delivery.in_doubt) == (Status.HELD, True)
    assert len(desk.main.sent) == 1


def test_a_refused_mail_takes_no_other_with_it_and_no_place_within_the_limits(desk: Desk) -> None:
    within(desk, REFUSES)
    people = [Address("ada@customer.test"), Address("bob@example.com"), Address("eve@customer.test")]
    ids = copied(desk, people, [{}, {}, {}])
    report = Engine(desk.settings, desk.ledger, desk.accounts).run(LANE)
    assert report.moved == {Status.FAILED: 2, Status.SENT: 1}
    assert [mail.delivery_id for mail in desk.main.sent] == [ids[1]]


def test_a_redirected_mail_is_searched_for_under_the_address_that_got_it(desk: Desk) -> None:
    within(desk, replace(REDIRECTS, allow=()))
    desk.main.says = takes
    (key,) = desk.uncertain()
    desk.settler.run()
    assert [target.recipient for target in desk.main.targets] == ["dev@redirect.example"]
    assert desk.delivery(key).status is Status.SENT


def test_webhooks_about_the_mailbox_of_redirected_mail_are_about_the_delivery(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    within(desk, replace(REDIRECTS, allow=()))
    (key,) = desk.queue()
    desk.work()
    events = [
        ProviderEvent(EventKind.BOUNCED, "w-1", delivery_id=key, recipient="Dev@redirect.example", bounce_class=None),
        ProviderEvent(
            EventKind.BOUNCED,
            "w-2",
            delivery_id=key,
            recipient="dev@redirect.example",
            bounce_class=BounceClass.HARD,
        ),
    ]
    monkeypatch.setattr(desk.main, "normalise", lambda body, headers: events)
    desk.post(key)
    assert desk.delivery(key).facts.bounced_at is not None
    assert suppressions_of(desk.ledger, "acme", DEV)
    assert not suppressions_of(desk.ledger, "acme", Address("u0@example.com"))


def test_no_providers_suppression_list_is_changed_outside_production(desk: Desk) -> None:
    class Lists(ScriptedProvider):
        keeps_suppressions = True

        def suppression_list(self) -> Any:
            class Listed:
                def pull(self, cursor: str | None) -> tuple[list[Any], None]:
                    return [], None

                def push(self, entries: Sequence[Any]) -> list[bool]:
                    raise AssertionError("pushed")

                def remove(self, addresses: Sequence[str]) -> list[bool]:
                    raise AssertionError("removed")

            return Listed()

    main = replace(desk.settings.accounts["main"], tenant="acme", suppressions=SyncMode.BOTH)
    chosen: Settings = replace(desk.settings, accounts={"main": main}, recipients=REFUSES)
    accounts = FixedAccounts(chosen, {"main": Lists()})
    suppress(desk.ledger, [Suppression("acme", "ada@customer.test", "manual", "manual")])
    # entries of the last minutes wait for transactions that are still open
    for row in desk.rows("SELECT id FROM mailglass.suppressions"):
        desk.rows("UPDATE mailglass.suppressions SET id = CAST(:old AS uuid)", old=str(replace_time(row.id)))
    assert sync.run(chosen, desk.ledger, accounts, "main").error is None
    ada = Address("ada@customer.test")
    with pytest.raises(ConfigError, match="outside production"):
        remove_address(chosen, desk.ledger, accounts, "acme", ada, actor="grace", at=["main"])
    assert remove_address(chosen, desk.ledger, accounts, "acme", ada, actor="grace").is_whole


def test_calls_in_this_process_and_by_a_worker_are_guarded_alike(
    cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(replace(get_settings(), environment="staging", recipients=REFUSES))
    for to in ("ada@customer.test", "bob@example.com"):
        deliver_later.delay(Message(to=to, subject="Receipt 1001", text="Thank you.", cc="eve@customer.test"))
    deliver_many([Message(to="ada@customer.test", subject="Receipt 1002", text="Thank you.")])
    with pytest.raises(DeliveryError, match=NOT_ALLOWED_HERE):
        deliver(Message(to="ada@customer.test", subject="Receipt 1003", text="Thank you."))
    assert deliver(Message(to="bob@example.com", subject="Receipt 1004", text="Thank you.")).status is Status.SENT
    get_runtime().engine.run(Lane("mailglass", "default", "transactional"))
    capsys.readouterr()
    assert command(["deliveries", "list", "--reason", NOT_ALLOWED_HERE, "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed["deliveries"]) == 3
    assert {row["status"] for row in listed["deliveries"]} == {"failed"}


def test_preflight_tells_whom_mail_goes_to_and_warns_of_a_guard_in_production() -> None:
    def told(environment: str | None, recipients: RecipientPolicy | None) -> tuple[FindingStatus, str]:
        settings = Settings(environment=environment, recipients=recipients)
        (finding,) = recipients_are_told(Surroundings(settings))
        return finding.status, finding.observed

    assert told("staging", REDIRECTS) == (
        FindingStatus.PASS,
        "staging: mail goes only to *@example.com, and all other goes to dev@redirect.example",
    )
    assert told(None, None) == (FindingStatus.PASS, "no environment is named: mail goes to everybody")
    assert told("production", REFUSES)[0] is FindingStatus.WARN


def test_config_check_shows_whom_mail_goes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAILGLASS_ENVIRONMENT", "staging")
    monkeypatch.setenv("MAILGLASS_DATABASE_URL", "postgresql://db/x")
    text = '[accounts.a]\nprovider = "null"\n[environments.staging]\nallow = ["*@example.com"]\n'
    (tmp_path / "mailglass.toml").write_text(text, encoding="utf-8")
    assert command(["config", "check"]) == 0
    assert "staging: mail goes only to *@example.com, and all other is refused" in capsys.readouterr().out
    assert command(["config", "check", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["environment"] == "staging"
    assert data["recipients"] == {
        "allow": ["*@example.com"],
        "redirect_to": None,
        "subject_mark": "",
        "show_recipient": "header",
    }


def test_a_worker_of_staging_sends_what_production_recorded_to_nobody_else(
    cluster: Cluster, outside: Outside, wait_for: Callable[..., None]
) -> None:
    for to in ("ada@customer.test", "bob@example.com"):
        deliver_later.delay(Message(to=to, subject="Receipt 1001", text="Thank you.", bcc="eve@customer.test"))
    cluster.environment["MAILGLASS_ALLOW"] = "*@example.com"
    cluster.worker("-P", "threads", "-c", "2")
    wait_for(lambda: deliveries.counts(cluster.runtime.database) == {"default": {"sent": 1, "failed": 1}})
    assert [mail.recipient for mail in outside.mails] == ["bob@example.com"]
