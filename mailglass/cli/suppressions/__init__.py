"""`mailglass suppressions`: see, edit and synchronise suppression lists."""

from __future__ import annotations

from collections.abc import Mapping

import click

from mailglass.cli import LazyGroup, Row

_HERE = "mailglass.cli.suppressions"
COMMANDS: Mapping[str, Row] = {
    "add": Row(f"{_HERE}.edit:add", "Add addresses or domains to the list."),
    "check": Row(f"{_HERE}.edit:check", "List the entries that suppress an address."),
    "export": Row(f"{_HERE}.csv_files:export", "Write the list to a CSV file."),
    "import": Row(f"{_HERE}.csv_files:import_", "Read a CSV file into the list."),
    "list": Row(f"{_HERE}.entries:list_", "List entries, the newest first."),
    "remove": Row(f"{_HERE}.remove:remove", "Remove an address from the list, and from providers' lists."),
    "remove-domain": Row(f"{_HERE}.edit:remove_domain", "Remove a domain from the list."),
    "show": Row(f"{_HERE}.entries:show", "Show one entry, or all of an address."),
    "sync": Row(f"{_HERE}.sync:sync", "Synchronise the list with the providers'."),
    "undo": Row(f"{_HERE}.undo:undo", "Remove all entries that match a filter."),
}


@click.group(cls=LazyGroup, rows=COMMANDS)
def suppressions() -> None:
    """See, edit and synchronise suppression lists."""
