"""One call of an account's provider, and a second one where it refuses the first credentials of two."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from mailglass import telemetry
from mailglass.errors import failure
from mailglass.mail.addresses import encodable
from mailglass.mail.outcomes import CopyRefusal, Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.refusal import About, Refusal, Stage
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts

_MAX_TEXT: Final = 1000
_MAX_STATUS: Final = 9999
_LONGEST_WAIT: Final = 7 * 86400.0
_CLEANED: Final = ("provider_message_id", "reason", "enhanced_status", "status", "retry_after")
# answers for which the provider has looked at the credentials and taken them
_KNOWN: Final = frozenset(
    {
        OutcomeClass.ACCEPTED,
        OutcomeClass.REJECTED,
        OutcomeClass.SUPPRESSED,
        OutcomeClass.THROTTLED,
        OutcomeClass.QUOTA,
        OutcomeClass.MISCONFIGURED,
    }
)
_REFUSING: Final = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Change:
    """Judgement of a provider on an account's credentials that is new to this process.

    Attributes:
        accepted: the account with the credentials that the provider takes.
        refused: the same with those that it does not take; None if it was not asked with others.
    """

    accepted: Provider
    refused: Provider | None = None


def call(
    accounts: Accounts, provider: Provider, mails: Sequence[Outgoing], deadline: float
) -> tuple[list[Outcome], Change | None]:
    """Attempt mails with the account's credentials; those refused for their sake also with its other ones.

    A mail whose credentials are refused was certainly not taken, so the second call doubles nothing. If the process
    dies between the two, the mail is as after any call whose answer was lost.

    Args:
        accounts: know an account's other credentials: those before a rotation, or the second ones.
        provider: of the account, as the batch was assigned to it.
        mails: to attempt.
        deadline: on `mailglass.clock.monotonic()`.

    Returns:
        The outcome of each mail, in order, and what has changed for the account's credentials.
    """
    provider = accounts.preferred(provider)
    outcomes = _call(provider, mails, deadline)
    accepted = any(outcome.kind is OutcomeClass.ACCEPTED for outcome in outcomes)
    # the class first, because most outcomes are of another one
    refused = [
        index
        for index, outcome in enumerate(outcomes)
        if outcome.kind is OutcomeClass.MISCONFIGURED and _refuses_credentials(outcome)
    ]
    if not refused:
        return outcomes, Change(provider) if accepted and accounts.confirm(provider) else None
    other = accounts.other(provider)
    if other is None:
        return outcomes, None
    change = None
    second = _call(other, [mails[index] for index in refused], deadline)
    if not accepted and any(outcome.kind in _KNOWN and not _refuses_credentials(outcome) for outcome in second):
        change = _prefer(accounts, other, provider)
    again = dict(zip(refused, second, strict=True))
    return [again.get(index, outcome) for index, outcome in enumerate(outcomes)], change


def _prefer(accounts: Accounts, provider: Provider, refused: Provider) -> Change | None:
    if not accounts.prefer(provider):
        return None
    telemetry.emit(
        "mailglass.secrets.refused",
        level=logging.ERROR,
        account=provider.account,
        reason="the provider refuses the credentials, those before them or the second ones are used",
    )
    return Change(provider, refused)


def _refuses_credentials(outcome: Outcome) -> bool:
    if outcome.kind is not OutcomeClass.MISCONFIGURED:
        return False
    refusal = outcome.refusal
    if refusal is None or refusal.stage is Stage.AUTH or outcome.status in _REFUSING:
        return True
    return refusal.stage is Stage.API and refusal.about is About.SENDER_ACCOUNT


def _call(provider: Provider, mails: Sequence[Outgoing], deadline: float) -> list[Outcome]:
    """Return the provider's answers; whatever escapes it may have happened after the request was written."""
    try:
        outcomes: object = provider.send(mails, deadline=deadline)
    except BaseException as error:
        name = failure(error)
        telemetry.emit(
            "mailglass.dispatch.provider_failed",
            level=logging.ERROR,
            account=provider.account,
            provider=provider.name,
            error_type=name,
        )
        return [Outcome(OutcomeClass.UNCERTAIN, reason=f"provider_error:{name}")] * len(mails)
    if not isinstance(outcomes, list | tuple) or len(outcomes) != len(mails):
        return [Outcome(OutcomeClass.UNCERTAIN, reason="provider_error:wrong_count")] * len(mails)
    return [_recordable(outcome) for outcome in outcomes]


def _recordable(outcome: object) -> Outcome:
    """Return an outcome that the ledger can take, whatever a provider wrote: a refused one would sink its batch's."""
    if not isinstance(outcome, Outcome) or not isinstance(outcome.kind, OutcomeClass):
        return Outcome(OutcomeClass.UNCERTAIN, reason="provider_error:no_outcome")
    refusal: object = outcome.refusal
    if not isinstance(refusal, Refusal | None):
        outcome = replace(outcome, refusal=None, copies=())
    if outcome.copies != () or outcome.suppressed_for is not None:
        outcome = replace(
            outcome, copies=_recordable_copies(outcome.copies), suppressed_for=_seconds(outcome.suppressed_for)
        )
    wait = _seconds(outcome.retry_after)
    clean = (
        clean_text(outcome.provider_message_id),
        clean_text(outcome.reason),
        clean_text(outcome.enhanced_status),
        outcome.status if _is_status(outcome.status) else None,
        None if wait is None else min(max(wait, 0.0), _LONGEST_WAIT),
    )
    said = (outcome.provider_message_id, outcome.reason, outcome.enhanced_status, outcome.status, outcome.retry_after)
    if clean == said:
        return outcome
    return replace(outcome, **dict(zip(_CLEANED, clean, strict=True)))  # type: ignore[arg-type]


def _recordable_copies(copies: object) -> tuple[CopyRefusal, ...]:
    return tuple(
        copy
        for copy in (copies if isinstance(copies, tuple | list) else ())
        if isinstance(copy, CopyRefusal)
        and isinstance(copy.index, int)
        and _is_status(copy.status)
        and isinstance(copy.refusal, Refusal)
    )


def _is_status(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_STATUS


def _seconds(value: object) -> float | None:
    return value if isinstance(value, int) or (isinstance(value, float) and not math.isnan(value)) else None


def clean_text(value: object) -> str | None:
    """Return a text that the ledger can take, or None."""
    if not isinstance(value, str):
        return None
    if not value or len(value) > _MAX_TEXT or "\x00" in value:
        return None
    if value.isascii():
        return value
    # in bytes, of which an index takes 2,700: what it refuses would be lost for the whole batch
    return value if encodable(value) and len(value.encode()) <= _MAX_TEXT else None
