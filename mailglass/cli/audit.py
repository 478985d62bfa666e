"""`mailglass audit`: actions of people in console and CLI."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mailglass.cli.database import open_database
from mailglass.cli.moments import format_moment
from mailglass.cli.output import JSON, format_option, print_json, print_table

if TYPE_CHECKING:
    from mailglass.ledger.audit import Entry


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most this many.")
@format_option
def audit(limit: int, output_format: str) -> None:
    """List actions of people, newest first. An entry without a count was only begun, or its process died."""
    from mailglass.ledger.audit import entries

    listed = entries(open_database(), limit)
    if output_format == JSON:
        print_json(entries=[_as_json(entry) for entry in listed])
        return
    print_table(("AT", "ACTOR", "ACTION", "TENANT", "COUNT", "OF"), [_row(entry) for entry in listed])


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "action": entry.action,
        "tenant": entry.tenant,
        "detail": entry.detail,
    }


def _row(entry: Entry) -> tuple[str, ...]:
    subject = {name: value for name, value in entry.detail.items() if name != "count"}
    count = str(entry.detail.get("count", ""))
    return (format_moment(entry.at), entry.actor, entry.action, entry.tenant or "", count, json.dumps(subject))
