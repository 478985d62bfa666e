"""From a mail that came back to normalised events: what it proves counts, the rest is kept as `unknown`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from mailglass.bounces.mail import Fields, moment
from mailglass.bounces.proofs import Proof, Proofs
from mailglass.bounces.reports import Kind, Report, read_report
from mailglass.bounces.statuses import bounce_class, reply_in, status_in
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent

# RFC 3464 2.3.3: `expanded` was delivered to the address and passed on by it, `relayed` goes on where no reports are
_ACTIONS: Final = {
    "failed": EventKind.BOUNCED,
    "delayed": EventKind.DEFERRED,
    "delivered": EventKind.DELIVERED,
    "expanded": EventKind.DELIVERED,
    "relayed": EventKind.SENT,
}
# RFC 5965 7.3: what a person said about the mail; `virus`, `other`, `not-spam` (RFC 6430) and `auth-failure`
# (RFC 6591) are no complaints of the recipient
_COMPLAINTS: Final = frozenset({"abuse", "fraud"})


@dataclass(frozen=True, slots=True)
class Reading:
    """What a mail that came back says.

    Attributes:
        events: at least one.
        doubt: why nothing in it counts: `no_secret` (the account has none), `no_proof` (no token of ours that holds);
            None where its proof holds.
    """

    events: tuple[ProviderEvent, ...]
    doubt: str | None


def read_bounce(raw: bytes, proofs: Proofs, came_to: str = "") -> Reading:
    """The events in a mail that came back. Never raises, whatever the bytes.

    No event names a recipient: a report may name anybody, and whom it is about is the delivery it proves to know.

    Args:
        raw: the mail as it was received.
        proofs: of the account it came to.
        came_to: the envelope's recipient, where it is known.
    """
    report = read_report(raw, came_to)
    proof = proofs.find(report.where_tokens_stand())
    if proof is None:
        doubt = "no_proof" if proofs.can_check else "no_secret"
        return Reading((_unknown(report, report.claimed_delivery()),), doubt)
    events: list[ProviderEvent] = []
    if report.kind is Kind.DELIVERY_STATUS:
        events = _delivery_events(report, proof)
    elif report.kind is Kind.FEEDBACK and _word(report.about, "feedback-type") in _COMPLAINTS:
        events = [_event(report, EventKind.COMPLAINED, proof.delivery_id)]
    elif report.kind is Kind.AUTOMATIC:
        events = [_event(report, EventKind.AUTORESPONDED, proof.delivery_id)]
    return Reading(tuple(events or [_unknown(report, proof.delivery_id)]), None)


def _delivery_events(report: Report, proof: Proof) -> list[ProviderEvent]:
    events = []
    for position, fields in enumerate(report.recipients):
        kind = _ACTIONS.get(_word(fields, "action"), EventKind.UNKNOWN)
        status, reply = _status(fields)
        severity = None
        if kind is EventKind.BOUNCED:
            severity = bounce_class(status, reply)
            if severity is BounceClass.HARD and not _names_the_recipient(fields, proof):
                # somebody the address forwards to, or one of a group: the address itself may be well
                severity = BounceClass.UNDETERMINED
        at = moment(_first(fields, "last-attempt-date"))
        events.append(_event(report, kind, proof.delivery_id, str(position), at=at, status=status, severity=severity))
    return events


def _unknown(report: Report, delivery_id: UUID | None) -> ProviderEvent:
    status = _status(report.recipients[0])[0] if report.recipients else None
    return _event(report, EventKind.UNKNOWN, delivery_id, status=status)


def _event(
    report: Report,
    kind: EventKind,
    delivery_id: UUID | None,
    position: str = "",
    *,
    at: datetime | None = None,
    status: str | None = None,
    severity: BounceClass | None = None,
) -> ProviderEvent:
    identity = _first(report.header, "message-id").encode("utf-8", "replace") or report.body
    parts = [identity, str(delivery_id).encode(), kind.value.encode(), position.encode()]
    return ProviderEvent(
        kind=kind,
        provider_event_id=hashlib.sha256(b"\x00".join(parts)).hexdigest(),
        occurred_at=at or moment(_first(report.header, "date")),
        delivery_id=delivery_id,
        bounce_class=severity,
        status=status,
    )


def _status(fields: Fields) -> tuple[str | None, int | None]:
    """The enhanced status, from the diagnosis where the report's own says nothing, and the reply code."""
    status = status_in(_first(fields, "status"))
    kind, _, text = _first(fields, "diagnostic-code").partition(";")
    diagnosis = text if kind.strip().lower() == "smtp" else ""
    if status is None or status.endswith(".0.0"):
        status = status_in(diagnosis) or status
    return status, reply_in(diagnosis)


def _names_the_recipient(fields: Fields, proof: Proof) -> bool:
    return any(
        proof.names(value.partition(";")[2].strip().strip("<>"))
        for name in ("original-recipient", "final-recipient")
        for value in fields.get(name, [])
    )


def _first(fields: Fields, name: str) -> str:
    return fields.get(name, [""])[0]


def _word(fields: Fields, name: str) -> str:
    """A field's first word in lower case: what RFC 3464 makes a keyword, perhaps with a comment after it."""
    return (_first(fields, name).replace("(", " ").split() or [""])[0].lower()
