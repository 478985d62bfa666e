"""`mailglass deliveries show`, `list` and `counts`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from mailglass.cli.actor import actor_option
from mailglass.cli.database import open_database
from mailglass.cli.deliveries.content import print_content, without_files
from mailglass.cli.deliveries.filters import DUE, FILTERS, options
from mailglass.cli.moments import format_moment
from mailglass.cli.output import JSON, format_option, print_json, print_table
from mailglass.errors import ConfigError
from mailglass.settings import get_settings

if TYPE_CHECKING:
    from mailglass.ledger.database import Database
    from mailglass.ledger.deliveries import Delivery
    from mailglass.ledger.events import Event

STATUSES = ("queued", "claimed", "sending", "sent", "failed", "suppressed", "uncertain", "held", "canceled")
OUTCOMES = ("deferred", "delivered", "rejected", "failed", "bounced", "complained")
_PAGE = 1000
# fields of a timeline's event, in the order of the output
_DETAILS = tuple(
    "status outcome reason account attempt status_code enhanced_status duration_ms bounce_class reject_reason".split()
)


@click.command()
@click.argument("delivery_id", metavar="ID", type=click.UUID)
@click.option("--show-recipient", is_flag=True, help="Show the recipient's address, which is hidden otherwise.")
@click.option("--content", is_flag=True, help="Show the content too, if the settings allow it; audited.")
@actor_option
@format_option
def show(delivery_id: UUID, show_recipient: bool, content: bool, actor: str, output_format: str) -> None:
    """Show one delivery and its timeline.

    --content needs `show_content = true` in the settings.
    """
    from mailglass.ledger import deliveries as ledger

    database = open_database()
    delivery = ledger.get(database, delivery_id)
    timeline = ledger.timeline(database, delivery_id)
    shown_content = _content(database, delivery, actor) if content else None
    if output_format == JSON:
        shown = {"content": shown_content} if content else {}
        print_json(
            delivery=_as_json(delivery, show_recipient), timeline=[_event_as_json(event) for event in timeline], **shown
        )
        return
    described = [*_described(delivery, show_recipient), ("explained by", _explanation(timeline))]
    print_table(("", ""), [(name, value) for name, value in described if value])
    click.echo()
    print_table(
        ("TIME", "SOURCE", "EVENT", "DETAILS"),
        [(_moment(event.occurred_at), event.source.value, event.kind, _details(event)) for event in timeline],
    )
    if content:
        click.echo()
        print_content(shown_content)


@click.command("list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--status", type=click.Choice(STATUSES), help="Only those that stand there.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Only those of which the provider said this last.")
@options(*DUE, *FILTERS)
@click.option("--behind", type=click.UUID, metavar="ID", help="Continue behind this one, the last of the page before.")
@click.option("--limit", type=click.IntRange(1, _PAGE), default=20, show_default=True, help="At most this many.")
@click.option("--show-recipient", is_flag=True, help="Show the recipients' addresses, which are hidden otherwise.")
@format_option
def list_(behind: UUID | None, limit: int, show_recipient: bool, output_format: str, **filters: Any) -> None:
    """List deliveries, newest first."""
    from mailglass.ledger import deliveries as ledger
    from mailglass.ledger.lifecycle import Status

    status = filters.pop("status")
    chosen = {"status": Status(status) if status else None, **filters}
    page = ledger.find(open_database(), after=behind, limit=limit, **chosen)
    if output_format == JSON:
        print_json(deliveries=[_as_json(delivery, show_recipient) for delivery in page])
        return
    head = ("ID", "CREATED", "TENANT", "STREAM", "STATUS", "IN DOUBT", "OUTCOME", "ATTEMPTS", "LAST ERROR")
    rows = [(*_row(delivery), *([delivery.recipient] if show_recipient else [])) for delivery in page]
    print_table((*head, "RECIPIENT") if show_recipient else head, rows)


@click.command()
@format_option
def counts(output_format: str) -> None:
    """Count deliveries by tenant and status."""
    from mailglass.ledger import deliveries as ledger

    by_tenant = ledger.counts(open_database())
    if output_format == JSON:
        print_json(counts=by_tenant)
        return
    rows = [
        (tenant, status, str(by_tenant[tenant][status]))
        for tenant in sorted(by_tenant)
        for status in STATUSES
        if status in by_tenant[tenant]
    ]
    print_table(("TENANT", "STATUS", "DELIVERIES"), rows)


def _content(database: Database, delivery: Delivery, actor: str) -> dict[str, Any] | None:
    """Return a delivery's content without the bytes of its files, and record it in the audit."""
    from mailglass.ledger import audit
    from mailglass.ledger import deliveries as ledger

    if not get_settings().show_content:
        raise ConfigError("show_content", "is not set, so content is not shown", "Set show_content = true")
    audit.record(database, actor, "deliveries.show_content", delivery.tenant, [delivery.id], 1)
    content = ledger.content_of(database, delivery)
    return None if content is None else without_files(content)


