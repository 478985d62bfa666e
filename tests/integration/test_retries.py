"""Mail is tried again like a mail server does, and the word of one mailbox or receiver is no verdict on an account."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID

import pytest
import sqlalchemy

from mailglass.engine import Engine
from mailglass.ids import uuid7
from mailglass.ledger import deliveries
from mailglass.ledger.breakers import breakers
from mailglass.ledger.database import Database
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.suppressions import suppressions_of
from mailglass.mail.addresses import Address
from mailglass.providers.smtp import SMTPOptions, SMTPProvider
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, Route, Settings
from mailglass.testing.provider import FixedAccounts
from tests.smtp_policy import Policy, policy_server

LANE = Lane("mailglass", "acme", "transactional")
SENDER = Address("shop@example.org")
ACCOUNTS = ("first", "second")


class Desk:
    """An engine with two SMTP accounts, and a clock that is moved on for ledger and servers alike."""

    def __init__(self, ledger: Database, stack: ExitStack, accounts: tuple[str, ...] = ACCOUNTS) -> None:
        self.ledger = ledger
        self.now = 0.0
        self.servers = {name: Policy() for name in accounts}
        settings = Settings(
            accounts={name: AccountSettings(name, "smtp", SENDER) for name in accounts}, routes=(Route(accounts),)
        )
        opened = {name: self._open(name, stack.enter_context(policy_server(self.servers[name]))) for name in accounts}
        for provider in opened.values():
            stack.callback(provider.close)
        self.engine = Engine(settings, ledger, FixedAccounts(settings, opened))

    def _open(self, name: str, port: int) -> SMTPProvider:
        return SMTPProvider(name, SMTPOptions(host="127.0.0.1", port=port, security="none", timeout=10.0))

    def queue(self, *recipients: str, lifetime: float | None = None, **content: object) -> list[UUID]:
        body = json.dumps({"v": 1, "subject": "s", "text": "t", **content})
        items = [
            Item(id=uuid7(), lane=LANE, message_id=uuid7(), content=body, recipient=Address(recipient))
            for recipient in recipients
        ]
        ids = [recorded.id for recorded in submit(self.ledger.run, items)]
        if lifetime is not None:
            self.execute("UPDATE mailglass.deliveries SET expires_at = now() + make_interval(secs => :s)", s=lifetime)
        return ids

    def execute(self, sql: str, **params: object) -> None:
        self.ledger.query(sqlalchemy.text(sql).bindparams(**params))

    def drain(self) -> None:
        """Work on what is due."""
        while self.engine.run(LANE).claimed:
            pass

    def move_on(self, seconds: float) -> None:
        """Let time pass, for the ledger and for the servers."""
        self.now += seconds
        columns = ("due_at", "scheduled_at", "created_at", "expires_at")
        moved = ", ".join(f"{name} = {name} - make_interval(secs => :s)" for name in columns)
        self.execute(f"UPDATE mailglass.deliveries SET {moved}", s=seconds)
        self.execute("UPDATE mailglass.breakers SET open_until = open_until - make_interval(secs => :s)", s=seconds)

    def wait(self) -> bool:
        """Move on to the next moment at which something is due; whether there was one."""
        (row,) = self.ledger.query(
            sqlalchemy.text("SELECT date_part('epoch', min(due_at) - now()) AS wait FROM mailglass.deliveries")
        )
        if row.wait is None:
            return False
        self.move_on(max(row.wait, 0.0) + 0.01)
        return True

    def finish(self) -> None:
        """Work until nothing waits any more."""
        self.drain()
        while self.wait():
            self.drain()

    def attempts(self, delivery: UUID) -> list[str | None]:
        """Return the accounts that attempted a delivery, in order."""
        return [event.account for event in deliveries.timeline(self.ledger, delivery) if event.kind == "attempted"]


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    with ExitStack() as stack:
        yield Desk(Database(database_url), stack)


def greylists(desk: Desk, name: str, seconds: float) -> None:
    """Have a server take a recipient only so long after it was first named."""
    first: dict[str, float] = {}

    def answer(recipient: str) -> str | None:
        since = first.setdefault(recipient, desk.now)
        return None if desk.now - since >= seconds else "450 4.2.0 Recipient address rejected: Greylisted"

    desk.servers[name].rcpt = answer


@pytest.mark.parametrize("minutes", [5, 10, 30, 240])
def test_greylisted_mail_is_sent_by_the_account_that_was_greylisted(desk: Desk, minutes: int) -> None:
    for name in ACCOUNTS:
        greylists(desk, name, minutes * 60)
    ids = desk.queue(*(f"u{number}@example.com" for number in range(12)))
    desk.finish()
    for delivery in ids:
        assert deliveries.get(desk.ledger, delivery).status is Status.SENT
        assert len(set(desk.attempts(delivery))) == 1
    # it is sent soon after it may be
    assert desk.now < minutes * 60 * 2 + 3700


def test_code_mail_that_is_greylisted_beyond_its_end_fails_in_time(desk: Desk) -> None:
    for name in ACCOUNTS:
        greylists(desk, name, 4 * 3600)
    (delivery,) = desk.queue("ada@example.com", lifetime=600)
    desk.finish()
    found = deliveries.get(desk.ledger, delivery)
    assert (found.status, found.last_error) == (Status.FAILED, "expired")
    assert desk.now < 660


def test_mailbox_that_stays_full_is_tried_until_the_mail_is_too_old(desk: Desk) -> None:
    for policy in desk.servers.values():
        policy.rcpt = lambda recipient: "452 4.2.2 mailbox full"
    (delivery,) = desk.queue("ada@example.com")
    desk.finish()
    found = deliveries.get(desk.ledger, delivery)
    assert (found.status, found.last_error) == (Status.FAILED, "too_old:smtp_452")
    assert 22 * 3600 < desk.now < 25 * 3600
    assert suppressions_of(desk.ledger, "acme", Address("ada@example.com")) == []


def test_mail_outlives_hours_in_which_no_server_answers(desk: Desk) -> None:
    for policy in desk.servers.values():
        policy.greets = False
    (delivery,) = desk.queue("ada@example.com")
    desk.drain()
    while desk.now < 6 * 3600:
        assert desk.wait()
        desk.drain()
    found = deliveries.get(desk.ledger, delivery)
    assert (found.status, found.attempts) == (Status.QUEUED, 0)
    for policy in desk.servers.values():
        policy.greets = True
    desk.finish()
    assert deliveries.get(desk.ledger, delivery).status is Status.SENT


def test_mail_that_no_server_ever_answers_is_tried_until_it_is_too_old(desk: Desk) -> None:
    for policy in desk.servers.values():
        policy.greets = False
    (delivery,) = desk.queue("ada@example.com")
    desk.finish()
    assert 22 * 3600 < desk.now < 25 * 3600
    found = deliveries.get(desk.ledger, delivery)
    # nothing was said about the mail: it fails as too old, or waits for its accounts
    assert found.status in (Status.FAILED, Status.HELD)
    assert (found.last_error or "").startswith(("too_old", "account_unavailable"))


def test_senders_domain_that_cannot_be_looked_up_stops_no_account(desk: Desk) -> None:
    for policy in desk.servers.values():
        policy.mail = lambda sender: "451 4.1.8 Domain of sender does not resolve" if "bad" in sender else None
    desk.queue(*(f"u{number}@domain{number}.example" for number in range(5)), **{"from": ["", "shop@bad.example"]})
    desk.drain()
    assert breakers(desk.ledger, list(ACCOUNTS)) == {}
    (fine,) = desk.queue("ada@example.com")
    desk.drain()
    assert deliveries.get(desk.ledger, fine).status is Status.SENT


WAYS = [
    ("rcpt", "554 5.7.1 <ada@example.com>: Relay access denied"),
    ("rcpt", "553 5.7.1 <shop@example.org>: Sender address rejected: not owned by user relay"),
    ("rcpt", "504 5.5.2 <relay>: Helo command rejected: need fully-qualified hostname"),
    ("rcpt", "550 5.7.25 no PTR record"),
    ("rcpt", "550 5.1.90 daily recipient limit reached"),
    ("mail", "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
    ("data", "554 5.7.1 Sending paused for this account"),
    ("dot", "554 5.2.252 SendAsDenied; shop not allowed to send as news"),
    ("dot", "554 Message rejected: Email address is not verified. The following identities failed the check"),
    ("dot", "550 5.7.26 This mail has been blocked because the sender is unauthenticated"),
    ("dot", "550 5.7.27 SPF did not pass"),
    ("dot", "550 5.7.509 Access denied, sending domain does not pass DMARC verification"),
    ("dot", "550 5.7.515 Access denied, sending domain doesn't meet the required authentication level"),
    ("dot", "550 5.4.5 Daily user sending limit exceeded"),
    ("dot", "554 5.2.0 STOREDRV submission quota exceeded"),
]


@pytest.mark.parametrize(("stage", "reply"), WAYS)
def test_second_account_sends_what_the_first_may_not(desk: Desk, stage: str, reply: str) -> None:
    ids = desk.queue("ada@example.com", "bob@example.net")
    setattr(desk.servers["first"], stage, lambda argument: reply)
    desk.drain()
    assert [deliveries.get(desk.ledger, delivery).status for delivery in ids] == [Status.SENT] * 2
    assert sorted(desk.servers["second"].taken) == ["ada@example.com", "bob@example.net"]
    assert suppressions_of(desk.ledger, "acme", Address("ada@example.com")) == []


def test_mail_that_no_account_may_send_waits_and_is_held_at_last(desk: Desk) -> None:
    for policy in desk.servers.values():
        policy.rcpt = lambda recipient: "554 5.7.1 Relay access denied"
    (delivery,) = desk.queue("ada@example.com")
    desk.drain()
    assert deliveries.get(desk.ledger, delivery).status is Status.QUEUED
    assert desk.attempts(delivery) == ["first", "second"]
    desk.finish()
    assert deliveries.get(desk.ledger, delivery).status is Status.HELD


def test_receiver_of_one_mail_never_stops_the_account(database_url: str) -> None:
    with ExitStack() as stack:
        desk = Desk(Database(database_url), stack, ("first",))
        refused = {"bad@example.net"}
        desk.servers["first"].rcpt = lambda who: "550 5.7.1 blocked using zen.spamhaus.org" if who in refused else None
        desk.queue(*["bad@example.net"] * 5, *(f"u{number}@example.com" for number in range(20)))
        desk.drain()
        assert breakers(desk.ledger, ["first"]) == {}
        assert len(desk.servers["first"].taken) == 20


@pytest.mark.parametrize(
    "reply", ["450 4.2.0 Greylisted", "450 4.2.1 The user is receiving mail too quickly", "452 4.2.2 full"]
)
def test_good_mail_beside_a_bad_mailbox_is_sent_as_without_it(database_url: str, reply: str) -> None:
    good = [f"u{number}@example.com" for number in range(100)]

    def facts(bad: tuple[str, ...]) -> tuple[Counter[int], int]:
        with ExitStack() as stack:
            desk = Desk(Database(database_url), stack, ("first",))
            desk.servers["first"].rcpt = lambda who: reply if who == "bad@example.net" else None
            ids = desk.queue(*bad, *good)
            runs = 0
            while desk.engine.run(LANE).claimed:
                runs += 1
            assert breakers(desk.ledger, ["first"]) == {}
            rest = ids[len(bad) :]
            assert all(deliveries.get(desk.ledger, delivery).status is Status.SENT for delivery in rest)
            return Counter(len(desk.attempts(delivery)) for delivery in rest), runs

    with_it, runs = facts(("bad@example.net",) * 5)
    without, least = facts(())
    assert with_it == without == Counter({1: 100})
    assert runs <= least + 1


def test_refused_copy_is_an_event_with_its_class_and_suppresses_where_it_says_so(desk: Desk) -> None:
    replies = {"gone@example.net": "550 5.1.1 User unknown", "full@example.net": "552 5.2.2 mailbox full"}
    for policy in desk.servers.values():
        policy.rcpt = replies.get
    (delivery,) = desk.queue("ada@example.com", cc=[["", "gone@example.net"]], bcc=[["", "full@example.net"]])
    desk.drain()
    assert deliveries.get(desk.ledger, delivery).status is Status.SENT
    told = [event for event in deliveries.timeline(desk.ledger, delivery) if event.kind == "copy_refused"]
    assert [(event.status_code, event.bounce_class, event.refusal) for event in told] == [
        (550, "hard", "recipient_unknown/permanent"),
        (552, "soft", "mailbox_full/temporary"),
    ]
    (entry,) = suppressions_of(desk.ledger, "acme", Address("gone@example.net"))
    assert (entry.reason, entry.source, entry.expires_at) == ("hard_bounce", "attempt", None)
    for well in ("full@example.net", "ada@example.com"):
        assert suppressions_of(desk.ledger, "acme", Address(well)) == []


def test_refusal_that_may_pass_suppresses_for_thirty_days_at_the_second_time_a_day_later(desk: Desk) -> None:
    reply = "550 5.4.1 Recipient address rejected: Access denied. [x.eop.protection.outlook.com]"
    for policy in desk.servers.values():
        policy.rcpt = lambda recipient: reply
    who = Address("ada@example.com")
    for age in ("0 hours", "23 hours"):
        desk.execute(f"UPDATE mailglass.address_doubts SET since = since - interval '{age}'")
        desk.queue(who.email)
        desk.drain()
        assert suppressions_of(desk.ledger, "acme", who) == []
    desk.execute("UPDATE mailglass.address_doubts SET since = since - interval '1 hour'")
    desk.queue(who.email)
    desk.drain()
    (entry,) = suppressions_of(desk.ledger, "acme", who)
    assert entry.expires_at is not None and entry.created_at is not None
    assert 29 <= (entry.expires_at - entry.created_at).days <= 30
