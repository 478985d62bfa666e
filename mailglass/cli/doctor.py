"""`mailglass doctor`: tell from the source whether webhooks reach mailglass."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailglass.cli.output import JSON, format_option, print_json

if TYPE_CHECKING:
    from mailglass.wiring.findings import Finding

_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "cannot_diagnose": "magenta"}
_SUMMARY = ("pass", "fail", "cannot_diagnose")


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path("."))
@format_option
def doctor(directory: Path, output_format: str) -> int:
    """Tell from an application's source whether webhooks reach mailglass.

    Reads the source below DIRECTORY (default: here) and imports nothing of it. Finds where mailglass is mounted in
    Django, Flask, FastAPI, Starlette or Litestar, and anything before it that would change or refuse the raw body.
    Needs neither settings nor servers.

    Exits with 0 if it is wired, 1 if it is not, 2 if that cannot be told.

    \b
    mailglass doctor
    mailglass doctor src/shop --format json
    """
    from mailglass.wiring.doctor import diagnose

    diagnosis = diagnose(directory)
    if output_format == JSON:
        print_json(
            exit_code=diagnosis.exit_code,
            summary=diagnosis.counts,
            findings=[asdict(finding) for finding in diagnosis.findings],
        )
        return diagnosis.exit_code
    for finding in diagnosis.findings:
        _print(finding)
    counts = " ".join(f"{name}={diagnosis.counts[name]}" for name in _SUMMARY)
    click.echo(f"mailglass doctor: {counts}")
    return diagnosis.exit_code


def _print(finding: Finding) -> None:
    mark = click.style(f"[{finding.status.value}]", fg=_COLOURS[finding.status.value])
    place = f" ({finding.place})" if finding.place else ""
    click.echo(f"{mark} {finding.id}: {finding.observed}{place}")
    for line in (finding.effect, finding.remedy):
        if line:
            click.echo(f"    {line}")
