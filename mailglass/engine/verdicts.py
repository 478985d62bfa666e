"""Verdicts: the next state of a delivery by the outcome of its attempt, as pure functions."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple
from uuid import UUID

from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Doubt, Status
from mailglass.mail.outcomes import EXPIRED, Outcome, OutcomeClass
from mailglass.mail.streams import StreamPolicy
from mailglass.providers.base import Provider
from mailglass.refusals.consequences import Hears, Retry, breaks_at_once, hears, retry
from mailglass.refusals.rows import OPENING

_THROTTLE_DELAY = 5.0
_QUOTA_DELAY = 300.0
# a little more than asked for, so that the receiver's clock agrees, and spread
_LATER = (1.02, 1.1)
_ASK_AGAIN_DELAY = 3.0
_ASK_AGAIN_MARGIN = 60.0
_MOST_JITTER = 1.2
_LAST_HALVES = 60.0
_NOT_STARTED = "deadline"
# reasons, for people: the column `in_doubt` says what the engine goes by
_ASKED_AGAIN = "asked_again"
NO_EVIDENCE = "no_evidence"
_EXPIRED = "expired"
_ACCEPTED: Final = OutcomeClass.ACCEPTED.value
UNWRITABLE: Final = frozenset({"encode_failed"})
"""Reasons of outcomes for which nothing was asked of the provider: the mail could not be written in its form."""
_ENDS: Final = frozenset({Status.FAILED, Status.SUPPRESSED, Status.HELD})
_WAITS: Final = frozenset({Status.QUEUED, Status.UNCERTAIN})
_OF_THE_ACCOUNT: Final = frozenset({OutcomeClass.QUOTA, OutcomeClass.MISCONFIGURED})


def window(provider: Provider) -> float | None:
    """Return the seconds for which a provider takes the same delivery twice as once; None for always, 0 for never."""
    return provider.idempotency_window if provider.idempotent else 0.0


def remembers(idempotency_window: float | None, age: float) -> bool:
    """Return whether a provider can still be asked about a delivery of this age under the same idempotency key."""
    return idempotency_window is None or age + _ASK_AGAIN_MARGIN < idempotency_window


def memory(provider: Provider) -> float | None:
    """Return the age in seconds up to which `remembers` holds for a provider; None for any."""
    seconds = window(provider)
    return None if seconds is None else seconds - _ASK_AGAIN_MARGIN


def not_started(outcome: Outcome) -> bool:
    """Return whether the deadline, or the end of the mail's life, came before the attempt began."""
    # the class first: most outcomes are of another one, and to compare values costs more
    return outcome.kind is OutcomeClass.TRANSIENT and (outcome.reason == _NOT_STARTED or outcome == EXPIRED)


def backoff(attempt: int, policy: StreamPolicy, rng: random.Random | None = None) -> float:
    """Return the seconds to wait after attempt number `attempt` (from 1): exponential with full jitter."""
    ceiling = min(policy.backoff_max, policy.backoff_base * 2.0 ** min(attempt - 1, 32))
    return (rng or random).uniform(0.0, ceiling)


def deferral(number: int, policy: StreamPolicy, rng: random.Random | None = None) -> float:
    """Return the seconds to wait after deferral number `number` (from 1): five minutes at least by default, doubling.

    Greylisting lets a mail pass that comes again after five minutes, so the wait is never shorter than it says.
    """
    base = min(policy.backoff_max, policy.deferral_base * 2.0 ** min(number - 1, 32))
    return base * (rng or random).uniform(*_LATER)


class _Attempt(NamedTuple):
    """An attempt as `decide` is told of it, for the functions of `_BY_CLASS`."""

    number: int
    age: float
    policy: StreamPolicy
    elsewhere: bool
    idempotency_window: float | None
    deferrals: int
    accounts: int
    rng: random.Random | None


class _Next(NamedTuple):
    """The next state of a delivery by an outcome alone, without regard to its age and to doubts.

    Attributes:
        status: the state.
        reason: for people.
        delay: seconds until it is due again, or for which evidence is waited for.
        counted: False if the attempt is not held against the mail.
        deferred: it is counted as a deferral.
    """

    status: Status
    reason: str | None
    delay: float | None = None
    counted: bool = True
    deferred: bool = False


