"""`mailglass deliveries`: see, cancel, release, reschedule, search for and settle deliveries."""

from __future__ import annotations

from collections.abc import Mapping

import click

from mailglass.cli import LazyGroup, Row

_HERE = "mailglass.cli.deliveries"
COMMANDS: Mapping[str, Row] = {
    "cancel": Row(f"{_HERE}.cancel:cancel", "Cancel queued or held deliveries, by id or filter."),
    "counts": Row(f"{_HERE}.show:counts", "Count deliveries by tenant and status."),
    "hold": Row(f"{_HERE}.restore:hold", "Hold deliveries that may have been sent, after a restore."),
    "list": Row(f"{_HERE}.show:list_", "List deliveries, newest first."),
    "release": Row(f"{_HERE}.release:release", "Release held deliveries, by id or filter."),
    "reschedule": Row(f"{_HERE}.reschedule:reschedule", "Make queued deliveries due at another moment."),
    "search": Row(f"{_HERE}.restore:search", "Search a provider for held deliveries that are in doubt."),
    "settle": Row(f"{_HERE}.settle:settle", "Settle deliveries that may have been sent."),
    "show": Row(f"{_HERE}.show:show", "Show one delivery and its timeline."),
    "uncertain": Row(f"{_HERE}.settle:uncertain", "List deliveries that may have been sent, oldest first."),
}


@click.group(cls=LazyGroup, rows=COMMANDS)
def deliveries() -> None:
    """See, cancel, release and settle deliveries."""
