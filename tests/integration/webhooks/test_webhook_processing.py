"""Stored webhooks against a real ledger: what they change, whatever is in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from mailglass.errors import ConfigError, LedgerError
from mailglass.ledger import deliveries, webhooks
from mailglass.ledger.events import project
from mailglass.ledger.suppressions import Suppression, suppress
from mailglass.mail.events import EventKind, ProviderEvent
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts
from mailglass.settings import AccountSettings, Settings, WebhookSettings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider
from mailglass.webhooks import process


def test_an_event_is_appended_and_projected(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    report = desk.tell(desk.event("delivered", delivery_id))
    facts = desk.delivery(delivery_id).facts
    assert (facts.outcome, facts.delivered_at, facts.last_event) == ("delivered", desk.NOON, "delivered")
    assert desk.kinds(delivery_id) == ["queued", "attempted", "delivered"]
    assert (report.claimed, report.events, report.matched, report.dead) == (1, 1, 1, 0)
    assert desk.rows("SELECT status, reason, processed_at IS NOT NULL AS done FROM mailglass.webhook_events") == [
        ("processed", None, True)
    ]


def test_the_same_event_a_second_time_changes_nothing(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    desk.tell(desk.event("delivered", delivery_id), desk.event("delivered", delivery_id))
    before = desk.delivery(delivery_id)
    report = desk.tell(desk.event("delivered", delivery_id))
    assert desk.delivery(delivery_id) == before
    assert desk.kinds(delivery_id) == ["queued", "attempted", "delivered"]
    assert (report.matched, report.duplicates) == (0, 1)


def test_event_of_a_copy_is_kept_and_is_not_the_deliverys_fate(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    desk.tell(desk.event("delivered", delivery_id, recipient="U0@EXAMPLE.com"))
    before = desk.delivery(delivery_id)
    bounce = desk.event("bounced", delivery_id, bounce_class="hard", recipient="Copy <copy@example.com>")
    for _ in range(2):
        desk.tell(bounce)
    assert desk.delivery(delivery_id) == before
    *_, own, copies = deliveries.timeline(desk.ledger, delivery_id)
    assert (own.kind, own.reason) == ("delivered", None)
    assert (copies.kind, copies.reason, copies.bounce_class) == ("bounced", "copy", "hard")


def test_another_way_to_write_the_recipient_is_no_copy(desk: Any) -> None:
    (delivery_id,) = desk.sent(recipient="u{}@bücher.example")
    desk.tell(desk.event("bounced", delivery_id, bounce_class="hard", recipient="U0@xn--bcher-kva.EXAMPLE"))
    assert desk.delivery(delivery_id).outcome == "bounced"


def test_event_of_a_copy_proves_that_the_mail_was_taken(desk: Any) -> None:
    delivery_id = desk.uncertain()
    report = desk.tell(
        desk.event("delivered", delivery_id, recipient="copy@example.com", provider_message_id="of-the-copy")
    )
    delivery = desk.delivery(delivery_id)
    assert (report.settled, delivery.status.value, delivery.outcome) == (1, "sent", None)
    assert delivery.provider_message_id is None


def test_of_two_events_with_one_identity_the_first_counts(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    desk.tell(desk.event("delivered", delivery_id) | {"provider_event_id": "one"})
    desk.tell(desk.event("bounced", delivery_id, bounce_class="hard") | {"provider_event_id": "one"})
    delivery = desk.delivery(delivery_id)
    assert (delivery.outcome, delivery.facts.bounce_class) == ("delivered", None)
    assert desk.reasons() == []
    assert replace(project(deliveries.timeline(desk.ledger, delivery_id)), status_id=None) == delivery.facts


def test_an_event_without_a_time_gets_the_moment_of_its_first_arrival(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    for _ in range(2):
        desk.tell(desk.event("delivered", delivery_id, at=None))
    (first, _) = desk.rows("SELECT received_at FROM mailglass.webhook_events ORDER BY id")
    facts = desk.delivery(delivery_id).facts
    assert (facts.delivered_at, facts.last_event_at) == (first.received_at, first.received_at)


@pytest.mark.parametrize(
    "absurd",
    [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)],
    ids=["year 9999", "year 1", "epoch"],
)
def test_an_absurd_time_is_replaced_by_ours(desk: Any, absurd: datetime) -> None:
    (delivery_id,) = desk.sent()
    desk.tell(desk.event("delivered", delivery_id, at=absurd))
    ((received_at,),) = desk.rows("SELECT received_at FROM mailglass.webhook_events")
    assert desk.delivery(delivery_id).facts.delivered_at == received_at


def test_a_time_without_a_zone_is_read_as_utc(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    desk.tell(desk.event("delivered", delivery_id, at=desk.NOON.replace(tzinfo=None)))
    assert desk.delivery(delivery_id).facts.delivered_at == desk.NOON


def test_a_machines_open_is_kept_and_says_nothing_of_the_person(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    desk.tell(desk.event("opened", delivery_id, machine=True))
    assert desk.kinds(delivery_id)[-1] == "opened"
    assert desk.delivery(delivery_id).facts.opened_at is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff\xfe no json", "body_not_understood"),
        (b'{"not": "a list of events"}', "normaliser_failed:ValueError"),
        (b"[17]", "normaliser_failed:TypeError"),
        (b'[{"explode": true}]', "normaliser_failed:RuntimeError"),
    ],
)
def test_a_body_that_is_not_understood_is_dead_with_its_reason_and_the_others_go_on(
    desk: Any, body: bytes, reason: str
) -> None:
    before, after = desk.sent(2)
    good = desk.post(desk.event("delivered", before))
    bad = desk.post(body=body)
    also_good = desk.post(desk.event("delivered", after))
    report = desk.work()
    assert (report.claimed, report.matched, report.dead) == (3, 2, 1)
    assert [desk.stands(key) for key in (good, bad, also_good)] == [
        ("processed", None),
        ("dead", reason),
        ("processed", None),
    ]
    assert not process.waiting(desk.ledger)


REAL = Settings(
    accounts={
        "mark": AccountSettings("mark", "postmark", options={"server_token": "env:TOKEN"}),
        "grid": AccountSettings("grid", "sendgrid", options={"api_key": "env:TOKEN"}),
    }
)
HOSTILE: list[Any] = [
    None,
    17,
    "Bounce",
    [],
    {},
    [None, 17, "x", [], {}, True],
    {"RecordType": ["Bounce"], "ID": {"a": 1}, "Metadata": "x", "BouncedAt": 10**30, "Email": 17},
    {"RecordType": "Bounce", "Type": {}, "ID": 10**30, "Metadata": {"mailglass_id": ["x"]}, "MessageID": "\x00\ud800"},
    {"RecordType": "Delivery", "DeliveredAt": "0001-01-01T00:00:00+23:59", "Recipient": "a\x00@b", "Tag": [[[[]]]]},
    {"RecordType": "Delivery", "DeliveredAt": "9999-12-31T23:59:59.9999999-23:59", "MessageID": "x" * 100_000},
    [{"event": {}, "timestamp": 1e308, "sg_event_id": [], "email": {}, "mailglass_id": 17, "url": ["x"]}],
    [{"event": "bounce", "type": 17, "timestamp": "9" * 400, "sg_event_id": "\x00", "status": "\ud800"}],
    [{"event": "delivered", "timestamp": -(10**18), "sg_message_id": "\x00.", "category": [None] * 1000}],
]


@pytest.mark.parametrize("account", ["mark", "grid"])
def test_hostile_bodies_harm_nothing_in_the_rooms_of_real_providers(desk: Any, account: str) -> None:
    bodies = [json.dumps(item).encode() for item in HOSTILE]
    bodies += [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"RecordType": NaN}',
        b"1" * 5000,
        json.dumps("x" * 100).encode("utf-16"),
    ]
    (delivery_id,) = desk.sent(account=account)
    for number, body in enumerate(bodies):
        assert webhooks.store(desk.ledger, account, REAL.accounts[account].provider, str(number), body, {})
    good = {
        "mark": {"RecordType": "Delivery", "MessageID": "p-0", "DeliveredAt": desk.NOON.isoformat()},
        "grid": [{"event": "delivered", "sg_message_id": "p-0.filter", "timestamp": desk.NOON.timestamp()}],
    }
    provider = REAL.accounts[account].provider
    assert webhooks.store(desk.ledger, account, provider, "good", json.dumps(good[account]).encode(), {})
    process.run(REAL, desk.ledger, Accounts(REAL, {"TOKEN": "t"}), after_claim=lambda more: None)
    assert not process.waiting(desk.ledger)
    ends = {row.reason for row in desk.rows("SELECT reason FROM mailglass.webhook_events WHERE status = 'dead'")}
    assert ends == {"body_not_understood"}
    assert desk.kinds(delivery_id) == ["queued", "attempted", "delivered"]
    assert desk.delivery(delivery_id).facts.delivered_at == desk.NOON


@pytest.mark.parametrize(
    "poison",
    [
        {"kind": "exploded"},
        {"kind": None},
        {"occurred_at": 17},
        {"delivery_id": 17},
        {"provider_event_id": ""},
        {"provider_event_id": "\ud800"},
        {"status": "5.1.1\x00"},
        {"status": "\ud800"},
        {"status": ["5.1.1"]},
        {"provider_message_id": "x" * 5000},
        {"recipient": "u\x00@example.com"},
        {"click_hash": 17},
        {"bounce_class": "granite"},
        {"reject_reason": 17},
    ],
    ids=lambda poison: ", ".join(poison),
)
def test_an_event_that_cannot_be_kept_kills_its_webhook_and_no_other_event_of_it(
    desk: Any, poison: dict[str, Any]
) -> None:
    first, second = desk.sent(2)
    bad = desk.post(
        desk.event("delivered", first), desk.event("opened", first) | poison, desk.event("delivered", second)
    )
    good = desk.post(desk.event("clicked", first))
    desk.work()
    assert desk.stands(bad)[0] == "dead"
    assert str(desk.stands(bad)[1]).startswith("event_refused:")
    assert desk.stands(good) == ("processed", None)
    assert [desk.delivery(key).outcome for key in (first, second)] == ["delivered", "delivered"]
    assert sorted(desk.kinds(first)[2:]) == ["clicked", "delivered"]


def test_event_that_the_database_refuses_is_found_by_halving_and_sinks_no_other(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = desk.sent(9)
    make = process.incoming_event

    def unchecked(item: ProviderEvent, *arguments: Any) -> Any:
        fact = make(item, *arguments)
        return replace(fact, enhanced_status="5.1.1\x00") if item.delivery_id == ids[4] else fact

    monkeypatch.setattr(process, "incoming_event", unchecked)
    stored = [desk.post(desk.event("delivered", key)) for key in ids]
    report = desk.work()
    assert (report.matched, report.dead) == (8, 1)
    assert desk.stands(stored[4]) == ("dead", "event_refused:DataError")
    assert [desk.delivery(key).outcome for key in ids] == [*["delivered"] * 4, None, *["delivered"] * 4]


def test_a_dead_webhook_can_be_replayed(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    bad = desk.post(body=b"[17]")
    desk.work()

    class Mended(desk.NotesProvider):
        def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
            return [ProviderEvent(EventKind.DELIVERED, "seventeen", desk.NOON, delivery_id)]

    assert webhooks.replay(desk.ledger, [bad, uuid4()]) == {bad}
    desk.work(main=Mended())
    assert desk.stands(bad) == ("processed", None)
    assert desk.delivery(delivery_id).outcome == "delivered"


def test_a_webhook_of_an_account_that_only_other_workers_know_waits_for_them_and_not_for_ever(desk: Any) -> None:
    settings = replace(desk.SETTINGS, webhooks=WebhookSettings(max_attempts=2))
    (delivery_id,) = desk.sent()
    key, other = desk.post(account="retired"), desk.post(desk.event("delivered", delivery_id), account="other")
    older = replace(settings, accounts={"main": settings.accounts["main"]})
    for _ in range(2):
        process.run(older, desk.ledger, Accounts(older), after_claim=lambda more: None)
    assert desk.stands(key) == desk.stands(other) == ("received", "unknown_account")
    desk.end_leases()
    for _ in range(2):
        desk.work(settings)
    assert desk.stands(other)[0] == "processed"
    assert desk.stands(key)[0] == "dead"


def test_a_webhook_of_an_account_that_has_another_provider_here_waits_and_not_for_ever(desk: Any) -> None:
    settings = replace(desk.SETTINGS, webhooks=WebhookSettings(max_attempts=2))
    key = desk.post()
    desk.work(settings, main=ScriptedProvider(account="main"))
    assert desk.stands(key) == ("received", "account_changed_provider")
    desk.end_leases()
    desk.work(settings, main=ScriptedProvider(account="main"))
    assert desk.stands(key) == ("dead", "account_changed_provider")


def test_a_webhook_whose_account_cannot_be_opened_here_is_tried_again_later_and_not_for_ever(desk: Any) -> None:
    settings = replace(desk.SETTINGS, webhooks=WebhookSettings(max_attempts=2))

    class Closed(FixedAccounts):
        def open(self, name: str) -> Provider:
            raise ConfigError("accounts.main.secret", "not set", "Set it")

    key = desk.post()
    process.run(settings, desk.ledger, Closed(settings, {}), after_claim=lambda more: None)
    assert desk.stands(key) == ("received", "account_misconfigured")
    assert not process.waiting(desk.ledger)
    desk.end_leases()
    process.run(settings, desk.ledger, Closed(settings, {}), after_claim=lambda more: None)
    assert desk.stands(key) == ("dead", "account_misconfigured")


def test_a_claim_takes_no_more_than_its_number_and_size_and_says_whether_more_are_waiting(desk: Any) -> None:
    for _ in range(3):
        desk.post(body=b"[]" + b" " * 98)
    first, second = webhooks.claim(desk.ledger, 2, 1000, 60), webhooks.claim(desk.ledger, 2, 1000, 60)
    assert [(len(claim.webhooks), claim.more) for claim in (first, second)] == [(2, True), (1, False)]
    for _ in range(3):
        desk.post(body=b"[]" + b" " * 98)
    by_size = webhooks.claim(desk.ledger, 10, 200, 60)
    assert (len(by_size.webhooks), by_size.more) == (2, True)
    too_big = webhooks.claim(desk.ledger, 10, 1, 60)
    assert (len(too_big.webhooks), too_big.more) == (1, False)
    assert webhooks.claim(desk.ledger, 10, 1, 60) == webhooks.WebhookClaim((), False)


def test_that_more_are_waiting_is_told_before_anything_is_read(desk: Any) -> None:
    settings = replace(desk.SETTINGS, webhooks=WebhookSettings(batch_size=2))
    for _ in range(3):
        desk.post(desk.event("unknown"))
    told: list[tuple[bool, int]] = []

    def note(more: bool) -> None:
        told.append((more, len(desk.rows("SELECT id FROM mailglass.webhook_events WHERE status = 'processed'"))))

    for _ in range(2):
        process.run(settings, desk.ledger, desk.accounts(settings), after_claim=note)
    assert told == [(True, 0), (False, 2)]


def test_an_error_of_the_ledger_shows_no_parameters(desk: Any) -> None:
    with pytest.raises(LedgerError, match="23514") as caught:
        suppress(desk.ledger, [Suppression("acme", "ada@example.com", "manual", "manual", stream="x")])
    assert "ada@example.com" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_nothing_of_a_body_reaches_telemetry(desk: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (delivery_id,) = desk.sent(recipient="ada.lovelace@example.com")
    desk.tell(desk.event("bounced", delivery_id, bounce_class="hard", recipient="ada.lovelace@example.com"))
    desk.post(body=b"charles.babbage@example.com")
    desk.work()
    assert "lovelace" not in caplog.text
    assert "babbage" not in caplog.text
    assert "mailglass.webhook.dead" in caplog.text
