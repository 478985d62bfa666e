"""`mailglass deliveries cancel` and `release`: by id, or by filter with a dry run first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from mailglass.cli.actor import actor_option
from mailglass.cli.filters import DUE, FILTERS, YES, options
from mailglass.cli.output import JSON, format_option, note, print_json
from mailglass.errors import MailglassError
from mailglass.settings import get_settings

if TYPE_CHECKING:
    from mailglass.ledger.database import Database
    from mailglass.ledger.deliveries import Cancellation, Delivery
    from mailglass.ledger.filters import Selection
    from mailglass.ledger.selection import Preview
    from mailglass.routing import Lane

BATCH = 5000
SAMPLE = 10


@click.command()
@click.argument("ids", metavar="[ID...]", nargs=-1, type=click.UUID)
@click.option("--tenant", required=True, help="Whose they are; others' are left alone.")
@click.option("--status", type=click.Choice(["queued", "held"]), help="Only those that stand there.")
@options(*DUE, *FILTERS, YES)
@actor_option
@format_option
def cancel(ids: tuple[UUID, ...], tenant: str, yes: bool, actor: str, output_format: str, **filters: Any) -> int:
    """Cancel queued or held deliveries, by id or filter.

    By id it is done at once; exits with 1 if one of them could not be taken back. By filter the first run only counts
    them, and --yes takes them back, batch by batch: interrupted, the same command takes back the rest. What may have
    been sent cannot be canceled: it is left and counted apart, and `settle` says what became of it.
    """
    from mailglass.ledger import deliveries as ledger
    from mailglass.ledger import selection
    from mailglass.ledger.audit import Actor

    chosen = selected(ids, tenant, filters)
    database = ledger_of_settings()
    if chosen is None:
        answer = ledger.cancel(database, ids, tenant, actor=Actor(actor, ids))
        return _report_canceled(ids, answer, output_format)
    found, in_doubt = selection.preview_cancel(database, chosen, SAMPLE)
    by = Actor(actor, chosen.described())
    steps = selection.cancel(database, found.selection, actor=by, batch=BATCH) if yes else iter(())
    moved = count_moved((len(step.canceled) for step in steps), found, "canceled")
    finish(found, moved, yes, "canceled", output_format, in_doubt=in_doubt)
    if in_doubt and output_format != JSON:
        note(f"{in_doubt} may have been sent and cannot be canceled; `mailglass deliveries settle` settles them.")
    return 0


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
    """Let held deliveries go again, now: by id, or by filter.

    The first run only says which; --yes releases them. One that is in doubt, because nobody knows whether it was sent,
    may reach its recipient a second time.
    """
    from mailglass.ledger import selection
    from mailglass.ledger.audit import Actor

    chosen = selected(ids, tenant, filters)
    if (chosen is None) != (tenant is None):
        raise click.UsageError("A filter needs --tenant NAME, and ids need no tenant.")
    database = ledger_of_settings()
    if chosen is None:
        _release_these(database, ids, yes, actor, output_format)
        return
    found = selection.preview(database, chosen, selection.RELEASABLE, SAMPLE)
    doubtful = replace(found.selection, in_doubt=True)
    in_doubt = selection.preview(database, doubtful, selection.RELEASABLE, 0).count if chosen.in_doubt is None else 0
    by = Actor(actor, chosen.described())
    steps = selection.release(database, found.selection, actor=by, batch=BATCH) if yes else iter(())
    moved = count_moved((ring(lanes) for lanes in steps), found, "released")
    finish(found, moved, yes, "released", output_format, in_doubt=in_doubt)
    if in_doubt and output_format != JSON:
        note(f"{in_doubt} of them may have been sent before.")


def selected(ids: Sequence[UUID], tenant: str | None, filters: Mapping[str, Any]) -> Selection | None:
    """The filter, or None where ids are given."""
    from mailglass.ledger.filters import Selection

    chosen = Selection(tenant=tenant, **filters)
    if bool(ids) == chosen.narrows:
        raise click.UsageError("Give ids, or at least one filter such as --stream or --status.")
    return chosen if chosen.narrows else None


def ledger_of_settings() -> Database:
    """Return the ledger that the settings name."""
    from mailglass.ledger.database import get_database

    return get_database(get_settings().require_database())


def count_moved(steps: Iterator[int], found: Preview, done: str) -> int:
    """Go through the batches, saying how far it is."""
    moved = 0
    try:
        for count in steps:
            moved += count
            if found.count > BATCH:
                note(f"{moved} of {found.count} {done}")
    except (KeyboardInterrupt, MailglassError):
        note(f"Interrupted: {moved} of {found.count} {done}; the same command goes on with the rest.")
        raise
    return moved


def finish(found: Preview, moved: int, yes: bool, done: str, output_format: str, *, in_doubt: int) -> None:
    """Print what was done, or what would be."""
    sample = [str(key) for key in found.sample]
    if output_format == JSON:
        print_json(dry_run=not yes, found=found.count, in_doubt=in_doubt, sample=sample, moved=moved)
        return
    if yes:
        click.echo(f"{moved} {done}.")
        if moved < found.count:
            note(f"{found.count - moved} were left alone: they were claimed or changed meanwhile.")
        return
    for key in sample:
        click.echo(key)
    if found.count > len(sample):
        note(f"and {found.count - len(sample)} more")
    note(f"{found.count} would be {done}; add --yes to do it.")


def _report_canceled(ids: Sequence[UUID], answer: Cancellation, output_format: str) -> int:
    left = [delivery_id for delivery_id in ids if delivery_id not in answer.canceled]
    if output_format == JSON:
        print_json(
            canceled=[str(key) for key in ids if key in answer.canceled],
            left=[str(key) for key in left],
            in_doubt=[str(key) for key in left if key in answer.in_doubt],
        )
    else:
        click.echo(f"{len(answer.canceled)} canceled.")
        for delivery_id in left:
            if delivery_id in answer.in_doubt:
                note(f"{delivery_id} may have been sent and cannot be canceled: settle it.")
            else:
                note(f"{delivery_id} was left alone: it is not this tenant's, or neither queued nor held.")
    return 1 if left else 0


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


def ring(lanes: Mapping[UUID, Lane]) -> int:
    """Ring what was released, where there is a broker; the pump would find it too. Returns how many there are."""
    from mailglass.runtime import get_runtime

    if lanes and get_settings().broker_url.reveal():
        get_runtime().doorbell.ring(lanes.values())
    return len(lanes)
