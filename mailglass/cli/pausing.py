"""`mailglass pause` and `resume`: stop a tenant's mail, or one stream of it, and send it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailglass.cli.actor import actor_option
from mailglass.cli.database import open_database
from mailglass.cli.output import JSON, format_option, note, print_json
from mailglass.mail.streams import Stream
from mailglass.settings.values import NAME

if TYPE_CHECKING:
    from mailglass.ledger.database import Database

_TENANT = click.option("--tenant", required=True, help="The tenant that sends the mail.")
_STREAM = click.option(
    "--stream", type=click.Choice([stream.value for stream in Stream]), help="Only this stream of it."
)


@click.command()
@_TENANT
@_STREAM
@actor_option
@format_option
def pause(tenant: str, stream: str | None, actor: str, output_format: str) -> None:
    """Stop a tenant's mail, or one stream of it, at once.

    Mail that is being sent goes out. All other mail is recorded as ever, and no worker claims it until you resume.
    """
    from mailglass.ledger.pauses import pause_lanes

    changed = pause_lanes(_database_for(tenant), tenant, None if stream is None else Stream(stream), actor)
    _report(tenant, stream, "paused", changed, output_format)


@click.command()
@_TENANT
@_STREAM
@actor_option
@format_option
def resume(tenant: str, stream: str | None, actor: str, output_format: str) -> None:
    """Send a tenant's paused mail again. The pause does not count for its age."""
    from mailglass.ledger.pauses import resume_lanes

    changed = resume_lanes(_database_for(tenant), tenant, None if stream is None else Stream(stream), actor)
    _report(tenant, stream, "resumed", changed, output_format)


def _database_for(tenant: str) -> Database:
    if not NAME.match(tenant):
        raise click.BadParameter("not a tenant's name", param_hint="--tenant")
    return open_database()


def _report(tenant: str, stream: str | None, done: str, changed: bool, output_format: str) -> None:
    subject = tenant if stream is None else f"{tenant}, {stream}"
    if output_format == JSON:
        print_json(tenant=tenant, stream=stream, **{done: changed})
    elif changed:
        click.echo(f"{subject}: {done}.")
    else:
        note(f"{subject}: nothing to be {done}.")
