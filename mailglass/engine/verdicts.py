"""From the outcome of an attempt to what becomes of the delivery: the design's outcome table as a pure function."""

from __future__ import annotations

import random
from typing import Final
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
_NOT_STARTED = "deadline"
# reasons, for people: the column `in_doubt` says what the engine goes by
_ASKED_AGAIN = "asked_again"
NO_EVIDENCE = "no_evidence"
_EXPIRED = "expired"
UNWRITABLE: Final = frozenset({"encode_failed"})
"""Reasons of outcomes for which nothing was asked of the provider: the mail could not be written in its form."""
_ENDS = (Status.FAILED, Status.SUPPRESSED, Status.HELD)


def window(provider: Provider) -> float | None:
    """Seconds for which a provider takes the same delivery twice as once; None for always, 0 for never."""
    return provider.idempotency_window if provider.idempotent else 0.0


def remembers(idempotency_window: float | None, age: float) -> bool:
    """Whether a provider can still be asked about a delivery of this age under the same idempotency key."""
    return idempotency_window is None or age + _ASK_AGAIN_MARGIN < idempotency_window


def memory(provider: Provider) -> float | None:
    """The age in seconds up to which `remembers` holds for a provider; None for any."""
    seconds = window(provider)
    return None if seconds is None else seconds - _ASK_AGAIN_MARGIN


def not_started(outcome: Outcome) -> bool:
    """Return whether the deadline, or the end of the mail's life, came before the attempt began."""
    # the class first: most outcomes are of another one, and to compare values costs more
    return outcome.kind is OutcomeClass.TRANSIENT and (outcome.reason == _NOT_STARTED or outcome == EXPIRED)


def backoff(attempt: int, policy: StreamPolicy, rng: random.Random | None = None) -> float:
    """Seconds to wait after attempt number `attempt` (from 1): exponential with full jitter."""
    ceiling = min(policy.backoff_max, policy.backoff_base * 2.0 ** min(attempt - 1, 32))
    return (rng or random).uniform(0.0, ceiling)


