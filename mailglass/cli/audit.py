"""`mailglass audit`: who did what in console and CLI."""

from __future__ import annotations

import json

import click

from mailglass.cli.output import JSON, format_option, print_json, print_table
from mailglass.settings import get_settings


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most this many.")
@format_option
def audit(limit: int, output_format: str) -> None:
    """List what was done by hand, newest first. An entry without a count was only begun, or its process died."""
    from mailglass.ledger.audit import entries
    from mailglass.ledger.database import get_database

    found = entries(get_database(get_settings().require_database()), limit)
    if output_format == JSON:
        print_json(
            entries=[
                {
                    "id": str(entry.id),
                    "at": entry.at.isoformat(),
                    "actor": entry.actor,
                    "action": entry.action,
                    "tenant": entry.tenant,
                    "detail": entry.detail,
                }
                for entry in found
            ]
        )
        return
    rows = [
        (
            entry.at.isoformat(sep=" ", timespec="seconds"),
            entry.actor,
            entry.action,
            entry.tenant or "",
            str(entry.detail.get("count", "")),
            json.dumps({name: value for name, value in entry.detail.items() if name != "count"}),
        )
        for entry in found
    ]
    print_table(("AT", "ACTOR", "ACTION", "TENANT", "COUNT", "OF"), rows)