def decide(
    delivery_id: UUID,
    outcome: Outcome,
    *,
    attempt: int,
    age: float,
    policy: StreamPolicy,
    duration_ms: int | None = None,
    elsewhere: bool = False,
    idempotency_window: float | None = 0.0,
    in_doubt: bool = False,
    asked_again: bool = False,
    deferrals: int = 0,
    accounts: int = 1,
    lifetime: float | None = None,
    rng: random.Random | None = None,
) -> Verdict:
    """Return the verdict on a delivery after one attempt.

    Args:
        delivery_id: the delivery.
        outcome: of the attempt.
        attempt: its number, from 1.
        age: seconds since the delivery was recorded.
        policy: of its stream.
        duration_ms: milliseconds that the provider call took.
        elsewhere: another account of the route can be used now.
        idempotency_window: seconds for which the provider takes the same delivery twice as once, so that an uncertain
            one is soon asked about again; None for always, 0 for never.
        in_doubt: an earlier attempt's outcome is not known, so it may have been sent whatever this one says.
        asked_again: this attempt asked about that one, under the same idempotency key: a refusal answers it.
        deferrals: how often it was deferred before.
        accounts: how many its route has.
        lifetime: seconds after which it expired, when it was claimed; None for never.
        rng: source of the jitter.
    """
    if outcome.kind is OutcomeClass.ACCEPTED:
        return _sent(delivery_id, outcome, duration_ms)
    if outcome.kind is OutcomeClass.TRANSIENT and outcome == EXPIRED and not (in_doubt or asked_again):
        # where it is in doubt, its next claim decides
        return Verdict(delivery_id, Status.FAILED, EngineEvent.FAILED, _EXPIRED, counted=False)
    told = _Attempt(attempt, age, policy, elsewhere, idempotency_window, deferrals, accounts, rng)
    following = _BY_CLASS[outcome.kind](outcome, told)
    if following.status is Status.QUEUED:
        following = _in_time(following, outcome, told, lifetime)
    doubt = _doubt(outcome, following.status, asked_again)
    if following.status in _ENDS and (in_doubt or asked_again or doubt):
        following = _end_in_doubt(following, outcome, policy, doubt, asked_again)
    return _verdict(delivery_id, outcome, following, doubt, duration_ms)


def _verdict(
    delivery_id: UUID, outcome: Outcome, following: _Next, doubt: Doubt | None, duration_ms: int | None
) -> Verdict:
    status = following.status
    return Verdict(
        id=delivery_id,
        status=status,
        event=EngineEvent.ATTEMPTED,
        reason=following.reason,
        outcome=outcome.kind.value,
        delay=following.delay if status in _WAITS else None,
        counted=following.counted or status is not Status.QUEUED,
        doubt=doubt,
        provider_message_id=outcome.provider_message_id,
        status_code=outcome.status,
        enhanced_status=outcome.enhanced_status,
        duration_ms=duration_ms,
        refusal=None if outcome.refusal is None else outcome.refusal.code,
        deferred=following.deferred,
    )


def _sent(delivery_id: UUID, outcome: Outcome, duration_ms: int | None) -> Verdict:
    """Return the verdict on a delivery whose provider has accepted it, whatever was before."""
    return Verdict(
        id=delivery_id,
        status=Status.SENT,
        event=EngineEvent.ATTEMPTED,
        reason=outcome.reason,
        outcome=_ACCEPTED,
        provider_message_id=outcome.provider_message_id,
        status_code=outcome.status,
        enhanced_status=outcome.enhanced_status,
        duration_ms=duration_ms,
        refusal=None if outcome.refusal is None else outcome.refusal.code,
    )


def _rejected(outcome: Outcome, attempt: _Attempt) -> _Next:
    return _Next(Status.FAILED, outcome.reason)


def _suppressed(outcome: Outcome, attempt: _Attempt) -> _Next:
    return _Next(Status.SUPPRESSED, outcome.reason)


def _misconfigured(outcome: Outcome, attempt: _Attempt) -> _Next:
    if _defers(outcome):
        return _deferred(outcome, attempt, Status.HELD)
    if attempt.elsewhere:
        return _Next(Status.QUEUED, outcome.reason, 0.0, counted=False)
    return _Next(Status.HELD, outcome.reason)


