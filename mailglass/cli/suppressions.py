"""`mailglass suppressions`: keep lists in step with the providers', take an address off."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from mailglass.cli import suppressing
from mailglass.cli.actor import actor_option
from mailglass.cli.output import JSON, format_option, note, print_json, print_table
from mailglass.settings import get_settings

if TYPE_CHECKING:
    from mailglass.suppressions.sync import SyncReport


@click.group()
def suppressions() -> None:
    """Keep suppression lists in step, take addresses off."""


for command in (suppressing.add, suppressing.check, suppressing.remove_domain):
    suppressions.add_command(command)


@suppressions.command()
@click.argument("names", metavar="[ACCOUNT...]", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@format_option
def sync(names: tuple[str, ...], dry_run: bool, output_format: str) -> int:
    """Sync the list with the providers'.

    Reads the providers' lists to their ends and offers them ours, as each account's `suppressions` says.

    Without ACCOUNT: every account that does not say `off`. Exits with 1 if one of them failed.
    """
    from mailglass.runtime import close_runtime, get_runtime
    from mailglass.suppressions import sync as room

    runtime = get_runtime()
    try:
        reports = [
            room.run(
                runtime.settings,
                runtime.database,
                runtime.accounts,
                name,
                budget=math.inf,
                period=timedelta(0),
                dry_run=dry_run,
                progress=_progress,
            )
            for name in names or room.accounts_to_sync(runtime.settings)
        ]
    finally:
        close_runtime()
    if output_format == JSON:
        print_json(dry_run=dry_run, accounts=[asdict(report) for report in reports])
    else:
        _print(reports, dry_run)
    return 1 if any(report.error is not None for report in reports) else 0


@suppressions.command()
@click.argument("address", metavar="ADDRESS")
@click.option("--tenant", required=True, help="Whose list; * for the one that binds everybody.")
@click.option("--at", "names", multiple=True, metavar="ACCOUNT", help="Off this account's provider's list, too.")
@click.option("--force", is_flag=True, help="Also where the person has complained.")
@actor_option
@format_option
def remove(address: str, tenant: str, names: tuple[str, ...], force: bool, actor: str, output_format: str) -> int:
    """Take an address off the list.

    It is taken off the providers' lists of the tenant's accounts that push, too.

    An account that only pulls would bring the address back while it stands at its provider: name it with --at. Exits
    with 1 if something stands in the way still.
    """
    from mailglass.mail.addresses import parse_address
    from mailglass.runtime import close_runtime, get_runtime
    from mailglass.suppressions import remove

    runtime = get_runtime()
    try:
        result = remove.remove(
            get_settings(),
            runtime.database,
            runtime.accounts,
            tenant,
            parse_address(address, "ADDRESS"),
            actor=actor,
            at=names,
            force=force,
        )
    finally:
        close_runtime()
    if output_format == JSON:
        print_json(**asdict(result))
    else:
        click.echo(f"{result.removed} removed.")
        if result.kept:
            note(
                f"{result.kept} stand: of the domain, on everybody's list (--tenant '*'), or a complaint, which "
                "--force removes."
            )
        for name, done in result.accounts.items():
            if done is not True:
                note(f"{name}: {done or 'its provider keeps the address on its list'}")
    return 0 if result.is_whole else 1


def _progress(report: SyncReport) -> None:
    note(f"{report.account}: {report.pulled} read, {report.new} new, {report.pushed} offered")


def _print(reports: list[SyncReport], dry_run: bool) -> None:
    print_table(
        ("ACCOUNT", "STATUS", "READ", "NEW", "OFFERED", "REFUSED"),
        [
            (
                report.account,
                report.status.value,
                str(report.pulled),
                str(report.new),
                str(report.pushed),
                str(report.refused),
            )
            for report in reports
        ],
    )
    for report in reports:
        if report.error is not None:
            note(f"{report.account}: {report.error}")
    if dry_run:
        note("Nothing was changed: leave --dry-run out to do it.")
