"""Preparation of a claim: end what is never sent, and freeze the content of the rest."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from mailglass import telemetry
from mailglass.errors import LedgerError, TemplateError, TemplateErrorType, failure
from mailglass.ledger import leases
from mailglass.ledger.database import Runs
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.mail.streams import StreamPolicy

# reason of a held delivery that waited for an account as long as its stream allows
ACCOUNT_UNAVAILABLE = "account_unavailable"
# seconds until a delivery is offered again whose mailable this worker does not have
_ELSEWHERE = 15.0


# reason of a held delivery whose stored content cannot be made a mail of
CONTENT_REFUSED = "content_refused"
_EVENTS = {
    Status.SUPPRESSED: EngineEvent.SUPPRESSED,
    Status.FAILED: EngineEvent.FAILED,
    Status.HELD: EngineEvent.HELD,
}
_Rendered = dict[UUID, dict[str, Any] | TemplateError]


class ReadyDelivery(NamedTuple):
    """A claimed delivery with its content, ready to be assigned to an account."""

    delivery: Claimed
    content: Any


@dataclass(frozen=True, slots=True)
class Prepared:
    """Deliveries of a claim that can be sent, and verdicts on the others.

    Attributes:
        ready: those that can be sent, in the order of the claim.
        ended: verdicts on those that are never sent.
        waiting: verdicts on those that are due later.
    """

    ready: tuple[ReadyDelivery, ...]
    ended: tuple[Verdict, ...] = ()
    waiting: tuple[Verdict, ...] = ()


def refusal(delivery: Claimed, status: Status, reason: str) -> Verdict:
    """Return the verdict on a delivery that ends, or waits for a person, without an attempt."""
    return Verdict(delivery.id, status, _EVENTS[status], reason)


def prepare(ledger: Runs, claimed: Sequence[Claimed], policy: StreamPolicy) -> Prepared:
    """Part what can be sent from what cannot; render what is not frozen yet, and keep it.

    Args:
        ledger: keeps what is rendered.
        claimed: leased deliveries.
        policy: of their stream.
    """
    ended: list[Verdict] = []
    ready: list[ReadyDelivery] = []
    rendered: _Rendered = {}
    for delivery in claimed:
        verdict = _end_of(delivery, policy)
        if verdict is not None:
            ended.append(verdict)
            continue
        content = _read(delivery.content)
        if content is None:
            ended.append(refusal(delivery, Status.HELD, CONTENT_REFUSED))
            continue
        if not delivery.frozen and delivery.message_id not in rendered:
            rendered[delivery.message_id] = _render(content)
        ready.append(ReadyDelivery(delivery, content))
    if not rendered:
        return Prepared(tuple(ready), tuple(ended))
    kept, verdicts = _frozen(ledger, ready, rendered)
    ended += (verdict for verdict in verdicts if verdict.status is not Status.QUEUED)
    return Prepared(
        tuple(kept), tuple(ended), tuple(verdict for verdict in verdicts if verdict.status is Status.QUEUED)
    )


def _end_of(delivery: Claimed, policy: StreamPolicy) -> Verdict | None:
    """Return the verdict on a delivery that is not to be sent any more, or None."""
    if delivery.suppressed_by is not None:
        return refusal(delivery, Status.SUPPRESSED, f"suppressed_{delivery.suppressed_by}")
    if delivery.expired:
        return refusal(delivery, Status.FAILED, "expired")
    if delivery.age > policy.max_age:
        if delivery.awaits_account is not None:
            # it was never its own fault: whoever mends the account decides whether it is still wanted
            return refusal(delivery, Status.HELD, ACCOUNT_UNAVAILABLE)
        return refusal(delivery, Status.FAILED, "too_old")
    if delivery.content is None:
        return refusal(delivery, Status.FAILED, "content_scrubbed")
    return None


def _frozen(
    ledger: Runs, ready: Sequence[ReadyDelivery], rendered: _Rendered
) -> tuple[list[ReadyDelivery], list[Verdict]]:
    """Keep what was rendered before the first attempt, or take what another worker has kept before.

    Returns:
        Deliveries with frozen content, and verdicts on those without.
    """
    contents = {key: json.dumps(content) for key, content in rendered.items() if not isinstance(content, TemplateError)}
    existing, refused = _freeze(ledger, contents) if contents else ({}, {})
    kept: list[ReadyDelivery] = []
    verdicts: list[Verdict] = []
    for item in ready:
        message_id = item.delivery.message_id
        if message_id not in rendered:
            kept.append(item)
        elif message_id in existing:
            kept.append(ReadyDelivery(item.delivery, json.loads(existing[message_id])))
        else:
            verdicts.append(_unrendered(item.delivery, refused.get(message_id, rendered[message_id])))
    return kept, verdicts


def _freeze(ledger: Runs, contents: dict[UUID, str]) -> tuple[dict[UUID, str], dict[UUID, TemplateError]]:
    """Keep contents; return those that exist afterwards, and the error of each that the database refuses."""
    try:
        return leases.freeze(ledger, contents), {}
    except LedgerError as error:
        if not error.of_a_value:
            raise
    existing: dict[UUID, str] = {}
    refused: dict[UUID, TemplateError] = {}
    for key, content in contents.items():
        try:
            existing |= leases.freeze(ledger, {key: content})
        except LedgerError as error:
            if not error.of_a_value:
                raise
            refused[key] = TemplateError("what was rendered cannot be kept", TemplateErrorType.REFUSED)
    return existing, refused


def _unrendered(delivery: Claimed, content: dict[str, Any] | TemplateError) -> Verdict:
    """Return the verdict on a delivery that has no frozen content."""
    if not isinstance(content, TemplateError):
        # it was rendered, and there is no place left to keep it
        return refusal(delivery, Status.FAILED, "content_scrubbed")
    if content.retryable:
        # a class that is not installed here may be so elsewhere, or soon
        delay = _ELSEWHERE * (1 + random.random())  # noqa: S311
        return Verdict(delivery.id, Status.QUEUED, None, "mailable_not_installed", delay=delay, counted=False)
    # it fails everywhere, until somebody mends it
    return refusal(delivery, Status.HELD, f"template_failed:{content.type}")


def _read(stored: str | None) -> dict[str, Any] | None:
    """Return stored content, or None if it is none: too deep to read, or not in the shape that messages have."""
    try:
        content = json.loads(stored) if stored is not None else None
        sound = isinstance(content, dict) and (
            # most contents have none of these
            _SHAPES.keys().isdisjoint(content)
            or all(_SHAPES[key](content[key]) for key in _SHAPES.keys() & content.keys())
        )
    except Exception as error:
        _note(error)
        return None
    return content if sound else None


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _are_pairs(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_pair, value))


# what the engine itself reads of a content, before a mail is made of it
_SHAPES: dict[str, Callable[[Any], bool]] = {
    "from": _is_pair,
    "cc": _are_pairs,
    "bcc": _are_pairs,
    "tags": lambda value: isinstance(value, list) and all(isinstance(tag, str) for tag in value),
}


def _render(content: dict[str, Any]) -> dict[str, Any] | TemplateError:
    from mailglass.rendering import render_content

    try:
        return render_content(content)
    except TemplateError as error:
        telemetry.emit("mailglass.render.failed", level=logging.ERROR, reason=str(error))
        return error
    except BaseException as error:
        _note(error)
        return TemplateError("the mailable cannot be rendered")


def _note(error: BaseException) -> None:
    telemetry.emit("mailglass.dispatch.mail_failed", level=logging.ERROR, error_type=failure(error))
