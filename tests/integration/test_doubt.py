"""What may have been sent stays in doubt until an answer ends that: it is never canceled, nor ended as never sent.

A state machine plays a delivery's life over three accounts, of which two take the same delivery twice as once, and
keeps beside it which attempts have lost their answer. The ledger must say the same after every step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mailglass.engine import Engine
from mailglass.engine.settler import Settler
from mailglass.ids import uuid7
from mailglass.ledger import deliveries, leases, schema, searches, webhooks
from mailglass.ledger.database import Database
from mailglass.ledger.deliveries import Delivery
from mailglass.ledger.lifecycle import FINAL, Status
from mailglass.ledger.searches import Search
from mailglass.ledger.settlement import Settlement, settle, unsettled
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.suppressions import Suppression, suppress
from mailglass.mail.addresses import Address
from mailglass.mail.events import EventKind, ProviderEvent
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.refusal import Stage
from mailglass.mail.streams import DEFAULT_POLICIES, Stream, StreamPolicy, UncertainPolicy
from mailglass.refusals.understand import understand
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, Route, Settings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider
from mailglass.webhooks import process

LANE = Lane("mailglass", "acme", "transactional")
REMEMBERING = ("first", "second")
NAMES = (*REMEMBERING, "third")
ROUTE = Route(NAMES, failover_after=1)
POLICY = StreamPolicy(backoff_base=0.001, backoff_max=0.002, max_attempts=4)
CONTENT = json.dumps({"v": 1, "subject": "Receipt", "text": "Thank you."})


class Died(SystemExit):
    """A worker's sudden end."""


class Posting(ScriptedProvider):
    """A provider whose webhooks are the ids of deliveries that it took."""

    def normalise(self, body: bytes, headers: object) -> list[ProviderEvent]:
        return [
            ProviderEvent(EventKind.DELIVERED, f"w-{name}", delivery_id=UUID(name), recipient="ada@example.com")
            for name in json.loads(body)
        ]


class Desk:
    """One delivery, three accounts, and what may happen to it."""

    def __init__(self, ledger: Database, policy: StreamPolicy = POLICY) -> None:
        self.ledger = ledger
        self.settings = Settings(
            accounts={name: AccountSettings(name, "scripted", Address("shop@example.com")) for name in NAMES},
            routes=(ROUTE,),
            streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: policy},
        )
        self.providers = {name: Posting(account=name) for name in NAMES}
        for name in REMEMBERING:
            self.providers[name].idempotent = True
        self.accounts = FixedAccounts(self.settings, self.providers)
        self.engine = Engine(self.settings, ledger, self.accounts)
        (recorded,) = submit(ledger.run, [Item(uuid7(), LANE, uuid7(), CONTENT, Address("ada@example.com"))])
        self.id = recorded.id

    @property
    def delivery(self) -> Delivery:
        return deliveries.get(self.ledger, self.id)

    def execute(self, sql: str) -> None:
        self.ledger.query(sqlalchemy.text(sql))

    def work(self, answer: Callable[[Outgoing], Outcome] | None = None) -> str | None:
        """Let it be due and a worker claim it. Returns the account that it was handed to."""
        asked: list[str] = []

        def script(name: str) -> Callable[[Outgoing], Outcome]:
            def says(mail: Outgoing) -> Outcome:
                asked.append(name)
                if answer is None:
                    raise Died
                return answer(mail)

            return says

        for name, provider in self.providers.items():
            provider.script = script(name)
        self.execute("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL")
        self.engine._selector.forget()
        try:
            self.engine.run(LANE)
        except Died:
            self.execute("UPDATE mailglass.deliveries SET lease_expires_at = now() WHERE status = 'sending'")
        return asked[0] if asked else None

    def answers(self, kind: OutcomeClass) -> str | None:
        return self.work(lambda mail: Outcome(kind, reason="because"))

    def end_leases(self) -> None:
        self.execute("UPDATE mailglass.deliveries SET lease_expires_at = now() WHERE lease_expires_at IS NOT NULL")

    def sweep(self) -> None:
        Settler(self.settings, self.ledger, self.accounts).sweep()

    def post(self, account: str) -> None:
        """Let an account's webhook say that it took the mail."""
        webhooks.store(self.ledger, account, "scripted", uuid4().hex, json.dumps([str(self.id)]).encode(), {})
        process.run(self.settings, self.ledger, self.accounts, after_claim=lambda more: None)


