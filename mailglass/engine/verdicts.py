"""From the outcome of an attempt to what becomes of the delivery: the design's outcome table as a pure function."""

from __future__ import annotations

import random
from uuid import UUID

from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.settlement import NO_EVIDENCE
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers.base import Provider
from mailglass.streams import StreamPolicy

_THROTTLE_DELAY = 5.0
_QUOTA_DELAY = 300.0
_ASK_AGAIN_DELAY = 3.0
_ASK_AGAIN_MARGIN = 60.0
_NOT_STARTED = "deadline"
# what a delivery's last error says while the same account is asked about it again under the same idempotency key
ASK_AGAIN = "asked_again"


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
    """Whether the deadline came before the attempt began."""
    return outcome.kind is OutcomeClass.TRANSIENT and outcome.reason == _NOT_STARTED


def backoff(attempt: int, policy: StreamPolicy, rng: random.Random | None = None) -> float:
    """Seconds to wait after attempt number `attempt` (from 1): exponential with full jitter."""
    ceiling = min(policy.backoff_max, policy.backoff_base * 2.0 ** min(attempt - 1, 32))
    return (rng or random).uniform(0.0, ceiling)


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
    asked_again: bool = False,
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
        asked_again: an earlier attempt's outcome is not known, so it may have been sent whatever this one says.
        rng: where the jitter comes from.
    """
    status, delay, reason, counted = Status.QUEUED, None, outcome.reason, True
    match outcome.kind:
        case OutcomeClass.ACCEPTED:
            status = Status.SENT
        case OutcomeClass.REJECTED:
            status = Status.FAILED
        case OutcomeClass.SUPPRESSED:
            status = Status.SUPPRESSED
        case OutcomeClass.MISCONFIGURED if not elsewhere:
            status = Status.HELD
        case OutcomeClass.MISCONFIGURED | OutcomeClass.QUOTA if elsewhere:
            delay, counted = 0.0, False
        # the window counts from the first attempt, which is not older than the delivery
        case OutcomeClass.UNCERTAIN if attempt < policy.max_attempts and remembers(idempotency_window, age):
            status, delay, reason = Status.QUEUED, _jittered(_ASK_AGAIN_DELAY, rng), ASK_AGAIN
        case OutcomeClass.UNCERTAIN:
            status, delay = Status.UNCERTAIN, policy.uncertain_hold
        case OutcomeClass.THROTTLED:
            delay, counted = _jittered(outcome.retry_after or _THROTTLE_DELAY, rng), False
        case OutcomeClass.QUOTA:
            delay, counted = _jittered(outcome.retry_after or _QUOTA_DELAY, rng), False
        case OutcomeClass.TRANSIENT if not_started(outcome):
            delay, counted = 0.0, False
        case OutcomeClass.TRANSIENT:
            delay = max(backoff(attempt, policy, rng), outcome.retry_after or 0.0)
            if attempt >= policy.max_attempts:
                status, reason = Status.FAILED, f"attempts_exhausted:{outcome.reason or 'transient'}"
    if status is Status.QUEUED and age + (delay or 0.0) > policy.max_age:
        status, reason = Status.FAILED, f"too_old:{outcome.reason or outcome.kind.value}"
    # that no further attempt is made does not tell what became of the one before
    in_doubt = outcome.kind is OutcomeClass.UNCERTAIN or (asked_again and outcome.kind is not OutcomeClass.REJECTED)
    if in_doubt and status in (Status.FAILED, Status.HELD):
        status, delay, reason = Status.UNCERTAIN, policy.uncertain_hold, outcome.reason
    return Verdict(
        id=delivery_id,
        status=status,
        event=EngineEvent.ATTEMPTED,
        reason=reason,
        outcome=outcome.kind.value,
        delay=delay if status in (Status.QUEUED, Status.UNCERTAIN) else None,
        counted=counted or status is not Status.QUEUED,
        provider_message_id=outcome.provider_message_id,
        status_code=outcome.status,
        enhanced_status=outcome.enhanced_status,
        duration_ms=duration_ms,
    )


def still_in_doubt(verdict: Verdict, policy: StreamPolicy) -> Verdict:
    """What becomes of a delivery that is to be asked about again and that nobody can be asked about now.

    It may have been sent, so it does not end as one that was not: evidence is waited for, then the policy decides.

    Args:
        verdict: what would become of it had it never been attempted.
        policy: of its stream.
    """
    if verdict.status not in (Status.FAILED, Status.HELD) or verdict.reason == NO_EVIDENCE:
        return verdict
    return verdict._replace(status=Status.UNCERTAIN, event=EngineEvent.UNCERTAIN, delay=policy.uncertain_hold)


def _jittered(seconds: float, rng: random.Random | None) -> float:
    """At least the time asked for, spread over a fifth more, so that a backlog does not come back as one."""
    return seconds * (rng or random).uniform(1.0, 1.2)
