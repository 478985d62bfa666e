"""`mailglass db`: the ledger's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailglass.cli.actor import actor_option
from mailglass.cli.output import JSON, format_option, note, print_json
from mailglass.settings import get_settings

if TYPE_CHECKING:
    from mailglass.ledger.schema import Version


@click.group()
def db() -> None:
    """Create and migrate the ledger's schema."""


@db.command()
@click.option("--role", metavar="ROLE", help="Also give this role's sessions what a pooler does not pass on.")
@actor_option
@format_option
def upgrade(role: str | None, actor: str, output_format: str) -> int:
    """Bring the schema to the newest revision. Safe to run from several places at once.

    With --role the role that workers and producers connect as gets the planner's settings and UTC for its sessions in
    this database (ALTER ROLE ... IN DATABASE ... SET), for a database behind a pooler. Where you may not do that, the
    SQL is printed and the command exits with 1.
    """
    from mailglass.ledger import audit, schema
    from mailglass.ledger.database import get_database

    url = get_settings().require_schema_database()
    before = schema.current(url)
    after = schema.upgrade(url)
    if before != after:
        # only now is there an audit for certain
        audit.record(get_database(url), actor, "db.upgrade", None, {"from": before, "to": after}, 1)
    if output_format == JSON:
        print_json(before=before, revision=after, head=schema.HEAD)
    elif after > schema.HEAD:
        click.echo(f"The schema is at revision {after}, newer than this version's ({schema.HEAD}): nothing to do.")
    elif before == after:
        click.echo(f"The schema is at revision {after} already.")
    else:
        click.echo(f"The schema is at revision {after} now; it was {_named(before)}.")
    return 0 if role is None else _prepare_role(url, role)


def _prepare_role(url: str, role: str) -> int:
    """Give a role's sessions what startup parameters give without a pooler; print the SQL where that is refused."""
    from mailglass.ledger import schema
    from mailglass.ledger.pooler import role_statements
    from mailglass.settings.servers import database_server

    statements = role_statements(role, database_server(url).database)
    refusal = schema.execute(url, statements)
    if refusal is None:
        note(f"Sessions of {role} in this database have the settings from their next connection on.")
        return 0
    note(f"The database refused to change the role ({refusal}). Have somebody run who may:")
    for statement in statements:
        click.echo(f"{statement};")
    return 1


@db.command()
@format_option
def current(output_format: str) -> None:
    """Print the schema's revision."""
    from mailglass.ledger import schema

    revision = schema.current(get_settings().require_schema_database())
    if output_format == JSON:
        print_json(revision=revision, head=schema.HEAD)
    else:
        click.echo(revision or "none")


@db.command()
@format_option
def check(output_format: str) -> None:
    """Check whether this version can work with the schema.

    Exits with 1 and the remedy if not. A schema that is newer than this version is fine unless it says otherwise.
    """
    from mailglass.ledger import schema

    _print_usable(schema.check(get_settings().require_schema_database()), output_format)


@db.command()
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds to wait at most.",
)
@format_option
def wait(timeout: float, output_format: str) -> None:
    """Wait until this version can work with the schema.

    For containers that start beside the one that runs `mailglass db upgrade`: it waits for the database to be reached
    and for the schema to be upgraded. Exits with 1 and the remedy when the time is up, and at once where the schema is
    too new for this version.
    """
    from mailglass.ledger import schema

    url = get_settings().require_schema_database()
    _print_usable(schema.wait(url, timeout, lambda reason: note(f"waiting: {reason}")), output_format)


@db.command("grants")
@click.argument("role", type=click.Choice(["producer", "worker", "web", "suppressions", "reader"]))
@click.option("--to", "name", metavar="NAME", help="The role in the database.  [default: mailglass_ROLE]")
@format_option
def grants_(role: str, name: str | None, output_format: str) -> None:
    """Print the grants that a kind of process needs.

    A producer calls deliver_later and deliver_many. A worker is a Celery worker, beat, or a process that calls
    deliver(). Web is `mailglass web`. `suppressions` is what an application needs that edits the list, beside what else
    it is. A reader counts what waits, and sees no address. The command connects to nothing: run its output as the
    schema's owner, and again after each upgrade.
    """
    from mailglass.ledger.grants import Role, sql

    lines = sql(Role(role), name or f"mailglass_{role}")
    if output_format == JSON:
        print_json(role=role, sql=lines)
    else:
        click.echo("\n".join(lines))


def _print_usable(found: Version, output_format: str) -> None:
    from mailglass.ledger import schema

    if output_format == JSON:
        print_json(ok=True, revision=found.revision, head=schema.HEAD)
    elif found.revision == schema.HEAD:
        click.echo(f"The schema is at revision {found.revision}, as this version needs it.")
    else:
        click.echo(f"The schema is at revision {found.revision}, which this version ({schema.HEAD}) can work with.")


def _named(revision: str | None) -> str:
    return "missing" if revision is None else f"at revision {revision}"