def deferral(number: int, policy: StreamPolicy, rng: random.Random | None = None) -> float:
    """Seconds to wait after deferral number `number` (from 1): at least five minutes at the usual figures, doubling.

    Greylisting lets a mail pass that comes again after five minutes, so the wait is never shorter than it says.
    """
    base = min(policy.backoff_max, policy.deferral_base * 2.0 ** min(number - 1, 32))
    return base * (rng or random).uniform(*_LATER)


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
    """What becomes of a delivery after one attempt.

    Args:
        attempt: its number, from 1.
        age: seconds since the delivery was recorded.
        policy: of its stream.
        duration_ms: how long the provider call took.
        elsewhere: another account of the route can be used now.
        idempotency_window: seconds for which the provider takes the same delivery twice as once, so that an uncertain
            one is soon asked about again; None for always, 0 for never.
        in_doubt: an earlier attempt's outcome is not known, so it may have been sent whatever this one says.
        asked_again: this attempt asked about that one, under the same idempotency key: a refusal answers it.
        deferrals: how often it was deferred before.
        accounts: how many its route has.
        lifetime: seconds after which it expired, when it was claimed; None for never.
        rng: where the jitter comes from.
    """
    if outcome.kind is OutcomeClass.TRANSIENT and outcome == EXPIRED and not (in_doubt or asked_again):
        # where it is in doubt, its next claim decides
        return Verdict(delivery_id, Status.FAILED, EngineEvent.FAILED, _EXPIRED, counted=False)
    status, delay, reason, counted = Status.QUEUED, None, outcome.reason, True
    deferred = _defers(outcome)
    match outcome.kind:
        case OutcomeClass.ACCEPTED:
            status = Status.SENT
        case OutcomeClass.REJECTED:
            status = Status.FAILED
        case OutcomeClass.SUPPRESSED:
            status = Status.SUPPRESSED
        case OutcomeClass.MISCONFIGURED | OutcomeClass.QUOTA | OutcomeClass.TRANSIENT if deferred:
            delay, counted = _deferral(outcome, deferrals, policy, accounts if elsewhere else 1, rng), False
            if deferrals + 1 >= policy.max_deferrals:
                status = Status.FAILED if outcome.kind is OutcomeClass.TRANSIENT else Status.HELD
                reason = f"deferrals_exhausted:{outcome.reason or 'transient'}"
        case OutcomeClass.MISCONFIGURED if not elsewhere:
            status = Status.HELD
        case OutcomeClass.MISCONFIGURED | OutcomeClass.QUOTA if elsewhere:
            delay, counted = 0.0, False
        # the window counts from the first attempt, which is not older than the delivery
        case OutcomeClass.UNCERTAIN if attempt < policy.max_attempts and remembers(idempotency_window, age):
            status, delay, reason = Status.QUEUED, _jittered(_ASK_AGAIN_DELAY, rng), _ASKED_AGAIN
        case OutcomeClass.UNCERTAIN:
            status, delay = Status.UNCERTAIN, policy.uncertain_hold
        case OutcomeClass.THROTTLED:
            delay, counted = _jittered(outcome.retry_after or _THROTTLE_DELAY, rng), False
        case OutcomeClass.QUOTA:
            delay, counted = _jittered(outcome.retry_after or _QUOTA_DELAY, rng), False
        case OutcomeClass.TRANSIENT if not_started(outcome):
            delay, counted = 0.0, False
        case OutcomeClass.TRANSIENT:
            # the mail could not be written in the provider's form: that is about the mail
            delay = max(backoff(attempt, policy, rng), outcome.retry_after or 0.0)
            if attempt >= policy.max_attempts:
                status, reason = Status.FAILED, f"attempts_exhausted:{outcome.reason or 'transient'}"
    if status is Status.QUEUED and age + (delay or 0.0) > policy.max_age:
        if outcome.kind in (OutcomeClass.QUOTA, OutcomeClass.MISCONFIGURED):
            # it waits for its account, and no mail fails by that
            status, reason = Status.HELD, f"account_unavailable:{outcome.reason or outcome.kind.value}"
        else:
            status, reason = Status.FAILED, f"too_old:{outcome.reason or outcome.kind.value}"
    if status is Status.QUEUED and deferred and lifetime is not None:
        # whoever waits for it hears at its end, and not at the next attempt
        delay = min(delay or 0.0, max(lifetime, 0.0))
    doubt = _doubt(outcome, status, asked_again)
    if in_doubt and not asked_again and status in _ENDS and ends_in_doubt(outcome):
        # whatever became of the first attempt, nobody can reach the recipient by another one
        status = Status.FAILED
    elif doubt is not Doubt.ANSWERED and status in _ENDS and (in_doubt or asked_again or doubt):
        # that no further attempt is made does not tell what became of the one before
        waits = asked_again or doubt is not None
        status, delay = (Status.UNCERTAIN, policy.uncertain_hold) if waits else (Status.HELD, None)
        reason = outcome.reason if waits else reason
    return Verdict(
        id=delivery_id,
        status=status,
        event=EngineEvent.ATTEMPTED,
        reason=reason,
        outcome=outcome.kind.value,
        delay=delay if status in (Status.QUEUED, Status.UNCERTAIN) else None,
        counted=counted or status is not Status.QUEUED,
        doubt=doubt,
        provider_message_id=outcome.provider_message_id,
        status_code=outcome.status,
        enhanced_status=outcome.enhanced_status,
        duration_ms=duration_ms,
        refusal=None if outcome.refusal is None else outcome.refusal.code,
        deferred=deferred,
    )


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
    """At least the time asked for, spread over a fifth more, so that a backlog does not come back as one."""
    return seconds * (rng or random).uniform(1.0, 1.2)
