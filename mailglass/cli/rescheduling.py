"""`mailglass deliveries reschedule`: by id, or by filter, with a dry run first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click

from mailglass import clock
from mailglass.cli import moving
from mailglass.cli.actor import actor_option
from mailglass.cli.filters import DUE, FILTERS, Moment, options
from mailglass.cli.output import format_option

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@click.command()
@click.argument("ids", metavar="[ID...]", nargs=-1, type=click.UUID)
@click.option("--tenant", required=True, help="Whose they are; others' are left alone.")
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

    The first run only says which; --yes moves them, batch by batch. Their age counts from the new moment. Left alone
    are those that a worker has claimed, that would expire before, or that are asked about again at their account.
    """
    from mailglass.ledger import selection
    from mailglass.ledger.audit import Actor
    from mailglass.ledger.filters import Selection

    if (moment is None) != now:
        raise click.UsageError("Say when: --at MOMENT, or --now.")
    if moment is not None and moment <= clock.now():
        raise click.UsageError("The moment has passed: use --now.")
    chosen = moving.selected(ids, tenant, filters)
    database = moving.ledger_of_settings()
    at = moment or _EARLIEST
    if chosen is None:
        chosen = Selection(tenant=tenant, ids=ids)
        subject: Any = ids
    else:
        subject = {**chosen.described(), "to": moment or "now"}
    found = selection.preview(database, chosen, selection.RESCHEDULABLE, moving.SAMPLE)
    by = Actor(actor, subject)
    steps: Iterator[Any] = iter(())
    if yes:
        steps = selection.reschedule(database, found.selection, at, actor=by, batch=moving.BATCH)
    moved = moving.count_moved((moving.ring(lanes) if now else len(lanes) for lanes in steps), found, "rescheduled")
    moving.finish(found, moved, yes, "rescheduled", output_format, in_doubt=0)
