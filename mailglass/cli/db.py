"""`mailglass db`: the ledger's schema."""

from __future__ import annotations

import click

from mailglass.cli.actor import actor_option
from mailglass.cli.output import JSON, format_option, print_json
from mailglass.settings import get_settings


@click.group()
def db() -> None:
    """Create and migrate the ledger's schema."""


@db.command()
@actor_option
@format_option
def upgrade(actor: str, output_format: str) -> None:
    """Bring the schema to the newest revision. Safe to run from several places at once."""
    from mailglass.ledger import audit, schema
    from mailglass.ledger.database import get_database

    url = get_settings().require_database()
    before = schema.current(url)
    after = schema.upgrade(url)
    if before != after:
        # only now is there an audit for certain
        audit.record(get_database(url), actor, "db.upgrade", None, {"from": before, "to": after}, 1)
    if output_format == JSON:
        print_json(before=before, revision=after, head=schema.HEAD)
    elif before == after:
        click.echo(f"The schema is at revision {after} already.")
    else:
        click.echo(f"The schema is at revision {after} now; it was {_named(before)}.")


@db.command()
@format_option
def current(output_format: str) -> None:
    """Print the revision that stands."""
    from mailglass.ledger import schema

    found = schema.current(get_settings().require_database())
    if output_format == JSON:
        print_json(revision=found, head=schema.HEAD)
    else:
        click.echo(found or "none")


@db.command()
@format_option
def check(output_format: str) -> None:
    """Say whether this version can work with the schema; exits with 1 and the remedy if not."""
    from mailglass.ledger import schema

    schema.check(get_settings().require_database())
    if output_format == JSON:
        print_json(ok=True, revision=schema.HEAD, head=schema.HEAD)
    else:
        click.echo(f"The schema is at revision {schema.HEAD}, as this version needs it.")


def _named(revision: str | None) -> str:
    return "missing" if revision is None else f"at revision {revision}"
