"""Telling a run: for people as lines, for programs as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from mailglass.demo.narrator import in_words
from mailglass.demo.summary import Bounced, Pace, Summary
from mailglass.ledger.events import Event

_SHOWN = 10
FAULTS: Mapping[str, str] = {
    "unfinished": "not final",
    "unknown": "submitted, and not in the ledger",
    "lost": "sent by the ledger, never received",
    "twice": "received more often than the ledger accounts for",
    "unrecorded": "received, though by the ledger it was never sent",
    "repeated": "made by a repeated call, in spite of its idempotency key",
}


def lines(summary: Summary) -> Iterator[tuple[str, str]]:
    """Yield the report as headings, each with its text; a heading is empty where the text goes on."""
    yield "Orders", f"{summary.orders}, confirmed by mail for {in_words(summary.by_tenant)}"
    yield "Deliveries", in_words(summary.by_status)
    yield "Providers said", in_words(summary.by_outcome) or "nothing"
    outside = summary.outside
    yield (
        "Weather",
        f"requests throttled: {outside['throttled']}, failed: {outside['faults']}, answers lost: "
        f"{outside['lost_answers']}, recipients refused: {outside['suppressed']}; webhooks posted back: "
        f"{outside['webhooks_acknowledged']}",
    )
    if not summary.quiet:
        yield "", "some webhooks were still on their way when this was summed up"
    if summary.restarted:
        yield "Restarts", f"{summary.restarted}: a process ended and was started again"
    yield from _timeline(summary.example)
    yield from _suppression(summary.bounced)
    yield "Throughput", _throughput(summary.pace)
    if summary.burst.accepted:
        yield "", _calm(summary.burst)
    yield from _verdict(summary)


def values(summary: Summary) -> dict[str, Any]:
    """Return the report as plain JSON values: ids, counts and durations in seconds."""
    faults = summary.check.faults
    return {
        "ok": summary.check.ok,
        "orders": summary.orders,
        "deliveries": dict(summary.by_status),
        "outcomes": dict(summary.by_outcome),
        "tenants": dict(summary.by_tenant),
        "check": {
            "received": summary.received,
            "resent_after_uncertain": summary.resent,
            "received_twice_accounted_for": len(summary.check.resent),
            **{kind: [str(key) for key in faults.get(kind, ())] for kind in FAULTS},
        },
        "throughput": {
            "accepted": summary.pace.accepted,
            "seconds": round(summary.pace.seconds, 3),
            "per_second": round(summary.pace.per_second, 1),
            "seconds_to_95_percent": round(summary.pace.most_seconds, 3),
            "per_second_to_95_percent": round(summary.pace.most_per_second, 1),
        },
        "calm_burst": {
            "accepted": summary.burst.accepted,
            "seconds": round(summary.burst.seconds, 3),
            "per_second": round(summary.burst.per_second, 1),
        },
        "timeline": [_event(event) for event in summary.example],
        "suppression": _suppression_values(summary.bounced),
        "lab": dict(summary.outside),
        "quiet": summary.quiet,
        "restarted": summary.restarted,
    }


def _timeline(events: tuple[Event, ...]) -> Iterator[tuple[str, str]]:
    if not events:
        return
    yield "One delivery", str(events[0].delivery_id)
    start = events[0].occurred_at
    for event in events:
        offset = (event.occurred_at - start).total_seconds()
        yield "", f"{offset:+8.3f} s  {event.source.value:<8}  {event.kind:<10}  {', '.join(_details(event))}".rstrip()


def _details(event: Event) -> Iterator[str]:
    if event.outcome:
        yield event.outcome
    if event.reason:
        yield event.reason
    if event.attempt and event.outcome:
        yield f"attempt {event.attempt}"
    if event.bounce_class:
        yield f"{event.bounce_class} bounce"
    if event.enhanced_status:
        yield event.enhanced_status
    if event.account:
        yield event.account
    if event.duration_ms is not None:
        yield f"{event.duration_ms} ms"


def _suppression(bounced: Bounced | None) -> Iterator[tuple[str, str]]:
    if bounced is None:
        yield "One suppression", "no mailbox bounced hard among so few orders"
        return
    order = bounced.order
    yield "One suppression", f"{order.email} bounced hard and is on {order.tenant}'s list; the next mail to it:"
    yield "", f"SuppressedError: {bounced.refusal}" if bounced.refused else bounced.refusal


def _suppression_values(bounced: Bounced | None) -> dict[str, Any] | None:
    if bounced is None:
        return None
    return {
        "tenant": bounced.order.tenant,
        "bounced_delivery": str(bounced.delivery),
        "refused": bounced.refused is not None,
        "refused_delivery": None if bounced.refused is None else str(bounced.refused),
    }


def _throughput(pace: Pace) -> str:
    if not pace.accepted:
        return "no mail was accepted"
    return (
        f"{pace.per_second:.0f} mails/s from the first call to the last acceptance ({pace.accepted} in "
        f"{pace.seconds:.1f} s, retries and holds included); {pace.most_per_second:.0f} mails/s for the first 95 % "
        f"({pace.most_seconds:.1f} s)"
    )


def _calm(burst: Pace) -> str:
    return (
        f"{burst.per_second:.0f} mails/s in a calm burst ({burst.accepted} in {burst.seconds:.1f} s): without weather "
        "nothing waits for a retry"
    )


def _verdict(summary: Summary) -> Iterator[tuple[str, str]]:
    if summary.check.ok:
        yield "Check", "nothing was lost, and nothing was sent twice that the ledger does not account for"
    else:
        yield "Check", "FAILED: the ledger and what the lab counted differ"
    yield (
        "",
        f"{summary.by_status.get('sent', 0)} sent by the ledger, {summary.received} acceptances counted by the lab; "
        f"{summary.resent} resent after an uncertain outcome, {len(summary.check.resent)} of them received twice",
    )
    for kind, ids in summary.check.faults.items():
        yield "", f"{len(ids)} {FAULTS[kind]}: {_some(ids)}"


def _some(ids: tuple[UUID, ...]) -> str:
    shown = ", ".join(str(key) for key in ids[:_SHOWN])
    return f"{shown} and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else shown


def _event(event: Event) -> dict[str, Any]:
    return {
        "id": str(event.id),
        "delivery": str(event.delivery_id),
        "occurred_at": event.occurred_at.isoformat(),
        "source": event.source.value,
        "kind": event.kind,
        "details": list(_details(event)),
    }
