"""Actions on many deliveries: chosen by id or by filter, counted first, then done in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from mailglass.cli import database
from mailglass.cli.output import JSON, note, print_json, print_sample
from mailglass.errors import MailglassError
from mailglass.settings import get_settings

if TYPE_CHECKING:
    from mailglass.ledger.filters import Selection
    from mailglass.ledger.selection import Preview
    from mailglass.routing import Lane


def selection_of(ids: Sequence[UUID], tenant: str | None, filters: Mapping[str, Any]) -> Selection | None:
    """Return the chosen filter, or None if ids are given.

    Raises:
        click.UsageError: both are given, or neither.
    """
    from mailglass.ledger.filters import Selection

    chosen = Selection(tenant=tenant, **filters)
    if bool(ids) == chosen.narrows:
        raise click.UsageError("Give ids, or at least one filter such as --stream or --status.")
    return chosen if chosen.narrows else None


def run_batches(batches: Iterator[int], preview: Preview, done: str) -> int:
    """Run all batches, and show the progress.

    Args:
        batches: the number of deliveries changed by each.
        preview: the count at the start.
        done: the past participle for messages.

    Returns:
        The number of deliveries changed.
    """
    changed = 0
    try:
        for count in batches:
            changed += count
            if preview.count > database.BATCH:
                note(f"{changed} of {preview.count} {done}")
    except (KeyboardInterrupt, MailglassError):
        note(f"Interrupted: {changed} of {preview.count} {done}; the same command goes on with the rest.")
        raise
    return changed


def report(preview: Preview, changed: int, yes: bool, done: str, output_format: str, **counts: int) -> None:
    """Print what was done, or in a dry run what would be.

    Args:
        preview: the count and a sample at the start.
        changed: the number of deliveries changed.
        yes: whether it was done.
        done: the past participle for messages.
        output_format: human or json.
        counts: more counts for programs.
    """
    sample = [str(key) for key in preview.sample]
    if output_format == JSON:
        print_json(dry_run=not yes, found=preview.count, **counts, sample=sample, moved=changed)
        return
    if yes:
        click.echo(f"{changed} {done}.")
        if changed < preview.count:
            note(f"{preview.count - changed} were left alone: they were claimed or changed meanwhile.")
        return
    print_sample(sample, preview.count, done)


def ring(lanes: Mapping[UUID, Lane]) -> int:
    """Ring the lanes of queued deliveries, if there is a broker; otherwise the pump finds them.

    Returns:
        The number of deliveries.
    """
    from mailglass.runtime import get_runtime

    if lanes and get_settings().broker_url.reveal():
        get_runtime().doorbell.ring(lanes.values())
    return len(lanes)
