"""`mailglass go-live`: run the checklist."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailglass.cli.output import JSON, format_option, print_json
from mailglass.errors import ConfigError

if TYPE_CHECKING:
    from mailglass.go_live import Report
    from mailglass.settings import Settings

_COLOURS = {"pass": "green", "fail": "red", "todo": "yellow"}


@click.command("go-live")
@click.option("--resolver", metavar="IP[:PORT]", help="The DNS resolver to ask, instead of the system's.")
@click.option(
    "--project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="PATH",
    help="The application's source, for the wiring of webhooks; default: where mailglass.toml is.",
)
@click.option("--online", is_flag=True, help="Fetch the policy file of MTA-STS too.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60.0),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait this long for the broker and for the workers' answers.",
)
@click.option("--verbose", is_flag=True, help="Show the details of every section.")
@format_option
def go_live(
    resolver: str | None, project: Path | None, online: bool, timeout: float, verbose: bool, output_format: str
) -> int:
    """Run the checklist before you go live.

    Seven sections, a line each: deliverability, webhook wiring, secrets and rotation, queue sizing, per-tenant
    routing, suppression handling, telemetry. Changes nothing. A section that is `todo` waits for a later part of
    mailglass, and is no failure. Exits with 0 if no section failed, with 1 if one did.

    \b
    mailglass go-live
    mailglass go-live --project src/shop --verbose
    mailglass go-live --resolver 192.0.2.53 --format json
    """
    from mailglass.go_live import Site, run
    from mailglass.runtime import close_runtime
    from mailglass.settings import get_settings

    settings = get_settings()
    _check_resolver(settings.domains.resolver if resolver is None else resolver)
    site = Site(settings, resolver=resolver, project=project or _beside(settings), online=online, timeout=timeout)
    try:
        report = run(site)
    finally:
        close_runtime()
    if output_format == JSON:
        print_json(**report.as_json())
    else:
        _print(report, verbose)
    return 0 if report.ok else 1


def _check_resolver(where: str) -> None:
    from mailglass.domains.collector import parse_resolver

    try:
        parse_resolver(where)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _beside(settings: Settings) -> Path | None:
    """Return the directory of the settings file, if it may be an application's source."""
    directory = settings.file.parent if settings.file is not None else None
    return directory if directory is not None and any(directory.glob("*.py")) else None


def _print(report: Report, verbose: bool) -> None:
    from mailglass.go_live.human import lines

    for line in lines(report, verbose=verbose):
        mark = "" if line.status is None else click.style(f"[{line.status}]", fg=_COLOURS[line.status]) + " "
        click.echo(f"{mark}{line.text}")
