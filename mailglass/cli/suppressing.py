"""`mailglass suppressions add`, `check` and `remove-domain`: the list by hand. The audit keeps addresses as digests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from mailglass import clock
from mailglass.cli.actor import actor_option
from mailglass.cli.filters import Moment
from mailglass.cli.output import JSON, format_option, note, print_json, print_table
from mailglass.mail.streams import Stream
from mailglass.settings import get_settings

if TYPE_CHECKING:
    from mailglass.errors import SuppressionType
    from mailglass.ledger.database import Database

_BATCH = 1000

_tenant = click.option("--tenant", required=True, help="Whose mail it stops; * for everybody's.")
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
    """Put addresses or domains on the list.

    `-` reads them from standard input, one a line.

    What is on the list already stays as it is, but an entry that ends gives way to one that ends later or never.
    """
    from mailglass.ledger import audit
    from mailglass.ledger.suppressions import EVERYONE, Suppression, suppress
    from mailglass.routing.scope import check_tenant

    if expires is not None and expires <= clock.now():
        raise click.BadParameter("lies in the past: an entry that has ended stops no mail", param_hint="--expires")
    if tenant != EVERYONE:
        check_tenant(tenant)
    found = _parsed(_given(values), stream)
    database = _database()
    subject = _subject([value for value, _ in found], stream)
    audit.record(database, actor, "suppressions.add", tenant, subject)
    written = 0
    for start in range(0, len(found), _BATCH):
        written += suppress(
            database,
            [
                Suppression(
                    tenant=tenant,
                    value=value,
                    reason="manual",
                    source="manual",
                    scope=scope,
                    stream=stream or "",
                    expires_at=expires,
                )
                for value, scope in found[start : start + _BATCH]
            ],
        )
    audit.record(database, actor, "suppressions.add", tenant, subject, written)
    if output_format == JSON:
        print_json(given=len(found), added=written)
    else:
        click.echo(f"{written} added.")
        if written < len(found):
            note(f"{len(found) - written} stood on the list already.")


@click.command("remove-domain")
@click.argument("domain")
@click.option("--tenant", required=True, help="Whose list; * for the one that binds everybody.")
@actor_option
@format_option
def remove_domain(domain: str, tenant: str, actor: str, output_format: str) -> int:
    """Take a domain off the list.

    Entries of its addresses stay. Exits with 1 if it was not on the list.
    """
    from mailglass.errors import SuppressionType
    from mailglass.ledger import audit
    from mailglass.ledger.suppressions import unsuppress

    ((value, scope),) = _parsed([domain], None)
    if scope is not SuppressionType.DOMAIN:
        raise click.UsageError("Give a domain; `remove` is for an address.")
    database = _database()
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
@click.option("--tenant", required=True, help="Whose mail.")
@format_option
def check(address: str, tenant: str, output_format: str) -> None:
    """Say which entries stand in the way of an address."""
    from mailglass.ledger.suppressions import suppressions_of
    from mailglass.mail.addresses import parse_address

    found = suppressions_of(_database(), tenant, parse_address(address, "address"))
    rows = [
        (
            entry.scope.value,
            entry.stream,
            entry.tenant,
            entry.reason,
            entry.source,
            entry.account or "",
            _moment(entry.created_at),
            _moment(entry.expires_at),
        )
        for entry in found
    ]
    head = ("SCOPE", "STREAM", "TENANT", "REASON", "SOURCE", "ACCOUNT", "SINCE", "EXPIRES")
    if output_format == JSON:
        print_json(entries=[dict(zip(map(str.lower, head), row, strict=True)) for row in rows])
    else:
        print_table(head, rows)


def _given(values: Sequence[str]) -> list[str]:
    if list(values) != ["-"]:
        return list(values)
    return [line.strip() for line in sys.stdin if line.strip()]


def _parsed(values: Sequence[str], stream: str | None) -> list[tuple[str, SuppressionType]]:
    """What the list compares, with its scope. The first that cannot be read refuses all of them."""
    from mailglass.errors import MessageError, SuppressionType
    from mailglass.mail.addresses import parse_address

    found: list[tuple[str, SuppressionType]] = []
    for number, value in enumerate(values, 1):
        whole_domain = "@" not in value
        try:
            address = parse_address(f"postmaster@{value}" if whole_domain else value, "address")
        except MessageError as error:
            # it may be anything, so it is not repeated
            raise click.UsageError(f"Number {number} is neither an address nor a domain: {error}") from None
        if whole_domain and stream:
            raise click.UsageError(f"Number {number} is a domain: --stream goes with addresses.")
        scope = SuppressionType.ADDRESS_STREAM if stream else SuppressionType.ADDRESS
        found.append((address.domain, SuppressionType.DOMAIN) if whole_domain else (address.key, scope))
    return found


def _subject(values: Sequence[str], stream: str | None) -> dict[str, object]:
    from mailglass.ledger.audit import NAMED_IDS, digest

    digests = " ".join(digest(value) for value in values[:NAMED_IDS])
    return {"values": digests, "others": max(len(values) - NAMED_IDS, 0) or None, "stream": stream}


def _database() -> Database:
    from mailglass.ledger.database import get_database

    return get_database(get_settings().require_database())


def _moment(value: datetime | None) -> str:
    return "" if value is None else value.isoformat(sep=" ", timespec="seconds")