def _row(delivery: Delivery) -> tuple[str, ...]:
    return (
        str(delivery.id),
        _moment(delivery.created_at),
        delivery.tenant,
        delivery.stream,
        delivery.status.value,
        "yes" if delivery.in_doubt else "",
        delivery.outcome or "",
        str(delivery.attempts),
        delivery.last_error or "",
    )


def _described(delivery: Delivery, show_recipient: bool) -> Iterator[tuple[str, str]]:
    yield "id", str(delivery.id)
    yield "recipient", delivery.recipient if show_recipient else "hidden; --show-recipient shows it"
    for name in ("tenant", "stream", "queue", "mailable", "status", "outcome", "account", "provider"):
        yield name, str(getattr(delivery, name) or "")
    yield "provider's id", delivery.provider_message_id or ""
    yield "group", str(delivery.group_id or "")
    yield "attempts", str(delivery.attempts)
    yield "deferrals", str(delivery.deferrals or "")
    yield "refused", _in_words(delivery.refusal)
    yield "in doubt", _doubt(delivery)
    yield "last error", delivery.last_error or ""
    for name in ("created_at", "due_at", "expires_at"):
        yield name.removesuffix("_at"), _moment(getattr(delivery, name))
    for name, value in asdict(delivery.facts).items():
        if name.endswith("_at") and name != "last_event_at":
            yield name.removesuffix("_at"), _moment(value)
    yield "bounce class", delivery.facts.bounce_class or ""


def _doubt(delivery: Delivery) -> str:
    if not delivery.in_doubt or delivery.status.value == "sent":
        return ""
    if delivery.final:
        return "it may have been sent, and ended without an answer"
    more = ": its account is asked again" if delivery.ask_again else ""
    return f"it may have been sent{more}; `mailglass deliveries settle` says what became of it"


def _details(event: Event) -> str:
    details = [f"{name}={value}" for name in _DETAILS if (value := getattr(event, name)) is not None]
    if event.machine:
        details.append("machine")
    if meaning := _in_words(event.refusal):
        details.append(f"meaning: {meaning}")
    return " ".join(details)


def _as_json(delivery: Delivery, show_recipient: bool) -> dict[str, Any]:
    hidden = {"facts"} if show_recipient else {"facts", "recipient", "recipient_domain"}
    values = {name: value for name, value in asdict(delivery).items() if name not in hidden | {"message_id"}}
    facts = {name: value for name, value in asdict(delivery.facts).items() if not name.startswith("status")}
    return {name: _plain(value) for name, value in (values | {"outcome": delivery.outcome} | facts).items()}


def _event_as_json(event: Event) -> dict[str, Any]:
    values = {name: _plain(value) for name, value in asdict(event).items() if name != "delivery_id"}
    return values | {"refusal_meaning": _in_words(event.refusal) or None}


def _in_words(refusal: str | None) -> str:
    """Return the meaning of a refusal, for people."""
    if refusal is None:
        return ""
    from mailglass.refusals.consequences import in_words

    return in_words(refusal)


def _explanation(timeline: Sequence[Event]) -> str:
    """Return the command that explains the last refusal; "" if there was none with a code."""
    codes = [event.enhanced_status or event.status_code for event in timeline if event.refusal]
    return f"mailglass mail-doctor --explain {codes[-1]}" if codes and codes[-1] else ""


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _moment(moment: datetime | None) -> str:
    return format_moment(moment, "milliseconds")
