"""`mailglass suppressions list` and `show`, and the options that filter entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailglass.cli import database as cli_database
from mailglass.cli.moments import Moment, format_moment
from mailglass.cli.output import JSON, format_option, note, print_json, print_table
from mailglass.mail.streams import Stream

if TYPE_CHECKING:
    from uuid import UUID

    from mailglass.ledger.suppressions import Suppression

F = TypeVar("F", bound=Callable[..., Any])

HEAD = ("SCOPE", "STREAM", "TENANT", "REASON", "SOURCE", "ACCOUNT", "SINCE", "EXPIRES")
_SCOPES = ("address", "domain", "address_stream")
_REASONS = ("hard_bounce", "complaint", "unsubscribe", "manual", "provider")
_SOURCES = ("webhook", "attempt", "sync", "manual", "import")
_FILTERS = (
    click.option("--tenant", help="Of this tenant's list; * for the one that binds everybody. Default: all lists."),
    click.option("--scope", type=click.Choice(_SCOPES), help="Of addresses, domains, or addresses on one stream."),
    click.option("--reason", type=click.Choice(_REASONS), help="Suppressed for this reason."),
    click.option("--source", type=click.Choice(_SOURCES), help="Learnt from this source."),
    click.option("--stream", type=click.Choice([stream.value for stream in Stream]), help="Of this stream only."),
    click.option("--account", help="Learnt from this account."),
    click.option("--domain", help="Of this domain, and of its addresses."),
    click.option("--after", "created_after", type=Moment(), metavar="MOMENT", help="Suppressed since then."),
    click.option("--before", "created_before", type=Moment(), metavar="MOMENT", help="Suppressed before then."),
    click.option("--expires-after", type=Moment(), metavar="MOMENT", help="That end then or later."),
    click.option("--expires-before", type=Moment(), metavar="MOMENT", help="That end before then."),
    click.option("--live/--ended", default=None, help="That stop mail, or have ended. Default: both."),
)


def filter_options(command: F) -> F:
    """Add the options that filter entries, collected by `chosen_filter`."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def chosen_filter(given: dict[str, Any]) -> Any:
    """Return the filter of the options.

    Raises:
        click.UsageError: one is invalid.
    """
    from mailglass.errors import MailglassError
    from mailglass.routing.scope import ANY_TENANT
    from mailglass.suppressions.listing import make_filter

    tenant = given.pop("tenant")
    try:
        return make_filter(ANY_TENANT if tenant is None else tenant, given)
    except MailglassError as error:
        raise click.UsageError(str(error)) from None


def row_of(entry: Suppression) -> tuple[str, ...]:
    """Return an entry as the cells under `HEAD`."""
    return (
        entry.scope.value,
        entry.stream,
        entry.tenant,
        entry.reason,
        entry.source,
        entry.account or "",
        format_moment(entry.created_at),
        format_moment(entry.expires_at),
    )


@click.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most this many.")
@click.option("--older-than", "before", type=click.UUID, metavar="ID", help="Go on after this entry.")
@format_option
def list_(limit: int, before: UUID | None, output_format: str, **given: Any) -> None:
    """List entries, the newest first.

    The table shows addresses. To count entries, or to read them all, use `export`.
    """
    from mailglass.ledger.suppression_list import newest

    chosen = chosen_filter(given)
    entries = newest(cli_database.open_database(), chosen, before=before, size=limit)
    if output_format == JSON:
        print_json(entries=[_data(entry) for entry in entries])
        return
    print_table(("ID", "VALUE", *HEAD), [(str(entry.id), entry.value, *row_of(entry)) for entry in entries])
    if len(entries) == limit:
        note(f"There may be more: go on with --older-than {entries[-1].id}")


@click.command()
@click.argument("key", metavar="ID|ADDRESS|DOMAIN")
@click.option("--tenant", help="Only of this tenant's list, and of the one that binds everybody.")
@format_option
def show(key: str, tenant: str | None, output_format: str) -> int:
    """Show one entry by its id, or all entries of an address or domain, ended ones too.

    Exits with 1 if there is none.
    """
    found = _found(key, tenant)
    if output_format == JSON:
        print_json(entries=[_data(entry) for entry in found])
    elif found:
        print_table(("ID", *HEAD), [(str(entry.id), *row_of(entry)) for entry in found])
    else:
        note("No entry.")
    return 0 if found else 1


def _found(key: str, tenant: str | None) -> list[Suppression]:
    from uuid import UUID

    from mailglass.errors import MailglassError
    from mailglass.ledger import suppression_list
    from mailglass.suppressions.values import owner, parse_value

    database = cli_database.open_database()
    try:
        entry = suppression_list.get(database, UUID(key))
        return [entry] if entry else []
    except ValueError:
        pass
    try:
        value, _ = parse_value(key)
        whose = None if tenant is None else owner(tenant)
    except MailglassError as error:
        raise click.UsageError(str(error)) from None
    return suppression_list.of_value(database, value, whose)


def _data(entry: Suppression) -> dict[str, str | None]:
    cells: dict[str, str | None] = dict(zip(map(str.lower, HEAD), row_of(entry), strict=True))
    since, expires = entry.created_at, entry.expires_at
    moments = {"since": since.isoformat() if since else None, "expires": expires.isoformat() if expires else None}
    return {"id": str(entry.id), "value": entry.value, **cells, **moments}
