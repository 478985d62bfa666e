"""`mailglass suppressions add`, `check` and `remove-domain`. The audit stores addresses as digests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from mailglass import clock
from mailglass.cli import database as cli_database
from mailglass.cli.actor import actor_option
from mailglass.cli.moments import Moment
from mailglass.cli.output import JSON, format_option, note, print_json, print_table
from mailglass.cli.suppressions.entries import HEAD, row_of
from mailglass.mail.streams import Stream

if TYPE_CHECKING:
    from mailglass.errors import SuppressionType

_tenant = click.option("--tenant", required=True, help="The tenant whose mail it stops; * for everybody's.")
_stream = click.option(
    "--stream", type=click.Choice([stream.value for stream in Stream]), help="Only mail of this stream."
)


@click.command()
@click.argument("values", metavar="ADDRESS|DOMAIN...|-", nargs=-1, required=True)
@_tenant
@_stream
@click.option("--expires", type=Moment(), metavar="MOMENT", help="When it ends by itself; default: never.")
@actor_option
@format_option
def add(
    values: tuple[str, ...],
    tenant: str,
    stream: str | None,
    expires: datetime | None,
    actor: str,
    output_format: str,
) -> None:
    """Add addresses or domains to the list.

    `-` reads them from standard input, one a line.

    Existing entries stay as they are, but an entry that expires is replaced by one that expires later or never.
    """
    from mailglass.ledger import audit
    from mailglass.ledger.suppressions import EVERYONE, Suppression, suppress
    from mailglass.routing.scope import check_tenant
    from mailglass.suppressions.editing import audit_subject

    if expires is not None and expires <= clock.now():
        raise click.BadParameter("lies in the past: an entry that has ended stops no mail", param_hint="--expires")
    if tenant != EVERYONE:
        check_tenant(tenant)
    parsed = _parsed(_given(values), stream)
    database = cli_database.open_database()
    subject = audit_subject([value for value, _ in parsed], stream)
    audit.record(database, actor, "suppressions.add", tenant, subject)
    written = 0
    entries = [
        Suppression(tenant, value, "manual", "manual", scope, stream or "", expires_at=expires)
        for value, scope in parsed
    ]
    for start in range(0, len(entries), cli_database.BATCH):
        written += suppress(database, entries[start : start + cli_database.BATCH])
    audit.record(database, actor, "suppressions.add", tenant, subject, written)
    if output_format == JSON:
        print_json(given=len(parsed), added=written)
    else:
        click.echo(f"{written} added.")
        if written < len(parsed):
            note(f"{len(parsed) - written} stood on the list already.")


@click.command("remove-domain")
@click.argument("domain")
@click.option("--tenant", required=True, help="The tenant of the list; * for the one that binds everybody.")
@actor_option
@format_option
def remove_domain(domain: str, tenant: str, actor: str, output_format: str) -> int:
    """Remove a domain from the list.

    Entries of its addresses stay. Exits with 1 if it was not on the list.
    """
    from mailglass.errors import SuppressionType
    from mailglass.ledger import audit
    from mailglass.ledger.suppressions import unsuppress

    ((value, scope),) = _parsed([domain], None)
    if scope is not SuppressionType.DOMAIN:
        raise click.UsageError("Give a domain; `remove` is for an address.")
    database = cli_database.open_database()
    audit.record(database, actor, "suppressions.remove", tenant, {"domain": value})
    removed = unsuppress(database, tenant, value, scope=scope)
    audit.record(database, actor, "suppressions.remove", tenant, {"domain": value}, int(removed))
    if output_format == JSON:
        print_json(removed=int(removed))
    else:
        click.echo(f"{int(removed)} removed.")
    return 0 if removed else 1


@click.command()
@click.argument("address")
@click.option("--tenant", required=True, help="The tenant that sends the mail.")
@format_option
def check(address: str, tenant: str, output_format: str) -> None:
    """List the entries that suppress an address."""
    from mailglass.ledger.suppressions import suppressions_of
    from mailglass.mail.addresses import parse_address

    entries = suppressions_of(cli_database.open_database(), tenant, parse_address(address, "address"))
    rows = [row_of(entry) for entry in entries]
    if output_format == JSON:
        print_json(entries=[dict(zip(map(str.lower, HEAD), row, strict=True)) for row in rows])
    else:
        print_table(HEAD, rows)


def _given(values: Sequence[str]) -> list[str]:
    if list(values) != ["-"]:
        return list(values)
    return [line.strip() for line in sys.stdin if line.strip()]


def _parsed(values: Sequence[str], stream: str | None) -> list[tuple[str, SuppressionType]]:
    """Return addresses and domains in their normal form, with their scopes; refuse all if one is invalid."""
    from mailglass.errors import MessageError
    from mailglass.suppressions.values import parse_value

    parsed: list[tuple[str, SuppressionType]] = []
    for number, value in enumerate(values, 1):
        try:
            parsed.append(parse_value(value, stream))
        except MessageError as error:
            # the value may be anything, so it is not repeated
            if error.field == "stream":
                raise click.UsageError(f"Number {number} is a domain: --stream goes with addresses.") from None
            raise click.UsageError(f"Number {number} is neither an address nor a domain: {error}") from None
    return parsed
