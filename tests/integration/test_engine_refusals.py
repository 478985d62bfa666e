"""Refusals and accounts: one mailbox is a mailbox, one domain is a domain, and only an account is an account."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
import sqlalchemy

from mailglass.engine import Engine
from mailglass.ids import uuid7
from mailglass.ledger import deliveries
from mailglass.ledger.breakers import breakers, trip
from mailglass.ledger.database import Database
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.limits import Limiter
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.refusal import Stage
from mailglass.providers.http import HTTPAnswer, refusal
from mailglass.refusals.consequences import outcome_class
from mailglass.refusals.understand import understand
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, Route, Settings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider, accepted

LANE = Lane("mailglass", "acme", "transactional")
BUSY = "4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages"
GREYLISTED = "4.2.0 Greylisted, try again later"
RELAY = "5.7.1 Relay access denied"
UNUSUAL = "4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address."
DEFERRED = "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints"
CONNECTIONS = "4.3.2 Concurrent connections limit exceeded"


def refused(stage: Stage, code: int, text: str) -> Outcome:
    meaning = understand(stage, code, None, f"{code} {text}")
    return Outcome(outcome_class(meaning), reason=f"smtp_{code}", status=code, refusal=meaning)


UNVERIFIED = refusal(HTTPAnswer(422, {}, b""), "postmark", "400")


class Connected(ScriptedProvider):
    held_back = 0

    def hold_back(self) -> None:
        self.held_back += 1


class Setup:
    """An engine whose route has one account, beside a second account for another tenant."""

    def __init__(self, ledger: Database) -> None:
        sender = Address("shop@example.com")
        accounts = {name: AccountSettings(name, "scripted", sender) for name in ("first", "second")}
        settings = Settings(accounts=accounts, routes=(Route(("second",), tenant="other"), Route(("first",))))
        self.ledger = ledger
        self.first, self.second = Connected(account="first"), Connected(account="second")
        fixed = FixedAccounts(settings, {"first": self.first, "second": self.second})
        self.engine = Engine(settings, ledger, fixed, Limiter(ledger))

    def queue(self, *addresses: str, tenant: str = "acme", sender: str | None = None) -> list[UUID]:
        lane = replace(LANE, tenant=tenant)
        named = {} if sender is None else {"from": ["", sender]}
        body = json.dumps({"v": 1, "subject": "s", "text": "t", **named})
        items = [
            Item(id=uuid7(), lane=lane, message_id=uuid7(), content=body, recipient=Address(address))
            for address in addresses
        ]
        return [recorded.id for recorded in submit(self.ledger.run, items)]

    def run(self, tenant: str = "acme") -> int:
        return self.engine.run(replace(LANE, tenant=tenant)).claimed

    def statuses(self, ids: list[UUID]) -> list[str]:
        return [deliveries.get(self.ledger, key).status.value for key in ids]


@pytest.fixture
def setup(database_url: str) -> Setup:
    return Setup(Database(database_url))


def everything_due(setup: Setup) -> None:
    setup.ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL"))


def to(domain: str, outcome: Outcome) -> Callable[[Outgoing], Outcome]:
    """Refuses mail to one domain and takes the rest."""
    return lambda mail: outcome if mail.recipient.domain == domain else accepted(mail)


@pytest.mark.parametrize("text", [BUSY, GREYLISTED])
def test_mailbox_refusal_neither_opens_the_breaker_nor_slows_account_or_domain(setup: Setup, text: str) -> None:
    setup.first.script = lambda mail: refused(Stage.RCPT, 450, text)
    setup.first.batch_size = 1  # type: ignore[misc]
    for _ in range(5):
        setup.queue("busy@gmail.com")
        setup.run()
    assert len(setup.first.sent) == 5
    assert breakers(setup.ledger, ["first"]) == {}
    setup.first.script = accepted
    setup.first.batch_size = 50  # type: ignore[misc]
    others = setup.queue(*(f"u{number}@gmail.com" for number in range(20)))
    while setup.run():
        pass
    assert setup.statuses(others) == ["sent"] * 20


def test_single_recipients_server_can_never_stop_an_account(setup: Setup) -> None:
    setup.first.script = lambda mail: refused(Stage.RCPT, 550, RELAY)
    setup.first.batch_size = 1  # type: ignore[misc]
    for number in range(10):
        setup.queue(f"u{number}@odd.example", f"u{number}@other.example")
        setup.run()
    assert breakers(setup.ledger, ["first"]) == {}


@pytest.mark.parametrize("stage", [Stage.RCPT, Stage.DATA, Stage.DOT])
def test_three_mails_to_three_domains_that_refuse_the_account_open_its_breaker(setup: Setup, stage: Stage) -> None:
    setup.first.script = lambda mail: refused(stage, 550, RELAY)
    setup.queue("u@one.example", "u@two.example")
    setup.run()
    assert breakers(setup.ledger, ["first"]) == {}
    setup.queue("u@three.example")
    setup.run()
    assert breakers(setup.ledger, ["first"])["first"].reason == "misconfigured"


def test_a_mail_that_is_accepted_in_between_clears_the_account(setup: Setup) -> None:
    setup.first.batch_size = 1  # type: ignore[misc]
    for number in range(8):
        setup.first.script = (lambda mail: refused(Stage.RCPT, 550, RELAY)) if number % 3 else accepted
        setup.queue(f"u@domain{number}.example")
        setup.run()
    assert breakers(setup.ledger, ["first"]) == {}


@pytest.mark.parametrize("refusal", [UNVERIFIED, refused(Stage.DOT, 550, "5.7.26 DMARC: unauthenticated email")])
def test_refused_senders_domain_never_stops_its_account(setup: Setup, refusal: Outcome) -> None:
    setup.first.batch_size = 1  # type: ignore[misc]
    setup.first.script = lambda mail: refusal if mail.sender.domain == "bad.example" else accepted(mail)
    for number in range(5):
        setup.queue(f"u{number}@domain{number}.example", sender=f"shop{number}@bad.example")
        setup.run()
    assert breakers(setup.ledger, ["first"]) == {}
    fine = setup.queue("u@one.example", sender="shop@good.example")
    setup.run()
    assert setup.statuses(fine) == ["sent"]


def test_three_senders_domains_that_are_refused_open_the_accounts_breaker(setup: Setup) -> None:
    setup.first.script = lambda mail: UNVERIFIED
    for number in range(3):
        assert breakers(setup.ledger, ["first"]) == {}
        setup.queue("u@one.example", sender=f"shop@sender{number}.example")
        setup.run()
    assert breakers(setup.ledger, ["first"])["first"].reason == "misconfigured"


def test_answer_of_a_providers_api_about_its_account_opens_the_breaker_at_once(setup: Setup) -> None:
    setup.first.script = lambda mail: refusal(HTTPAnswer(400, {}, b""), "ses", "AccountSuspendedException")
    setup.queue("u@one.example")
    setup.run()
    assert breakers(setup.ledger, ["first"])["first"].reason == "misconfigured"


def test_the_same_mail_again_is_one_mail(setup: Setup) -> None:
    setup.first.script = lambda mail: refused(Stage.RCPT, 550, RELAY)
    setup.queue("u@one.example")
    for _ in range(5):
        setup.run()
        everything_due(setup)
    assert breakers(setup.ledger, ["first"]) == {}


def test_a_probe_that_one_recipients_server_refuses_lets_another_mail_try(setup: Setup) -> None:
    trip(setup.ledger, "first", "misconfigured")
    setup.ledger.query(sqlalchemy.text("UPDATE mailglass.breakers SET open_until = now()"))
    setup.first.script = to("odd.example", refused(Stage.RCPT, 550, RELAY))
    setup.queue("u@odd.example")
    setup.run()
    assert "first" in breakers(setup.ledger, ["first"])
    (fine,) = setup.queue("u@fine.example")
    setup.run()
    assert breakers(setup.ledger, ["first"]) == {}
    assert setup.statuses([fine]) == ["sent"]


@pytest.mark.parametrize("text", [UNUSUAL, DEFERRED])
def test_domain_wide_refusal_is_learnt_for_that_domain_at_that_account(setup: Setup, text: str) -> None:
    outcome = refused(Stage.DOT, 421, text)
    setup.first.script = to("gmail.com", outcome)
    setup.queue("first@gmail.com")
    setup.run()
    waiting = setup.queue(*(f"u{number}@gmail.com" for number in range(5)))
    fine = setup.queue(*(f"u{number}@example.com" for number in range(5)))
    elsewhere = setup.queue("u@gmail.com", tenant="other")
    # another worker has learnt it too
    other = Setup(setup.ledger)
    other.run()
    other.run("other")
    assert other.statuses(fine) == ["sent"] * 5
    assert other.statuses(elsewhere) == ["sent"]
    for delivery in (deliveries.get(setup.ledger, key) for key in waiting):
        assert (delivery.status, delivery.attempts) == (Status.QUEUED, 0)
        assert delivery.last_error == "destination_deferred"
    assert breakers(setup.ledger, ["first"]) == {}


def test_after_its_wait_one_mail_tries_a_domain_and_frees_it_for_the_rest(setup: Setup) -> None:
    setup.first.script = to("gmail.com", refused(Stage.DOT, 421, UNUSUAL))
    setup.queue("first@gmail.com")
    setup.run()
    setup.ledger.query(sqlalchemy.text("UPDATE mailglass.destinations SET until = now()"))
    other = Setup(setup.ledger)
    waiting = other.queue(*(f"u{number}@gmail.com" for number in range(5)))
    other.run()
    assert len(other.first.sent) == 1
    everything_due(other)
    other.run()
    assert other.statuses(waiting) == ["sent"] * 5


def test_a_domain_that_refuses_again_waits_twice_as_long_and_refusals_within_a_wait_teach_nothing(
    setup: Setup,
) -> None:
    setup.first.script = lambda mail: refused(Stage.DOT, 421, UNUSUAL)
    waits = []
    for _ in range(3):
        setup.first.script = lambda mail: refused(Stage.DOT, 421, UNUSUAL)
        Setup.queue(setup, "u@gmail.com")
        fresh = Setup(setup.ledger)
        fresh.first.script = setup.first.script
        fresh.run()
        (row,) = setup.ledger.query(
            sqlalchemy.text("SELECT failures, extract(epoch FROM until - now()) AS wait FROM mailglass.destinations")
        )
        waits.append(round(row.wait / 60))
        setup.ledger.query(sqlalchemy.text("UPDATE mailglass.destinations SET until = now()"))
    assert waits == [1, 2, 4]


def test_too_many_connections_lower_the_accounts_concurrency_and_count_against_no_mail(setup: Setup) -> None:
    setup.first.script = lambda mail: refused(Stage.MAIL, 432, CONNECTIONS)
    (delivery_id,) = setup.queue("u@outlook.com")
    setup.run()
    delivery = deliveries.get(setup.ledger, delivery_id)
    assert (delivery.status, delivery.attempts, setup.first.held_back) == (Status.QUEUED, 0, 1)
    setup.first.script = accepted
    others = setup.queue("other@outlook.com")
    setup.run()
    assert setup.statuses(others) == ["sent"]
    assert breakers(setup.ledger, ["first"]) == {}


def test_a_session_that_does_not_open_is_no_answer_of_any_domain(setup: Setup) -> None:
    setup.first.script = lambda mail: refused(Stage.GREETING, 421, "4.3.2 Service not available")
    for _ in range(3):
        setup.queue("u@example.com")
        setup.run()
    assert breakers(setup.ledger, ["first"])["first"].reason == "transient"
    assert setup.ledger.query(sqlalchemy.text("SELECT * FROM mailglass.destinations")) == []


def test_credentials_that_are_refused_open_the_breaker_at_once(setup: Setup) -> None:
    setup.first.script = lambda mail: refused(Stage.AUTH, 535, "5.7.8 bad credentials")
    setup.queue("u@example.com")
    setup.run()
    assert breakers(setup.ledger, ["first"])["first"].reason == "misconfigured"
