"""`mailglass webhooks`: which are kept, and another life for dead ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING
from uuid import UUID

import click

from mailglass.cli.actor import actor_option
from mailglass.cli.output import JSON, format_option, note, print_json, print_table
from mailglass.settings import get_settings

if TYPE_CHECKING:
    from mailglass.ledger.database import Database

_BATCH = 1000
_SAMPLE = 10


@click.group()
def webhooks() -> None:
    """See which webhooks are kept; replay dead ones."""


@webhooks.command("list")
@click.option("--status", type=click.Choice(["received", "processed", "dead"]), help="Only those that stand there.")
@click.option("--account", help="Only this account's.")
@click.option("--reason", help="Only those with this reason, or one that begins with it and a colon.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most this many.")
@format_option
def list_(status: str | None, account: str | None, reason: str | None, limit: int, output_format: str) -> None:
    """List stored webhooks, oldest first, without their bodies."""
    from mailglass.ledger import webhook_list

    found = webhook_list.find(_database(), status=status, account=account, reason=reason, limit=limit)
    if output_format == JSON:
        rows = [{**asdict(item), "id": str(item.id), "received_at": item.received_at.isoformat()} for item in found]
        print_json(webhooks=rows)
        return
    print_table(
        ("ID", "RECEIVED", "ACCOUNT", "STATUS", "ATTEMPTS", "REASON"),
        [
            (
                str(item.id),
                item.received_at.isoformat(sep=" ", timespec="milliseconds"),
                item.account,
                item.status,
                str(item.attempts),
                item.reason or "",
            )
            for item in found
        ],
    )


@webhooks.command()
@click.argument("ids", metavar="[ID...]", nargs=-1, type=click.UUID)
@click.option("--account", help="All dead ones of this account.")
@click.option("--reason", help="All dead ones with this reason, or one that begins with it and a colon.")
@click.option("--yes", is_flag=True, help="With a filter: do it; without this, only say what would be done.")
@actor_option
@format_option
def replay(
    ids: tuple[UUID, ...], account: str | None, reason: str | None, yes: bool, actor: str, output_format: str
) -> None:
    """Process dead webhooks again.

    By id or by filter, once it is mended why they could not be understood.

    By id it is done at once. By filter the first run only counts them; interrupted, the same command goes on.
    """
    from mailglass.ledger import audit

    chosen = {name: value for name, value in (("account", account), ("reason", reason)) if value is not None}
    if bool(ids) == bool(chosen):
        raise click.UsageError("Give ids, or --account or --reason.")
    database = _database()
    found = list(ids) or list(_dead(database, account, reason))
    if chosen and not yes:
        _say_what_would_be(found, output_format)
        return
    subject: Sequence[UUID] | dict[str, str] = ids or chosen
    audit.record(database, actor, "webhooks.replay", None, subject)
    count = _replayed(database, found)
    audit.record(database, actor, "webhooks.replay", None, subject, count)
    if output_format == JSON:
        print_json(dry_run=False, found=len(found), sample=[str(key) for key in found[:_SAMPLE]], moved=count)
        return
    click.echo(f"{count} replayed.")
    if count < len(found):
        note(f"{len(found) - count} were left alone: they are not dead.")


def _say_what_would_be(found: Sequence[UUID], output_format: str) -> None:
    sample = [str(key) for key in found[:_SAMPLE]]
    if output_format == JSON:
        print_json(dry_run=True, found=len(found), sample=sample, moved=0)
        return
    for key in sample:
        click.echo(key)
    if len(found) > len(sample):
        note(f"and {len(found) - len(sample)} more")
    note(f"{len(found)} would be replayed; add --yes to do it.")


def _database() -> Database:
    from mailglass.ledger.database import get_database

    return get_database(get_settings().require_database())


def _dead(database: Database, account: str | None, reason: str | None) -> Iterator[UUID]:
    from mailglass.ledger import webhook_list

    after: UUID | None = None
    while page := webhook_list.find(database, status="dead", account=account, reason=reason, after=after, limit=_BATCH):
        yield from (item.id for item in page)
        after = page[-1].id


def _replayed(database: Database, ids: Sequence[UUID]) -> int:
    from mailglass.doorbell import WEBHOOKS
    from mailglass.ledger import webhooks as ledger
    from mailglass.runtime import get_runtime

    count = 0
    for start in range(0, len(ids), _BATCH):
        count += len(ledger.replay(database, ids[start : start + _BATCH]))
        if count and get_settings().broker_url.reveal():
            get_runtime().doorbell.ring_task(WEBHOOKS)
        if len(ids) > _BATCH:
            note(f"{count} of {len(ids)} replayed")
    return count
