"""`mailglass deliveries`: see what became of deliveries; cancel them, let held ones go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from mailglass.cli import moving, rescheduling, restoring, settle
from mailglass.cli.actor import actor_option
from mailglass.cli.content import print_content, without_files
from mailglass.cli.filters import DUE, FILTERS, options
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
# what each event of a timeline may say beyond its kind, in the order it is told
_DETAILS = (
    "status",
    "outcome",
    "reason",
    "account",
    "attempt",
    "status_code",
    "enhanced_status",
    "duration_ms",
    "bounce_class",
    "reject_reason",
)


@click.group()
def deliveries() -> None:
    """See what became of deliveries."""


@deliveries.command()
@click.argument("delivery_id", metavar="ID", type=click.UUID)
@click.option("--show-recipient", is_flag=True, help="Show the recipient's address, which is hidden otherwise.")
@click.option("--content", is_flag=True, help="Show what was said too; the settings must allow it, the audit knows it.")
@actor_option
@format_option
def show(delivery_id: UUID, show_recipient: bool, content: bool, actor: str, output_format: str) -> None:
    """Show one delivery and what happened to it.

    What was said is shown where the settings say `show_content = true`.
    """
    from mailglass.ledger import deliveries as ledger

    database = _database()
    delivery = ledger.get(database, delivery_id)
    timeline = ledger.timeline(database, delivery_id)
    said = _content(database, delivery, actor) if content else None
    if output_format == JSON:
        shown = {"content": said} if content else {}
        print_json(
            delivery=_as_json(delivery, show_recipient), timeline=[_event_as_json(event) for event in timeline], **shown
        )
        return
    print_table(("", ""), [(name, value) for name, value in _described(delivery, show_recipient) if value])
    click.echo()
    print_table(
        ("TIME", "SOURCE", "EVENT", "DETAILS"),
        [(_moment(event.occurred_at), event.source.value, event.kind, _details(event)) for event in timeline],
    )
    if content:
        click.echo()
        print_content(said)


@deliveries.command("list")
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
    found = ledger.find(_database(), after=behind, limit=limit, **chosen)
    if output_format == JSON:
        print_json(deliveries=[_as_json(delivery, show_recipient) for delivery in found])
        return
    head = ("ID", "CREATED", "TENANT", "STREAM", "STATUS", "IN DOUBT", "OUTCOME", "ATTEMPTS", "LAST ERROR")
    rows = [
        (
            str(delivery.id),
            _moment(delivery.created_at),
            delivery.tenant,
            delivery.stream,
            delivery.status.value,
            "yes" if delivery.in_doubt else "",
            delivery.outcome or "",
            str(delivery.attempts),
            delivery.last_error or "",
            *([delivery.recipient] if show_recipient else []),
        )
        for delivery in found
    ]
    print_table((*head, "RECIPIENT") if show_recipient else head, rows)


@deliveries.command()
@format_option
def counts(output_format: str) -> None:
    """Count deliveries by tenant and status."""
    from mailglass.ledger import deliveries as ledger

    found = ledger.counts(_database())
    if output_format == JSON:
        print_json(counts=found)
        return
    rows = [
        (tenant, status, str(found[tenant][status]))
        for tenant in sorted(found)
        for status in STATUSES
        if status in found[tenant]
    ]
    print_table(("TENANT", "STATUS", "DELIVERIES"), rows)


deliveries.add_command(moving.cancel)
deliveries.add_command(moving.release)
deliveries.add_command(rescheduling.reschedule)
deliveries.add_command(restoring.hold)
deliveries.add_command(restoring.search)
deliveries.add_command(settle.uncertain)
deliveries.add_command(settle.settle)


def _database() -> Database:
    from mailglass.ledger.database import get_database

    return get_database(get_settings().require_database())


def _content(database: Database, delivery: Delivery, actor: str) -> dict[str, Any] | None:
    """Return what a delivery says, without the bytes of its files; the audit knows who has looked."""
    from mailglass.ledger import audit
    from mailglass.ledger import deliveries as ledger

    if not get_settings().show_content:
        raise ConfigError("show_content", "is not set, so nobody is shown what was said", "Set show_content = true")
    audit.record(database, actor, "deliveries.show_content", delivery.tenant, [delivery.id], 1)
    content = ledger.content_of(database, delivery)
    return None if content is None else without_files(content)


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
    said = [f"{name}={value}" for name in _DETAILS if (value := getattr(event, name)) is not None]
    if event.machine:
        said.append("machine")
    if meaning := _in_words(event.refusal):
        said.append(f"meaning: {meaning}")
    return " ".join(said)


def _as_json(delivery: Delivery, show_recipient: bool) -> dict[str, Any]:
    hidden = {"facts"} if show_recipient else {"facts", "recipient", "recipient_domain"}
    values = {name: value for name, value in asdict(delivery).items() if name not in hidden | {"message_id"}}
    facts = {name: value for name, value in asdict(delivery.facts).items() if not name.startswith("status")}
    return {name: _plain(value) for name, value in (values | {"outcome": delivery.outcome} | facts).items()}


def _event_as_json(event: Event) -> dict[str, Any]:
    values = {name: _plain(value) for name, value in asdict(event).items() if name != "delivery_id"}
    return values | {"refusal_meaning": _in_words(event.refusal) or None}


def _in_words(refusal: str | None) -> str:
    """Return what a receiver meant, for people."""
    if refusal is None:
        return ""
    from mailglass.refusals.consequences import in_words

    return in_words(refusal)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _moment(value: datetime | None) -> str:
    return "" if value is None else value.isoformat(sep=" ", timespec="milliseconds")
