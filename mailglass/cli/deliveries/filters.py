"""Filter options, the same for all commands of `mailglass deliveries`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mailglass.cli.moments import Moment
from mailglass.mail.streams import Stream

F = TypeVar("F", bound=Callable[..., Any])


ACCOUNT = click.option("--account", help="Only those that this account attempted last.")
FILTERS = (
    click.option("--stream", type=click.Choice([stream.value for stream in Stream]), help="Only this stream's."),
    click.option("--mailable", metavar="MODULE:CLASS", help="Only those of this mailable."),
    click.option("--group", type=click.UUID, metavar="ID", help="Only those of one message to several people."),
    click.option("--recipient", metavar="ADDRESS", help="Only those to this address; the audit keeps its digest."),
    ACCOUNT,
    click.option("--reason", help="Only those with this last error; template_failed stands for all of its kinds."),
    click.option(
        "--in-doubt/--not-in-doubt",
        "in_doubt",
        default=None,
        help="Only those that may have been sent, or cannot have.",
    ),
    click.option("--after", "created_after", type=Moment(), metavar="MOMENT", help="Recorded at it or later."),
    click.option("--before", "created_before", type=Moment(), metavar="MOMENT", help="Recorded before it."),
)
DUE = (
    click.option("--due-after", type=Moment(), metavar="MOMENT", help="Due at it or later."),
    click.option("--due-before", type=Moment(), metavar="MOMENT", help="Due before it."),
)
YES = click.option("--yes", is_flag=True, help="With a filter: do it; without this, only say what would be done.")


def options(*given: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds options to a command, in this order."""

    def add(command: F) -> F:
        for option in reversed(given):
            command = option(command)
        return command

    return add
