"""`mailglass deliveries release`: by id, or by filter, with a dry run first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from mailglass.cli import database as cli_database
from mailglass.cli.actor import actor_option
from mailglass.cli.deliveries.bulk import report, ring, run_batches, selection_of
from mailglass.cli.deliveries.filters import FILTERS, YES, options
from mailglass.cli.output import JSON, SAMPLE, format_option, note, print_json

if TYPE_CHECKING:
    from mailglass.ledger.database import Database
    from mailglass.ledger.deliveries import Delivery


@click.command()
@click.argument("ids", metavar="[ID...]", nargs=-1, type=click.UUID)
@click.option("--status", type=click.Choice(["held"]), help="All that are held.")
@click.option("--tenant", help="With a filter: whose.")
@options(*FILTERS, YES)
@actor_option
@format_option
def release(
    ids: tuple[UUID, ...], tenant: str | None, yes: bool, actor: str, output_format: str, **filters: Any
) -> None:
    """Release held deliveries, by id or filter: they are due at once.

    The first run only lists them, and --yes releases them. A delivery that may have been sent may reach its recipient a
    second time.
    """
    from mailglass.ledger import selection
    from mailglass.ledger.audit import Actor

    chosen = selection_of(ids, tenant, filters)
    if (chosen is None) != (tenant is None):
        raise click.UsageError("A filter needs --tenant NAME, and ids need no tenant.")
    database = cli_database.open_database()
    if chosen is None:
        _release_these(database, ids, yes, actor, output_format)
        return
    preview = selection.preview(database, chosen, selection.RELEASABLE, SAMPLE)
    doubtful = replace(preview.selection, in_doubt=True)
    in_doubt = selection.preview(database, doubtful, selection.RELEASABLE, 0).count if chosen.in_doubt is None else 0
    by = Actor(actor, chosen.described())
    batches = selection.release(database, preview.selection, actor=by, batch=cli_database.BATCH) if yes else iter(())
    changed = run_batches((ring(lanes) for lanes in batches), preview, "released")
    report(preview, changed, yes, "released", output_format, in_doubt=in_doubt)
    if in_doubt and output_format != JSON:
        note(f"{in_doubt} of them may have been sent before.")


def _release_these(database: Database, ids: Sequence[UUID], yes: bool, actor: str, output_format: str) -> None:
    from mailglass.ledger import deliveries as ledger
    from mailglass.ledger.audit import Actor

    held = [delivery.id for delivery in _held_among(database, ids)]
    lanes = ledger.release(database, held, actor=Actor(actor, held)) if yes and held else {}
    ring(lanes)
    done = [str(key) for key in held if key in lanes]
    if output_format == JSON:
        print_json(dry_run=not yes, held=[str(key) for key in held], released=done)
    elif yes:
        click.echo(f"{len(done)} released.")
    else:
        for delivery_id in held:
            click.echo(str(delivery_id))
        note(f"{len(held)} would be released; add --yes to do it.")


def _held_among(database: Database, ids: Sequence[UUID]) -> Iterator[Delivery]:
    from mailglass.ledger import deliveries as ledger

    for delivery_id in dict.fromkeys(ids):
        delivery = ledger.get(database, delivery_id)
        if delivery.status.value == "held":
            yield delivery
        else:
            note(f"{delivery_id} is {delivery.status.value}, not held: left alone.")
