"""`mailglass preflight`: check a deployment, before it takes mail and after each deploy."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mailglass.cli.output import JSON, format_option, print_json

if TYPE_CHECKING:
    from mailglass.preflight.findings import Finding, Report

_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "cannot_check": "magenta"}


@click.command()
@click.option("--online", is_flag=True, help="Ask each provider whether it accepts the account's credentials.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60.0),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait this long for the broker and for the workers' answers.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0.0, 3600.0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Run again until nothing fails, for this long: right after a deploy, workers still start.",
)
@format_option
def preflight(online: bool, timeout: float, wait: float, output_format: str) -> int:
    """Check a deployment with its configuration in hand.

    Settings and secrets, database, broker, workers, beat, clocks, and whether work is stuck. Changes nothing. Exits
    with 0 if all is well, with 1 if a check failed or could not be made.

    \b
    mailglass preflight
    mailglass preflight --online --wait 60 --format json
    """
    from mailglass import clock
    from mailglass.preflight.run import run
    from mailglass.preflight.surroundings import Surroundings
    from mailglass.runtime import close_runtime
    from mailglass.settings import get_settings

    settings = get_settings()
    deadline = clock.monotonic() + wait
    try:
        while True:
            report = run(Surroundings(settings, online=online, timeout=timeout))
            if report.ok or clock.monotonic() >= deadline:
                break
            time.sleep(min(1.0, max(0.0, deadline - clock.monotonic())))
    finally:
        close_runtime()
    if output_format == JSON:
        print_json(ok=report.ok, summary=report.counts, findings=[asdict(finding) for finding in report.findings])
    else:
        _print(report)
    return 0 if report.ok else 1


def _print(report: Report) -> None:
    for finding in report.findings:
        _print_finding(finding)
    click.echo("mailglass preflight: " + " ".join(f"{name}={count}" for name, count in report.counts.items()))


def _print_finding(finding: Finding) -> None:
    mark = click.style(f"[{finding.status.value}]", fg=_COLOURS[finding.status.value])
    click.echo(f"{mark} {finding.id}: {finding.observed}")
    if finding.remedy:
        click.echo(f"    {finding.remedy}")
