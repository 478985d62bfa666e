"""`mailglass deliveries hold` and `search`: deliveries that may have been sent before a restore."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from mailglass.cli import database as cli_database
from mailglass.cli.actor import actor_option
from mailglass.cli.deliveries.bulk import report, run_batches
from mailglass.cli.deliveries.filters import ACCOUNT, DUE, FILTERS, options
from mailglass.cli.output import JSON, SAMPLE, format_option, note, print_json
from mailglass.settings import get_settings

if TYPE_CHECKING:
    from mailglass.ledger.filters import Selection
    from mailglass.providers.base import Provider


@click.command()
@click.option("--tenant", help="Only this tenant's.")
@options(*DUE, *FILTERS)
@click.option("--yes", is_flag=True, help="Do it; without this, only say what would be done.")
@actor_option
@format_option
def hold(tenant: str | None, yes: bool, actor: str, output_format: str, **filters: Any) -> None:
    """Hold deliveries that may have been sent, after a restore.

    A restored ledger owes mail again that was sent since its backup. Run this before any worker starts. Held deliveries
    are in doubt: you can search for, settle or release them, but not cancel them. Claimed ones are left out.
    """
    from mailglass.ledger import selection
    from mailglass.ledger.audit import Actor

    chosen = _selected(tenant, filters)
    database = cli_database.open_database()
    preview = selection.preview(database, chosen, selection.HOLDABLE, SAMPLE)
    by = Actor(actor, {"tenant": tenant, **chosen.described()})
    batches = selection.hold(database, preview.selection, actor=by, batch=cli_database.BATCH) if yes else iter(())
    changed = run_batches((len(held) for held in batches), preview, "held")
    report(preview, changed, yes, "held", output_format, in_doubt=0)


@click.command()
@click.option("--account", "searched", required=True, help="The account whose provider is searched.")
@click.option("--tenant", help="Only this tenant's.")
@options(*(option for option in FILTERS if option is not ACCOUNT))
@click.option("--yes", is_flag=True, help="Settle what is found as sent; without this, only say what was found.")
@actor_option
@format_option
def search(searched: str, tenant: str | None, yes: bool, actor: str, output_format: str, **filters: Any) -> int:
    """Search a provider for held deliveries that are in doubt.

    A delivery that the provider knows was sent. The first run only counts, and --yes settles those as sent. The others
    stay held. Exits with 1 if the provider could not answer for all.
    """
    from mailglass.providers.registry import Accounts

    accounts = Accounts(get_settings())
    try:
        provider = accounts.open(searched)
        if not provider.searchable:
            raise click.ClickException(
                f"{searched} cannot be searched: its provider has no search, or it is switched off"
            )
        counts, sample = _search(provider, _selected(tenant, filters, required=False), yes, actor)
    finally:
        accounts.close()
    if output_format == JSON:
        print_json(dry_run=not yes, sample=sample, **{name: counts[name] for name in _COUNTED})
        return 1 if counts["unknown"] else 0
    for key in sample:
        click.echo(key)
    note(
        f"{counts['searched']} searched for: {counts['found']} found, {counts['absent']} not found, "
        f"{counts['unknown']} not answered."
    )
    note(f"{counts['settled']} settled as sent." if yes else "Add --yes to settle what was found as sent.")
    return 1 if counts["unknown"] else 0


_COUNTED = ("searched", "found", "absent", "unknown", "settled")


def _search(provider: Provider, chosen: Selection, yes: bool, actor: str) -> tuple[Counter[str], list[str]]:
    from mailglass.engine.settler import SIZE, search_for
    from mailglass.ledger.audit import Actor
    from mailglass.ledger.settlement import settle_found

    database = cli_database.open_database()
    counts: Counter[str] = Counter()
    sample: list[str] = []
    for page in _pages(chosen, SIZE):
        findings = search_for(provider, page, get_settings().recipients)
        taken = {
            item.id: finding.provider_message_id
            for item, finding in zip(page, findings, strict=True)
            if finding.kind == "found"
        }
        counts["searched"] += len(page)
        counts.update(finding.kind.value for finding in findings)
        sample += [str(key) for key in taken][: SAMPLE - len(sample)]
        if yes and taken:
            by = Actor(actor, list(taken))
            counts["settled"] += len(settle_found(database, taken, provider.account, actor=by))
    return counts, sample


def _pages(chosen: Selection, size: int) -> Any:
    from mailglass.ledger import deliveries
    from mailglass.ledger.lifecycle import Status

    database = cli_database.open_database()
    filters = {**chosen.given(), "status": Status.HELD, "in_doubt": True}
    page = deliveries.find(database, limit=size, **filters)
    while page:
        # what is settled now is no longer held, so the next page is read before
        following = deliveries.find(database, after=page[-1].id, limit=size, **filters)
        yield page
        page = following


def _selected(tenant: str | None, filters: dict[str, Any], required: bool = True) -> Selection:
    from mailglass.ledger.filters import Selection

    chosen = Selection(tenant=tenant, **filters)
    if required and not chosen.narrows:
        raise click.UsageError("Give at least one filter, such as --before MOMENT for all that were recorded by then.")
    return chosen
