"""What becomes of a delivery after an attempt: a pure function."""

from __future__ import annotations

import random
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.engine.health import BREAKING, Sign, sign_of
from mailglass.engine.verdicts import backoff, decide
from mailglass.ledger.lifecycle import ALLOWED, Status
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.refusal import About, Lasting, Refusal, Scope, Stage
from mailglass.mail.streams import StreamPolicy
from mailglass.providers.http import HTTPAnswer
from mailglass.providers.http import refusal as answered
from mailglass.providers.smtp.replies import Reply, refusal
from mailglass.refusals.consequences import outcome_class
from mailglass.refusals.understand import understand

POLICY = StreamPolicy()


@given(st.integers(1, 200), st.floats(0.01, 100), st.floats(0.01, 10_000))
def test_backoff_lies_between_zero_and_its_ceiling(attempt: int, base: float, most: float) -> None:
    policy = StreamPolicy(backoff_base=base, backoff_max=most)
    wait = backoff(attempt, policy, random.Random(1))
    assert 0 <= wait <= min(most, base * 2.0 ** min(attempt - 1, 32))


def test_backoff_uses_the_whole_range_so_that_a_herd_spreads() -> None:
    rng = random.Random(7)
    waits = [backoff(5, POLICY, rng) for _ in range(2000)]
    assert min(waits) < 2
    assert max(waits) > 78


@given(
    st.sampled_from(OutcomeClass),
    st.integers(1, 20),
    st.floats(0, 100_000),
    st.one_of(st.none(), st.floats(0, 100_000)),
)
def test_every_verdict_is_a_move_that_the_life_of_a_delivery_allows(
    kind: OutcomeClass, attempt: int, age: float, retry_after: float | None
) -> None:
    verdict = decide(uuid4(), Outcome(kind, retry_after=retry_after), attempt=attempt, age=age, policy=POLICY)
    assert (Status.SENDING, verdict.status) in ALLOWED
    assert (verdict.delay is not None) == (verdict.status in (Status.QUEUED, Status.UNCERTAIN))


@pytest.mark.parametrize("kind", [OutcomeClass.THROTTLED, OutcomeClass.QUOTA])
def test_waiting_for_the_provider_is_not_counted_and_never_shorter_than_asked(kind: OutcomeClass) -> None:
    verdict = decide(uuid4(), Outcome(kind, retry_after=30), attempt=9999, age=0, policy=POLICY)
    assert verdict.status is Status.QUEUED
    assert not verdict.counted
    assert verdict.delay is not None
    assert 30 <= verdict.delay <= 36


def test_a_transient_failure_honours_retry_after() -> None:
    verdict = decide(uuid4(), Outcome(OutcomeClass.TRANSIENT, retry_after=500), attempt=1, age=0, policy=POLICY)
    assert verdict.delay == 500


@pytest.mark.parametrize("kind", [OutcomeClass.THROTTLED, OutcomeClass.TRANSIENT])
@given(wait=st.floats(60, 7 * 86400.0))
def test_wait_that_a_provider_asks_for_ends_no_mail_before_a_last_minute(kind: OutcomeClass, wait: float) -> None:
    age, attempts = 0.0, 0
    while POLICY.max_age - age >= 60:
        outcome = Outcome(kind, reason="http_503", retry_after=wait)
        deferrals = attempts if kind is OutcomeClass.TRANSIENT else 0
        verdict = decide(uuid4(), outcome, attempt=1, age=age, policy=POLICY, deferrals=min(deferrals, 1))
        assert verdict.status is Status.QUEUED
        age, attempts = age + verdict.delay, attempts + 1
        assert age <= POLICY.max_age
    assert attempts <= POLICY.max_age / 30


def test_retry_that_would_come_too_late_fails_now_with_both_reasons() -> None:
    outcome = Outcome(OutcomeClass.THROTTLED, reason="http_429", retry_after=60)
    verdict = decide(uuid4(), outcome, attempt=1, age=POLICY.max_age, policy=POLICY)
    assert (verdict.status, verdict.reason) == (Status.FAILED, "too_old:http_429")


@pytest.mark.parametrize(
    ("window", "age", "attempt", "status"),
    [
        (None, 50_000.0, 1, Status.QUEUED),
        (900.0, 100.0, 1, Status.QUEUED),
        (900.0, 850.0, 1, Status.UNCERTAIN),
        (0.0, 0.0, 1, Status.UNCERTAIN),
        (None, 0.0, POLICY.max_attempts, Status.UNCERTAIN),
    ],
)
def test_an_uncertain_delivery_is_asked_about_again_only_while_the_provider_remembers_its_key(
    window: float | None, age: float, attempt: int, status: Status
) -> None:
    outcome = Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
    verdict = decide(uuid4(), outcome, attempt=attempt, age=age, policy=POLICY, idempotency_window=window)
    assert verdict.status is status
    assert verdict.reason == ("asked_again" if status is Status.QUEUED else "answer_lost")


@pytest.mark.parametrize(
    ("kind", "age", "attempt", "asked_again"),
    [
        # too old to be asked about again
        (OutcomeClass.UNCERTAIN, POLICY.max_age, 1, False),
        (OutcomeClass.THROTTLED, POLICY.max_age, 2, True),
        (OutcomeClass.TRANSIENT, POLICY.max_age, 2, True),
        # the account's key was withdrawn in between
        (OutcomeClass.MISCONFIGURED, 0.0, 2, True),
    ],
)
def test_mail_that_may_have_been_sent_never_ends_as_unsent(
    kind: OutcomeClass, age: float, attempt: int, asked_again: bool
) -> None:
    verdict = decide(
        uuid4(),
        Outcome(kind, reason="because"),
        attempt=attempt,
        age=age,
        policy=POLICY,
        idempotency_window=None,
        asked_again=asked_again,
    )
    assert (verdict.status, verdict.reason, verdict.delay) == (Status.UNCERTAIN, "because", POLICY.uncertain_hold)