class Doubt(RuleBasedStateMachine):
    """A delivery's life, with the truth about its attempts kept beside it.

    Attributes:
        lost: for each attempt whose answer was lost, its account and the number of the release it belongs to.
        accounts: those that ever lost an answer; where they are several, the ledger may stay in doubt for longer.
    """

    ledger: Database
    policy = POLICY

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(self.ledger, self.policy)
        self.lost: list[tuple[str, int]] = []
        self.accounts: set[str] = set()
        self.released = 0

    def _lose(self, account: str | None) -> None:
        if account is not None:
            self.lost.append((account, self.released))
            self.accounts.add(account)

    @rule(kind=st.sampled_from([kind for kind in OutcomeClass if kind is not OutcomeClass.UNCERTAIN]))
    def an_account_answers(self, kind: OutcomeClass) -> None:
        asking = self.desk.delivery.ask_again
        account = self.desk.answers(kind)
        if account is not None and kind is OutcomeClass.ACCEPTED:
            self.lost.clear()
        if account is not None and asking and kind in (OutcomeClass.REJECTED, OutcomeClass.SUPPRESSED):
            self.lost = [entry for entry in self.lost if entry != (account, self.released)]
        self.desk.execute("DELETE FROM mailglass.breakers")

    @rule()
    def an_answer_is_lost(self) -> None:
        self._lose(self.desk.answers(OutcomeClass.UNCERTAIN))

    @rule()
    def a_worker_dies_in_the_middle_of_a_call(self) -> None:
        self._lose(self.desk.work())
        self.desk.sweep()

    @rule()
    def a_worker_dies_with_its_claim(self) -> None:
        self.desk.execute("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL")
        leases.claim(self.desk.ledger, LANE, uuid4(), 10, -1)
        self.desk.sweep()

    @rule()
    def a_hold_ends(self) -> None:
        self.desk.end_leases()
        self.desk.sweep()

    @rule()
    def an_account_breaks(self) -> None:
        self.desk.execute(
            "INSERT INTO mailglass.breakers (account, reason, failures, open_until)"
            " SELECT account, 'misconfigured', 1, now() + interval '1 hour'"
            " FROM unnest(ARRAY['first', 'second', 'third']) account ON CONFLICT DO NOTHING"
        )
        self.desk.answers(OutcomeClass.REJECTED)
        self.desk.execute("DELETE FROM mailglass.breakers")

    @rule()
    def it_grows_old(self) -> None:
        self.desk.execute("UPDATE mailglass.deliveries SET scheduled_at = scheduled_at - interval '1 year'")
        self.desk.answers(OutcomeClass.REJECTED)

    @rule()
    def it_expires_at_its_claim(self) -> None:
        self.desk.execute("UPDATE mailglass.deliveries SET expires_at = now()")
        self.desk.answers(OutcomeClass.REJECTED)
        self.desk.execute("UPDATE mailglass.deliveries SET expires_at = NULL")

    @rule()
    def its_recipient_is_suppressed_at_its_claim(self) -> None:
        suppress(self.desk.ledger, [Suppression("acme", "ada@example.com", "manual", "manual")])
        self.desk.answers(OutcomeClass.REJECTED)
        self.desk.execute("DELETE FROM mailglass.suppressions")

    @rule()
    def a_caller_cancels(self) -> None:
        before = self.desk.delivery
        answer = deliveries.cancel(self.desk.ledger, [self.desk.id], "acme")
        assert bool(answer.in_doubt) == before.in_doubt
        assert bool(answer.canceled) == (not before.in_doubt and before.status in (Status.QUEUED, Status.HELD))

    @rule()
    def an_operator_releases(self) -> None:
        if deliveries.release(self.desk.ledger, [self.desk.id]):
            self.released += 1

    @rule()
    def an_operator_holds_it_after_a_restore(self) -> None:
        if deliveries.hold(self.desk.ledger, [self.desk.id]):
            # what the ledger has forgotten may have been sent by any account, and no account's answer tells
            self.lost.append(("forgotten", 0))

    @rule(how=st.sampled_from(list(Settlement)))
    def an_operator_settles(self, how: Settlement) -> None:
        settled = settle(self.desk.ledger, [self.desk.id], how)
        if settled and how is Settlement.SENT:
            self.lost.clear()
        if settled and how is Settlement.RESEND:
            self.released += 1

    @precondition(lambda self: self.lost)
    @rule()
    def a_webhook_brings_evidence(self) -> None:
        before = self.desk.delivery
        if before.account is None:
            # of a mail that nobody is known to have attempted no account's word counts
            return
        self.desk.post(next((account for account, _ in reversed(self.lost) if account in NAMES), NAMES[0]))
        if before.status not in FINAL:
            self.lost.clear()

    @rule()
    def a_search_proves_that_it_was_never_taken(self) -> None:
        before = self.desk.delivery
        search = Search(
            before.id,
            LANE.stream,
            "",
            None,
            before.attempts,
            scheduled_at=before.created_at,
            first=before.created_at,
            age=0.0,
            taken_at=before.created_at,
        )
        if searches.resume(self.desk.ledger, [search], {LANE.stream: self.policy.max_attempts}):
            self.lost = [entry for entry in self.lost if entry[0] != before.account]

    @invariant()
    def the_ledger_names_the_doubt(self) -> None:
        delivery = self.desk.delivery
        assert delivery.in_doubt == bool(self.lost) or (delivery.in_doubt and len(self.accounts) > 1)
        assert not (delivery.ask_again and not delivery.in_doubt)
        if delivery.in_doubt:
            assert delivery.status not in (Status.CANCELED, Status.SUPPRESSED, Status.SENT)
            if delivery.status is Status.FAILED:
                assert delivery.last_error in ("expired", "settled_by_hand", "suppressed_address")
        waits = delivery.in_doubt and delivery.status in (Status.UNCERTAIN, Status.QUEUED, Status.HELD)
        assert [item.id for item in unsettled(self.desk.ledger)] == ([delivery.id] if waits else [])

    def teardown(self) -> None:
        self.desk.execute("DELETE FROM mailglass.deliveries")
        self.desk.execute("DELETE FROM mailglass.breakers")
        self.desk.execute("DELETE FROM mailglass.suppressions")


