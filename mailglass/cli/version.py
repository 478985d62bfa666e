"""`mailglass version`."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from mailglass.cli.output import JSON, format_option, print_json


@click.command()
@format_option
def version(output_format: str) -> None:
    """Print the version."""
    installed = metadata.version("mailglass")
    if output_format == JSON:
        print_json(version=installed, python=platform.python_version(), celery=metadata.version("celery"))
    else:
        click.echo(f"mailglass {installed}")
