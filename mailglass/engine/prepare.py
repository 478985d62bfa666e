"""What of a claim is never sent, and the frozen content of the rest."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from mailglass import telemetry
from mailglass.errors import LedgerError, TemplateError, TemplateErrorType
from mailglass.ledger import leases
from mailglass.ledger.database import Runs
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.mail.streams import StreamPolicy

# what a held delivery says that waited for an account as long as its stream allows
ACCOUNT_UNAVAILABLE = "account_unavailable"
# seconds until a delivery is offered again whose mailable this worker does not have
_ELSEWHERE = 15.0


class Ready(NamedTuple):
    """A claimed delivery with its content, ready to be placed on an account."""

    delivery: Claimed
    content: Any


# what a held delivery says whose stored content cannot be made a mail of
CONTENT_REFUSED = "content_refused"
_EVENTS = {
    Status.SUPPRESSED: EngineEvent.SUPPRESSED,
    Status.FAILED: EngineEvent.FAILED,
    Status.HELD: EngineEvent.HELD,
}


def refusal(delivery: Claimed, status: Status, reason: str) -> Verdict:
    """A delivery that ends, or waits for a person, without an attempt."""
    return Verdict(delivery.id, status, _EVENTS[status], reason)


def sort_out(ledger: Runs, claimed: Sequence[Claimed], policy: StreamPolicy) -> tuple[list[Verdict], list[Ready]]:
    """What is never sent, and the rest with its content; templates are rendered and kept on the way."""
    refused: list[Verdict] = []
    ready: list[Ready] = []
    rendered: dict[UUID, dict[str, Any] | TemplateError] = {}
    for delivery in claimed:
        if delivery.suppressed_by is not None:
            refused.append(refusal(delivery, Status.SUPPRESSED, f"suppressed_{delivery.suppressed_by}"))
        elif delivery.expired:
            refused.append(refusal(delivery, Status.FAILED, "expired"))
        elif delivery.age > policy.max_age and delivery.awaits_account is not None:
            # it was never its own fault: whoever mends the account decides whether it is still wanted
            refused.append(refusal(delivery, Status.HELD, ACCOUNT_UNAVAILABLE))
        elif delivery.age > policy.max_age:
            refused.append(refusal(delivery, Status.FAILED, "too_old"))
        elif delivery.content is None:
            refused.append(refusal(delivery, Status.FAILED, "content_scrubbed"))
        else:
            content = _read(delivery.content)
            if content is None:
                refused.append(refusal(delivery, Status.HELD, CONTENT_REFUSED))
                continue
            if not delivery.frozen and delivery.message_id not in rendered:
                rendered[delivery.message_id] = _render(content)
            ready.append(Ready(delivery, content))
    if rendered:
        ready = _frozen(ledger, ready, rendered, refused)
    return refused, ready


def _frozen(
    ledger: Runs, ready: Sequence[Ready], rendered: dict[UUID, dict[str, Any] | TemplateError], refused: list[Verdict]
) -> list[Ready]:
    """Keep what was rendered before the first attempt, and take what stands should another have been first."""
    good = {key: json.dumps(content) for key, content in rendered.items() if not isinstance(content, TemplateError)}
    standing = _freeze(ledger, good, rendered) if good else {}
    kept: list[Ready] = []
    for item in ready:
        message_id = item.delivery.message_id
        if message_id not in rendered:
            kept.append(item)
        elif message_id in standing:
            kept.append(Ready(item.delivery, json.loads(standing[message_id])))
        else:
            refused.append(_unrendered(item.delivery, rendered[message_id]))
    return kept


def _freeze(
    ledger: Runs, contents: dict[UUID, str], rendered: dict[UUID, dict[str, Any] | TemplateError]
) -> dict[UUID, str]:
    """Keep contents; where the database refuses one, it alone is marked as refused in `rendered`."""
    try:
        return leases.freeze(ledger, contents)
    except LedgerError as error:
        if not error.of_a_value:
            raise
    standing: dict[UUID, str] = {}
    for key, content in contents.items():
        try:
            standing |= leases.freeze(ledger, {key: content})
        except LedgerError as error:
            if not error.of_a_value:
                raise
            rendered[key] = TemplateError("what was rendered cannot be kept", TemplateErrorType.REFUSED)
    return standing


def _unrendered(delivery: Claimed, content: dict[str, Any] | TemplateError) -> Verdict:
    """What becomes of a delivery that has no frozen content."""
    if not isinstance(content, TemplateError):
        # it was rendered, and there is no place left to keep it
        return refusal(delivery, Status.FAILED, "content_scrubbed")
    if content.retryable:
        # a class that is not installed here may be so elsewhere, or soon
        delay = _ELSEWHERE * (1 + random.random())  # noqa: S311
        return Verdict(delivery.id, Status.QUEUED, None, "mailable_not_installed", delay=delay, counted=False)
    # it fails everywhere, until somebody mends it
    return refusal(delivery, Status.HELD, f"template_failed:{content.type}")


def _read(stored: str) -> dict[str, Any] | None:
    """Return stored content, or None if it is none: too deep to read, or not in the shape that messages have."""
    try:
        content = json.loads(stored)
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
    except Exception as error:
        _note(error)
        return TemplateError("the mailable cannot be rendered")


def _note(error: Exception) -> None:
    telemetry.emit("mailglass.dispatch.mail_failed", level=logging.ERROR, error_type=type(error).__name__)