def test_mail_held_after_a_restore_stays_in_doubt_though_no_account_took_it(ledger: Database) -> None:
    desk = Desk(ledger)
    deliveries.hold(ledger, [desk.id])
    deliveries.release(ledger, [desk.id])
    desk.answers(OutcomeClass.UNCERTAIN)
    desk.answers(OutcomeClass.REJECTED)
    assert (desk.delivery.status, desk.delivery.in_doubt) == (Status.HELD, True)
    assert deliveries.cancel(ledger, [desk.id], "acme").in_doubt == {desk.id}


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.mark.parametrize("policy", list(UncertainPolicy))
def test_a_delivery_in_doubt_is_named_in_every_state_until_an_answer_ends_the_doubt(
    ledger: Database, policy: UncertainPolicy
) -> None:
    machine = type("Machine", (Doubt,), {"ledger": ledger, "policy": replace(POLICY, uncertain=policy)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25, stateful_step_count=15, suppress_health_check=list(HealthCheck), database=None
        ),
    )


def lost_and_resent(ledger: Database, policy: StreamPolicy = POLICY) -> Desk:
    """A desk whose delivery was lost at an account that remembers nothing, and is queued to be sent again."""
    desk = Desk(ledger, policy)
    for name in REMEMBERING:
        desk.providers[name].idempotent = False
    desk.answers(OutcomeClass.UNCERTAIN)
    desk.end_leases()
    desk.sweep()
    assert (desk.delivery.status, desk.delivery.in_doubt, desk.delivery.ask_again) == (Status.QUEUED, True, False)
    return desk


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (OutcomeClass.REJECTED, "because"),
        (OutcomeClass.SUPPRESSED, "because"),
        (OutcomeClass.TRANSIENT, "deferrals_exhausted:because"),
    ],
)
def test_a_refused_resend_waits_for_a_person_because_the_first_attempt_may_have_arrived(
    ledger: Database, kind: OutcomeClass, reason: str
) -> None:
    desk = lost_and_resent(ledger, replace(POLICY, max_attempts=2, max_deferrals=1))
    desk.answers(kind)
    assert (desk.delivery.status, desk.delivery.in_doubt) == (Status.HELD, True)
    assert desk.delivery.last_error == reason
    desk.post("first")
    assert (desk.delivery.status, desk.delivery.in_doubt) == (Status.SENT, False)


