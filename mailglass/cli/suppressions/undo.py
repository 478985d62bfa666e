"""`mailglass suppressions undo`: remove all entries that match a filter."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from mailglass.cli.actor import actor_option
from mailglass.cli.output import JSON, format_option, note, print_json, progress_bar
from mailglass.cli.suppressions.entries import chosen_filter, filter_options


@click.command()
@filter_options
@click.option("--at", "names", multiple=True, metavar="ACCOUNT", help="Off this account's provider's list, too.")
@click.option("--force", is_flag=True, help="Complaints, too.")
@click.option("--yes", is_flag=True, help="Remove them; without it they are only counted.")
@actor_option
@format_option
def undo(names: tuple[str, ...], force: bool, yes: bool, actor: str, output_format: str, **given: Any) -> None:
    """Remove all entries that match a filter, as after an incident that bounced a whole domain.

    The first run only counts them, and --yes removes them in batches. What a provider lists or says of the time before
    does not bring them back. If the command is interrupted, the same command removes the rest.
    """
    from mailglass.errors import MessageError
    from mailglass.routing.scope import ANY_TENANT
    from mailglass.suppressions.bulk import remove_many

    chosen = chosen_filter(given).given()
    tenant = chosen.pop("tenant", ANY_TENANT)
    try:
        with progress_bar("removed") as show:
            counts = remove_many(
                tenant=tenant,
                at=names,
                force=force,
                dry_run=not yes,
                actor=actor,
                progress=None if show is None else lambda counts: show(counts.removed),
                **chosen,
            )
    except MessageError as error:
        raise click.UsageError(str(error)) from None
    if output_format == JSON:
        print_json(dry_run=not yes, **asdict(counts))
        return
    click.echo(f"{counts.removed} {'removed' if yes else 'would be removed'}.")
    if counts.kept:
        note(f"{counts.kept} complaints stay: --force removes them.")
    for name, done in counts.accounts.items():
        note(f"{name}: {done} off its provider's list" if isinstance(done, int) else f"{name}: {done}")
    if not yes:
        note("Nothing was changed: add --yes to do it.")
