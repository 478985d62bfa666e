"""`mailglass webhooks`: list stored webhooks, and replay dead ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING
from uuid import UUID

import click

from mailglass.cli import database as cli_database
from mailglass.cli.actor import actor_option
from mailglass.cli.moments import format_moment
from mailglass.cli.output import JSON, SAMPLE, format_option, note, print_json, print_sample, print_table
from mailglass.settings import get_settings

if TYPE_CHECKING:
    from mailglass.ledger.database import Database


@click.group()
def webhooks() -> None:
    """List stored webhooks, and replay dead ones."""


@webhooks.command("list")
@click.option("--status", type=click.Choice(["received", "processed", "dead"]), help="Only those that stand there.")
@click.option("--account", help="Only this account's.")
@click.option("--reason", help="Only those with this reason, or one that begins with it and a colon.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most this many.")
@format_option
def list_(status: str | None, account: str | None, reason: str | None, limit: int, output_format: str) -> None:
    """List stored webhooks, oldest first, without their bodies."""
    from mailglass.ledger import webhook_list

    found = webhook_list.find(cli_database.open_database(), status=status, account=account, reason=reason, limit=limit)
    if output_format == JSON:
        rows = [{**asdict(item), "id": str(item.id), "received_at": item.received_at.isoformat()} for item in found]
        print_json(webhooks=rows)
        return
    print_table(
        ("ID", "RECEIVED", "ACCOUNT", "STATUS", "ATTEMPTS", "REASON"),
        [
            (
                str(item.id),
                format_moment(item.received_at, "milliseconds"),
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
    """Replay dead webhooks, by id or filter.

    Mend their cause first.

    Webhooks given by id are replayed at once. With a filter, the first run only counts them. If --yes is interrupted,
    the same command continues.
    """
    from mailglass.ledger import audit

    chosen = {name: value for name, value in (("account", account), ("reason", reason)) if value is not None}
    if bool(ids) == bool(chosen):
        raise click.UsageError("Give ids, or --account or --reason.")
    database = cli_database.open_database()
    found = list(ids) or list(_dead(database, account, reason))
    if chosen and not yes:
        _report_dry_run(found, output_format)
        return
    subject: Sequence[UUID] | dict[str, str] = ids or chosen
    audit.record(database, actor, "webhooks.replay", None, subject)
    count = _replayed(database, found)
    audit.record(database, actor, "webhooks.replay", None, subject, count)
    if output_format == JSON:
        print_json(dry_run=False, found=len(found), sample=[str(key) for key in found[:SAMPLE]], moved=count)
        return
    click.echo(f"{count} replayed.")
    if count < len(found):
        note(f"{len(found) - count} were left alone: they are not dead.")


def _report_dry_run(found: Sequence[UUID], output_format: str) -> None:
    sample = [str(key) for key in found[:SAMPLE]]
    if output_format == JSON:
        print_json(dry_run=True, found=len(found), sample=sample, moved=0)
        return
    print_sample(sample, len(found), "replayed")


def _dead(database: Database, account: str | None, reason: str | None) -> Iterator[UUID]:
    from mailglass.ledger import webhook_list

    after: UUID | None = None
    while page := webhook_list.find(
        database, status="dead", account=account, reason=reason, after=after, limit=cli_database.BATCH
    ):
        yield from (item.id for item in page)
        after = page[-1].id


def _replayed(database: Database, ids: Sequence[UUID]) -> int:
    from mailglass.doorbell import WEBHOOKS
    from mailglass.ledger import webhooks as ledger
    from mailglass.runtime import get_runtime

    count = 0
    for start in range(0, len(ids), cli_database.BATCH):
        count += len(ledger.replay(database, ids[start : start + cli_database.BATCH]))
        if count and get_settings().broker_url.reveal():
            get_runtime().doorbell.ring_task(WEBHOOKS)
        if len(ids) > cli_database.BATCH:
            note(f"{count} of {len(ids)} replayed")
    return count