def test_resend_that_its_recipient_refuses_fails_in_doubt_and_late_evidence_stays_in_its_timeline(
    ledger: Database,
) -> None:
    desk = lost_and_resent(ledger)
    gone = understand(Stage.RCPT, 550, None, "550 5.1.1 User unknown")
    desk.work(lambda mail: Outcome(OutcomeClass.REJECTED, reason="smtp_550", refusal=gone))
    assert (desk.delivery.status, desk.delivery.in_doubt) == (Status.FAILED, True)
    desk.post("first")
    assert desk.delivery.status is Status.FAILED


def test_mail_in_doubt_whose_recipient_is_suppressed_meanwhile_fails_in_doubt(ledger: Database) -> None:
    desk = lost_and_resent(ledger)
    suppress(ledger, [Suppression("acme", "ada@example.com", "hard_bounce", "attempt")])
    assert desk.answers(OutcomeClass.ACCEPTED) is None
    assert (desk.delivery.status, desk.delivery.in_doubt) == (Status.FAILED, True)
    assert desk.delivery.last_error == "suppressed_address"


@pytest.mark.parametrize(
    "obstacle",
    ["UPDATE mailglass.deliveries SET scheduled_at = now() - interval '1 year'", "DELETE FROM mailglass.messages"],
)
def test_a_resend_that_cannot_be_attempted_any_more_is_held_and_asked_of_no_account(
    ledger: Database, obstacle: str
) -> None:
    desk = lost_and_resent(ledger)
    desk.execute(obstacle)
    assert desk.answers(OutcomeClass.ACCEPTED) is None
    assert (desk.delivery.status, desk.delivery.in_doubt) == (Status.HELD, True)


def test_evidence_that_came_before_the_refusal_of_a_question_settles_it_as_sent(ledger: Database) -> None:
    desk = Desk(ledger)
    desk.answers(OutcomeClass.UNCERTAIN)
    assert desk.delivery.ask_again

    def posts_and_refuses(mail: Outgoing) -> Outcome:
        desk.post("first" if desk.providers["first"].sent else "second")
        return Outcome(OutcomeClass.REJECTED, reason="http_422")

    desk.work(posts_and_refuses)
    desk.sweep()
    assert (desk.delivery.status, desk.delivery.in_doubt) == (Status.SENT, False)


def test_a_release_of_what_is_in_doubt_is_recorded_as_a_resend(ledger: Database) -> None:
    desk = lost_and_resent(ledger, replace(POLICY, max_attempts=2))
    desk.answers(OutcomeClass.REJECTED)
    deliveries.release(ledger, [desk.id])
    assert deliveries.timeline(ledger, desk.id)[-1].kind == "resent"
    assert desk.delivery.in_doubt


def test_an_upgrade_finds_the_doubt_of_what_was_lost_before_it(empty_database_url: str) -> None:
    schema.upgrade(empty_database_url, "0007")
    rows = (
        ("queued", "asked_again", True, (True, True)),
        ("queued", "no_evidence", True, (True, False)),
        ("held", "no_evidence", True, (True, False)),
        ("uncertain", "answer_lost", True, (True, False)),
        ("queued", "not_found", True, (False, False)),
        ("queued", "http_503", False, (False, False)),
    )
    found = []
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for number, (status, reason, lost, _) in enumerate(rows):
            connection.execute(
                "INSERT INTO mailglass.deliveries (id, tenant_id, message_id, stream, queue, status, recipient,"
                " recipient_domain, last_error, priority)"
                " VALUES (%s, 'acme', %s, 'bulk', 'q', %s, 'ada@example.com', 'example.com', %s, %s)",
                [key := uuid7(), uuid4(), status, reason, number],
            )
            if lost:
                connection.execute(
                    "INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, outcome)"
                    " VALUES (%s, %s, 'acme', 'attempted', 'engine', now(), 'uncertain')",
                    [uuid7(), key],
                )
        schema.upgrade(empty_database_url)
        found = connection.execute("SELECT in_doubt, ask_again FROM mailglass.deliveries ORDER BY priority").fetchall()
    assert found == [doubt for *_, doubt in rows]
