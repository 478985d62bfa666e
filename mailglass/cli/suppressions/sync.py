"""`mailglass suppressions sync`: synchronise lists with the providers'."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from mailglass.cli.output import JSON, format_option, note, print_json, print_table

if TYPE_CHECKING:
    from mailglass.suppressions.sync import SyncReport


@click.command()
@click.argument("names", metavar="[ACCOUNT...]", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@format_option
def sync(names: tuple[str, ...], dry_run: bool, output_format: str) -> int:
    """Synchronise the list with the providers'.

    Pulls the providers' lists and pushes ours, as each account's setting `suppressions` says.

    Without ACCOUNT: every account, except those with `off`. Exits with 1 if one of them failed.
    """
    from mailglass.runtime import close_runtime, get_runtime
    from mailglass.suppressions import sync as syncing

    runtime = get_runtime()
    try:
        reports = [
            syncing.run(
                runtime.settings,
                runtime.database,
                runtime.accounts,
                name,
                budget=math.inf,
                period=timedelta(0),
                dry_run=dry_run,
                progress=_progress,
            )
            for name in names or syncing.accounts_to_sync(runtime.settings, runtime.accounts)
        ]
    finally:
        close_runtime()
    if output_format == JSON:
        print_json(dry_run=dry_run, accounts=[asdict(report) for report in reports])
    else:
        _print(reports, dry_run)
    return 1 if any(report.error is not None for report in reports) else 0


def _progress(report: SyncReport) -> None:
    note(f"{report.account}: {report.pulled} read, {report.new} new, {report.pushed} offered")


def _print(reports: list[SyncReport], dry_run: bool) -> None:
    print_table(("ACCOUNT", "STATUS", "READ", "NEW", "OFFERED", "REFUSED"), [_row(report) for report in reports])
    for report in reports:
        if report.error is not None:
            note(f"{report.account}: {report.error}")
    if dry_run:
        note("Nothing was changed: leave --dry-run out to do it.")


def _row(report: SyncReport) -> tuple[str, ...]:
    figures = (report.pulled, report.new, report.pushed, report.refused)
    return (report.account, report.status.value, *map(str, figures))
