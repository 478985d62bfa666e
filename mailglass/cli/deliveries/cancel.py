"""`mailglass deliveries cancel`: by id, or by filter with a dry run first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from mailglass.cli import database as cli_database
from mailglass.cli.actor import actor_option
from mailglass.cli.deliveries.bulk import report, run_batches, selection_of
from mailglass.cli.deliveries.filters import DUE, FILTERS, YES, options
from mailglass.cli.output import JSON, SAMPLE, format_option, note, print_json

if TYPE_CHECKING:
    from mailglass.ledger.deliveries import Cancellation


@click.command()
@click.argument("ids", metavar="[ID...]", nargs=-1, type=click.UUID)
@click.option("--tenant", required=True, help="The tenant that they belong to; others' are left alone.")
@click.option("--status", type=click.Choice(["queued", "held"]), help="Only those that stand there.")
@options(*DUE, *FILTERS, YES)
@actor_option
@format_option
def cancel(ids: tuple[UUID, ...], tenant: str, yes: bool, actor: str, output_format: str, **filters: Any) -> int:
    """Cancel queued or held deliveries, by id or filter.

    Deliveries given by id are canceled at once. The command exits with 1 if one of them cannot be. With a filter, the
    first run only counts them, and --yes cancels them in batches. If it is interrupted, the same command cancels the
    rest. A delivery that may have been sent cannot be canceled: it is counted apart, for `settle`.
    """
    from mailglass.ledger import deliveries as ledger
    from mailglass.ledger import selection
    from mailglass.ledger.audit import Actor

    chosen = selection_of(ids, tenant, filters)
    database = cli_database.open_database()
    if chosen is None:
        result = ledger.cancel(database, ids, tenant, actor=Actor(actor, ids))
        return _report_canceled(ids, result, output_format)
    preview, in_doubt = selection.preview_cancel(database, chosen, SAMPLE)
    by = Actor(actor, chosen.described())
    batches = selection.cancel(database, preview.selection, actor=by, batch=cli_database.BATCH) if yes else iter(())
    changed = run_batches((len(batch.canceled) for batch in batches), preview, "canceled")
    report(preview, changed, yes, "canceled", output_format, in_doubt=in_doubt)
    if in_doubt and output_format != JSON:
        note(f"{in_doubt} may have been sent and cannot be canceled; `mailglass deliveries settle` settles them.")
    return 0


def _report_canceled(ids: Sequence[UUID], result: Cancellation, output_format: str) -> int:
    left = [delivery_id for delivery_id in ids if delivery_id not in result.canceled]
    if output_format == JSON:
        print_json(
            canceled=[str(key) for key in ids if key in result.canceled],
            left=[str(key) for key in left],
            in_doubt=[str(key) for key in left if key in result.in_doubt],
        )
    else:
        click.echo(f"{len(result.canceled)} canceled.")
        for delivery_id in left:
            if delivery_id in result.in_doubt:
                note(f"{delivery_id} may have been sent and cannot be canceled: settle it.")
            else:
                note(f"{delivery_id} was left alone: it is not this tenant's, or neither queued nor held.")
    return 1 if left else 0