def _quota(outcome: Outcome, attempt: _Attempt) -> _Next:
    if _defers(outcome):
        return _deferred(outcome, attempt, Status.HELD)
    delay = 0.0 if attempt.elsewhere else _jittered(outcome.retry_after or _QUOTA_DELAY, attempt.rng)
    return _Next(Status.QUEUED, outcome.reason, delay, counted=False)


def _throttled(outcome: Outcome, attempt: _Attempt) -> _Next:
    delay = _jittered(outcome.retry_after or _THROTTLE_DELAY, attempt.rng)
    return _Next(Status.QUEUED, outcome.reason, delay, counted=False)


def _transient(outcome: Outcome, attempt: _Attempt) -> _Next:
    if _defers(outcome):
        return _deferred(outcome, attempt, Status.FAILED)
    if not_started(outcome):
        return _Next(Status.QUEUED, outcome.reason, 0.0, counted=False)
    # the mail could not be written in the provider's form: that is about the mail
    if attempt.number >= attempt.policy.max_attempts:
        return _Next(Status.FAILED, f"attempts_exhausted:{outcome.reason or 'transient'}")
    delay = max(backoff(attempt.number, attempt.policy, attempt.rng), outcome.retry_after or 0.0)
    return _Next(Status.QUEUED, outcome.reason, delay)


def _uncertain(outcome: Outcome, attempt: _Attempt) -> _Next:
    # the window counts from the first attempt, which is not older than the delivery
    if attempt.number < attempt.policy.max_attempts and remembers(attempt.idempotency_window, attempt.age):
        return _Next(Status.QUEUED, _ASKED_AGAIN, _jittered(_ASK_AGAIN_DELAY, attempt.rng))
    return _Next(Status.UNCERTAIN, outcome.reason, attempt.policy.uncertain_hold)


_BY_CLASS: Final[dict[OutcomeClass, Callable[[Outcome, _Attempt], _Next]]] = {
    OutcomeClass.REJECTED: _rejected,
    OutcomeClass.SUPPRESSED: _suppressed,
    OutcomeClass.MISCONFIGURED: _misconfigured,
    OutcomeClass.QUOTA: _quota,
    OutcomeClass.THROTTLED: _throttled,
    OutcomeClass.TRANSIENT: _transient,
    OutcomeClass.UNCERTAIN: _uncertain,
}


def _deferred(outcome: Outcome, attempt: _Attempt, at_last: Status) -> _Next:
    """Defer a mail, or end it in the state `at_last` once its policy allows no further deferral."""
    if attempt.deferrals + 1 >= attempt.policy.max_deferrals:
        reason = f"deferrals_exhausted:{outcome.reason or 'transient'}"
        return _Next(at_last, reason, counted=False, deferred=True)
    accounts = attempt.accounts if attempt.elsewhere else 1
    delay = _deferral(outcome, attempt.deferrals, attempt.policy, accounts, attempt.rng)
    return _Next(Status.QUEUED, outcome.reason, delay, counted=False, deferred=True)


def _in_time(following: _Next, outcome: Outcome, attempt: _Attempt, lifetime: float | None) -> _Next:
    """End a queued mail that would be too old by its own backoff, and let no deferral outlast its lifetime."""
    if attempt.age + (following.delay or 0.0) > attempt.policy.max_age:
        if outcome.kind in _OF_THE_ACCOUNT:
            # it waits for its account, and no mail fails by that
            return following._replace(
                status=Status.HELD, reason=f"account_unavailable:{outcome.reason or outcome.kind.value}"
            )
        left = attempt.policy.max_age - attempt.age
        if left >= _LAST_HALVES and (outcome.retry_after or 0.0) * _MOST_JITTER >= (following.delay or 0.0):
            # a provider that asks for more than the mail has left ends no mail by that: half of it is waited
            return following._replace(delay=left / 2)
        return following._replace(status=Status.FAILED, reason=f"too_old:{outcome.reason or outcome.kind.value}")
    if following.deferred and lifetime is not None:
        # whoever waits for it hears at its end, and not at the next attempt
        return following._replace(delay=min(following.delay or 0.0, max(lifetime, 0.0)))
    return following


