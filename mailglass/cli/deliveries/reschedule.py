"""`mailglass deliveries reschedule`: by id, or by filter, with a dry run first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click

from mailglass import clock
from mailglass.cli import database as cli_database
from mailglass.cli.actor import actor_option
from mailglass.cli.deliveries.bulk import report, ring, run_batches, selection_of
from mailglass.cli.deliveries.filters import DUE, FILTERS, options
from mailglass.cli.moments import Moment
from mailglass.cli.output import SAMPLE, format_option

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@click.command()
@click.argument("ids", metavar="[ID...]", nargs=-1, type=click.UUID)
@click.option("--tenant", required=True, help="The tenant that they belong to; others' are left alone.")
@click.option("--at", "moment", type=Moment(), metavar="MOMENT", help="Make them due then.")
@click.option("--now", is_flag=True, help="Make them due now.")
@click.option("--status", type=click.Choice(["queued"]), help="All that are queued.")
@options(*DUE, *FILTERS)
@click.option("--yes", is_flag=True, help="Do it; without this, only say what would be done.")
@actor_option
@format_option
def reschedule(
    ids: tuple[UUID, ...],
    tenant: str,
    moment: datetime | None,
    now: bool,
    yes: bool,
    actor: str,
    output_format: str,
    **filters: Any,
) -> None:
    """Make queued deliveries due at another moment.

    The first run only lists them, and --yes reschedules them in batches. Their age counts from the new moment. The
    command leaves out deliveries that a worker has claimed, that expire before, or that their account is asked about.
    """
    from mailglass.ledger import selection
    from mailglass.ledger.audit import Actor
    from mailglass.ledger.filters import Selection

    if (moment is None) != now:
        raise click.UsageError("Give a moment: --at MOMENT, or --now.")
    if moment is not None and moment <= clock.now():
        raise click.UsageError("The moment has passed: use --now.")
    chosen = selection_of(ids, tenant, filters)
    database = cli_database.open_database()
    due_at = moment or _EARLIEST
    if chosen is None:
        chosen = Selection(tenant=tenant, ids=ids)
        subject: Any = ids
    else:
        subject = {**chosen.described(), "to": moment or "now"}
    preview = selection.preview(database, chosen, selection.RESCHEDULABLE, SAMPLE)
    by = Actor(actor, subject)
    batches: Iterator[Any] = iter(())
    if yes:
        batches = selection.reschedule(database, preview.selection, due_at, actor=by, batch=cli_database.BATCH)
    changed = run_batches((ring(lanes) if now else len(lanes) for lanes in batches), preview, "rescheduled")
    report(preview, changed, yes, "rescheduled", output_format, in_doubt=0)