def test_a_rejection_answers_what_was_asked_again() -> None:
    outcome = Outcome(OutcomeClass.REJECTED, reason="http_422")
    verdict = decide(uuid4(), outcome, attempt=2, age=0, policy=POLICY, idempotency_window=None, asked_again=True)
    assert verdict.status is Status.FAILED


def test_mail_not_begun_in_time_is_no_attempt_and_due_at_once() -> None:
    outcome = Outcome(OutcomeClass.TRANSIENT, reason="deadline")
    verdict = decide(uuid4(), outcome, attempt=POLICY.max_attempts, age=0, policy=POLICY)
    assert (verdict.status, verdict.counted, verdict.delay) == (Status.QUEUED, False, 0.0)


@pytest.mark.parametrize(
    ("stage", "code", "said"),
    [
        (Stage.GREETING, 421, "4.3.2 busy"),
        (Stage.EHLO, 450, "not now"),
        (Stage.TLS, 454, "4.7.0 TLS not available"),
        (Stage.AUTH, 454, "4.7.0 Temporary authentication failure"),
    ],
)
def test_server_that_takes_no_mail_for_hours_costs_no_mail(stage: Stage, code: int, said: str) -> None:
    refused = refusal(stage, Reply(code, (said,)))
    age, deferrals = 0.0, 0
    while age < 20 * 3600:
        verdict = decide(
            uuid4(), refused, attempt=1, age=age, policy=POLICY, deferrals=deferrals, rng=random.Random(deferrals)
        )
        assert (verdict.status, verdict.counted, verdict.deferred) == (Status.QUEUED, False, True)
        assert verdict.delay is not None and verdict.delay <= POLICY.backoff_base * 2.0**deferrals
        age, deferrals = age + verdict.delay, deferrals + 1
    assert deferrals < 100


@pytest.mark.parametrize("reason", ["connect_failed", "request_incomplete", "http_503", None])
def test_attempt_that_certainly_did_not_leave_is_not_held_against_the_mail(reason: str | None) -> None:
    outcome = Outcome(OutcomeClass.TRANSIENT, reason=reason)
    verdict = decide(uuid4(), outcome, attempt=POLICY.max_attempts, age=0, policy=POLICY, deferrals=20)
    assert (verdict.status, verdict.counted, verdict.deferred) == (Status.QUEUED, False, True)
    assert verdict.delay is not None and verdict.delay <= POLICY.backoff_max


def test_mail_that_cannot_be_written_in_the_providers_form_uses_its_attempts_up() -> None:
    outcome = Outcome(OutcomeClass.TRANSIENT, reason="encode_failed")
    assert decide(uuid4(), outcome, attempt=1, age=0, policy=POLICY).counted
    last = decide(uuid4(), outcome, attempt=POLICY.max_attempts, age=0, policy=POLICY)
    assert (last.status, last.reason) == (Status.FAILED, "attempts_exhausted:encode_failed")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("550 5.1.1 User unknown", Status.FAILED),
        ("550 5.2.1 mailbox disabled", Status.FAILED),
        ("550 5.7.1 recipient has blocked this sender", Status.FAILED),
        ("554 5.7.1 message looks like spam", Status.HELD),
        ("552 5.3.4 message too large", Status.HELD),
        ("550 no", Status.HELD),
    ],
)
def test_resend_of_mail_in_doubt_that_its_recipient_refuses_fails_and_stays_in_doubt(said: str, status: Status) -> None:
    meaning = understand(Stage.RCPT, int(said[:3]), None, said)
    outcome = Outcome(outcome_class(meaning), reason="smtp", refusal=meaning)
    verdict = decide(uuid4(), outcome, attempt=2, age=0, policy=POLICY, in_doubt=True)
    # None leaves the doubt as it is
    assert (verdict.status, verdict.doubt) == (status, None)


def test_resend_of_mail_in_doubt_to_somebody_on_the_providers_list_fails() -> None:
    outcome = answered(HTTPAnswer(422, {}, b""), "postmark", "406")
    assert outcome.kind is OutcomeClass.SUPPRESSED
    assert decide(uuid4(), outcome, attempt=2, age=0, policy=POLICY, in_doubt=True).status is Status.FAILED
    assert decide(uuid4(), outcome, attempt=2, age=0, policy=POLICY).status is Status.SUPPRESSED


refused = st.builds(
    Refusal,
    st.sampled_from(About),
    st.sampled_from(Lasting),
    st.sampled_from(Scope),
    st.sampled_from(Stage),
    deferred=st.booleans(),
    used_up=st.booleans(),
)


@given(refused)
def test_mail_goes_to_another_account_at_once_only_if_its_deferral_or_a_breaker_ends_that(met: Refusal) -> None:
    outcome = Outcome(outcome_class(met), reason="smtp_550", refusal=met)
    verdict = decide(uuid4(), outcome, attempt=1, age=0, policy=StreamPolicy(), elsewhere=True, accounts=2)
    if verdict.status is Status.QUEUED and not verdict.delay and not verdict.deferred:
        assert sign_of(outcome) in BREAKING | {Sign.NO_ANSWER}
