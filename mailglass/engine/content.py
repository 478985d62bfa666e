"""What of a claim is never sent, and the frozen content of the rest."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from mailglass import telemetry
from mailglass.errors import TemplateError
from mailglass.ledger import leases
from mailglass.ledger.database import Runs
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.streams import StreamPolicy

# what a held delivery says that waited for an account as long as its stream allows
ACCOUNT_UNAVAILABLE = "account_unavailable"
# seconds until a delivery is offered again whose mailable this worker does not have
_ELSEWHERE = 15.0


class Ready(NamedTuple):
    """A claimed delivery with its content, ready to be placed on an account."""

    delivery: Claimed
    content: Any


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
            content = json.loads(delivery.content)
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
    standing = leases.freeze(ledger, good) if good else {}
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


def _render(content: dict[str, Any]) -> dict[str, Any] | TemplateError:
    from mailglass.rendering import render_content

    try:
        return render_content(content)
    except TemplateError as error:
        telemetry.emit("mailglass.render.failed", level=logging.ERROR, reason=str(error))
        return error