def _end_in_doubt(
    following: _Next, outcome: Outcome, policy: StreamPolicy, doubt: Doubt | None, asked_again: bool
) -> _Next:
    """End a mail that an earlier attempt may have sent, or let it wait for evidence or for a person."""
    if not asked_again and ends_in_doubt(outcome):
        # whatever became of the first attempt, nobody can reach the recipient by another one
        return following._replace(status=Status.FAILED)
    if doubt is Doubt.ANSWERED:
        return following
    # that no further attempt is made does not tell what became of the one before
    if asked_again or doubt is not None:
        return following._replace(status=Status.UNCERTAIN, delay=policy.uncertain_hold, reason=outcome.reason)
    return following._replace(status=Status.HELD)


def ends_in_doubt(outcome: Outcome) -> bool:
    """Return whether an attempt's refusal ends a mail that an earlier attempt may have sent: it is the recipient."""
    refused = outcome.kind in (OutcomeClass.REJECTED, OutcomeClass.SUPPRESSED)
    return refused and outcome.refusal is not None and outcome.refusal.of_the_recipient


def _defers(outcome: Outcome) -> bool:
    """Return whether nothing is held against the mail: it was put off, not answered, or refused for its account.

    Where one recipient's server may have spoken, the account is not given up for it: the mail waits. A server that
    takes no mail just now, or is not there, may be so for hours, and no mail is given up for that.
    """
    refusal = outcome.refusal
    if outcome.kind is OutcomeClass.TRANSIENT:
        return not not_started(outcome) and outcome.reason not in UNWRITABLE
    if refusal is None or outcome.kind not in (OutcomeClass.MISCONFIGURED, OutcomeClass.QUOTA):
        return False
    if breaks_at_once(refusal):
        return False
    # a session that does not open counts as no answer, and the breaker ends that; what it tells of a sender, of rates
    # or of connections ends nothing, and two accounts that say so would hand the mail to each other without a pause
    return refusal.stage not in OPENING or hears(refusal) not in (Hears.DESTINATION, Hears.NOBODY)


def _deferral(
    outcome: Outcome, deferrals: int, policy: StreamPolicy, accounts: int, rng: random.Random | None
) -> float:
    """Return the seconds until a deferred mail is tried again."""
    wait = outcome.retry_after or 0.0
    if outcome.refusal is None:
        return max(wait, backoff(1 + deferrals, policy, rng))
    match retry(outcome.refusal):
        # each account of the route is asked before any is asked again
        case Retry.OTHER_ACCOUNT if (deferrals + 1) % accounts:
            return 0.0
        case Retry.OTHER_ACCOUNT:
            return max(wait, deferral(1 + deferrals // accounts, policy, rng))
        case Retry.AT_ONCE | Retry.BACKOFF:
            return max(wait, backoff(1 + deferrals, policy, rng))
        case _:
            return max(wait, deferral(1 + deferrals, policy, rng))


def _doubt(outcome: Outcome, status: Status, asked_again: bool) -> Doubt | None:
    """Return what an attempt's outcome says of whether the mail may have been sent."""
    if outcome.kind is OutcomeClass.UNCERTAIN:
        return Doubt.ASKED if status is Status.QUEUED else Doubt.OPEN
    if asked_again and outcome.kind in (OutcomeClass.REJECTED, OutcomeClass.SUPPRESSED):
        return Doubt.ANSWERED
    return None


def still_in_doubt(verdict: Verdict, delivery: Claimed, policy: StreamPolicy) -> Verdict:
    """Return what becomes of a delivery in doubt that is not attempted now.

    It may have been sent, so it does not end as one that was not. If it was to be asked about again, evidence is
    awaited, then the policy decides. If its policy has decided already, it waits for a person; where it has expired or
    its recipient is suppressed, it ends as failed.

    Args:
        verdict: what would become of it had it never been attempted.
        delivery: as it was claimed; in doubt.
        policy: of its stream.
    """
    if verdict.status not in _ENDS or verdict.doubt is not None:
        return verdict
    if delivery.ask_again:
        return verdict._replace(status=Status.UNCERTAIN, event=EngineEvent.UNCERTAIN, delay=policy.uncertain_hold)
    if verdict.reason == _EXPIRED:
        return verdict
    if verdict.status is Status.SUPPRESSED:
        return verdict._replace(status=Status.FAILED, event=EngineEvent.FAILED)
    return verdict._replace(status=Status.HELD, event=EngineEvent.HELD)


def _jittered(seconds: float, rng: random.Random | None) -> float:
    """Return the time asked for, spread over a fifth more, so that a backlog does not come back as one."""
    return seconds * (rng or random).uniform(1.0, _MOST_JITTER)
