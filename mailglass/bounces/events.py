"""From a mail that came back to normalised events: what it proves counts, the rest is kept as `unknown`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from mailglass.bounces.forms import Form
from mailglass.bounces.mail import Fields, moment
from mailglass.bounces.proofs import Proof, Proofs
from mailglass.bounces.reports import Kind, Report, read_report
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent
from mailglass.mail.refusal import About, Refusal, Stage
from mailglass.refusals import texts
from mailglass.refusals.consequences import bounce_class, suppression
from mailglass.refusals.understand import understand

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


_OF_THE_RECIPIENT: Final = (About.RECIPIENT_UNKNOWN, About.RECIPIENT_DISABLED)


@dataclass(frozen=True, slots=True)
class Reading:
    """The meaning of a mail that came back.

    Attributes:
        events: at least one.
        doubt: why nothing in it counts: `no_secret` (the account has none), `no_proof` (no token of ours that holds);
            None where its proof holds.
    """

    events: tuple[ProviderEvent, ...]
    doubt: str | None


def read_bounce(raw: bytes, proofs: Proofs, came_to: str = "") -> Reading:
    """Return the events in a mail that came back. Never raises, whatever the bytes.

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
    elif report.kind is Kind.FORM and report.form is not None:
        events = [_form_event(report, report.form, proof)]
    elif report.kind is Kind.AUTOMATIC:
        events = [_event(report, EventKind.AUTORESPONDED, proof.delivery_id)]
    return Reading(tuple(events or [_unknown(report, proof.delivery_id)]), None)


def _delivery_events(report: Report, proof: Proof) -> list[ProviderEvent]:
    events = []
    for position, fields in enumerate(report.recipients):
        kind = _ACTIONS.get(_word(fields, "action"), EventKind.UNKNOWN)
        status = _status(fields)
        refusal = None
        if kind in (EventKind.BOUNCED, EventKind.DEFERRED):
            # where it names another: whom the address forwards to, or one of a group; the address itself may be well
            refusal = _refusal(fields, _names_the_recipient(fields, proof), kind is EventKind.DEFERRED)
        severity = bounce_class(refusal, status) if refusal is not None and kind is EventKind.BOUNCED else None
        at = moment(_first(fields, "last-attempt-date"))
        event = _event(report, kind, proof.delivery_id, str(position), at=at, status=status, severity=severity)
        events.append(replace(event, refusal=refusal))
    return events


def _form_event(report: Report, form: Form, proof: Proof) -> ProviderEvent:
    """Return the event of a bounce that is none of RFC 3464."""
    named = any(proof.names(address) for address in form.named)
    status = texts.enhanced_in(form.said)
    refusal = understand(Stage.REPORT, texts.reply_in(form.said), status, form.said, named=named, deferred=False)
    severity = bounce_class(refusal, status)
    event = _event(report, EventKind.BOUNCED, proof.delivery_id, status=status, severity=severity)
    return replace(event, refusal=refusal)


def _refusal(fields: Fields, named: bool, deferred: bool) -> Refusal:
    """Return the meaning of a refusal: the receiver's own word counts, and it is hard only where the report agrees."""
    status = texts.enhanced_in(_first(fields, "status"))
    by_smtp, said = _diagnosis(fields)
    host = _first(fields, "remote-mta").rpartition(";")[2].strip()[:255]
    domain = _first(fields, "final-recipient").rpartition("@")[2].strip(" <>")[:255]
    heard = partial(understand, Stage.REPORT, named=named, host=host, domain=domain, deferred=deferred)
    guess = heard(None, status, "" if by_smtp else said)
    if not by_smtp or not said.strip():
        return guess
    told = heard(texts.reply_in(said), None, said)
    contradicts = status != texts.enhanced_in(said) and guess.about not in (About.UNKNOWN, *_OF_THE_RECIPIENT)
    return guess if suppression(told) is not None and contradicts else told


def _unknown(report: Report, delivery_id: UUID | None) -> ProviderEvent:
    status = _status(report.recipients[0]) if report.recipients else None
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


def _status(fields: Fields) -> str | None:
    """Return the enhanced status, from the diagnosis where the report's own says nothing."""
    status = texts.enhanced_in(_first(fields, "status"))
    by_smtp, said = _diagnosis(fields)
    if status is None or status.endswith(".0.0"):
        status = (texts.enhanced_in(said) if by_smtp else None) or status
    return status


def _diagnosis(fields: Fields) -> tuple[bool, str]:
    """Return whether a diagnosis is the reply of a mail server, and its text. Some leave out that it is one."""
    whole = _first(fields, "diagnostic-code").strip()
    kind, found, said = whole.partition(";")
    if not found or kind[:1].isdigit():
        return texts.reply_in(whole[:4]) is not None, whole
    return kind.strip().lower() == "smtp", said


def _names_the_recipient(fields: Fields, proof: Proof) -> bool:
    return any(
        proof.names(value.partition(";")[2].strip().strip("<>"))
        for name in ("original-recipient", "final-recipient")
        for value in fields.get(name, [])
    )


def _first(fields: Fields, name: str) -> str:
    return fields.get(name, [""])[0]


def _word(fields: Fields, name: str) -> str:
    """Return a field's first word in lower case: what RFC 3464 makes a keyword, perhaps with a comment after it."""
    return (_first(fields, name).replace("(", " ").split() or [""])[0].lower()
