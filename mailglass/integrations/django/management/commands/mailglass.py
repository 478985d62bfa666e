"""`manage.py mailglass ...`: every command of `mailglass`, with the settings of the project."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

PROGRAM: Final = "manage.py mailglass"
# Django reads these itself, wherever they stand
_OF_DJANGO: Final = ("--settings", "--pythonpath")


class Command(BaseCommand):
    """The command."""

    help = "Run a command of mailglass."
    # a command such as `db upgrade` is what mends what they find
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's own declaration

    def add_arguments(self, parser: Any) -> None:
        """Take the words of mailglass's command line as they are, for `call_command`."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def run_from_argv(self, argv: list[str]) -> None:
        """Hand the command line on: mailglass reports its errors itself, and its exit codes are the same here."""
        from mailglass.cli import run

        sys.exit(run(_own(argv[2:]), PROGRAM))

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """Print the help of mailglass, for `manage.py help mailglass`."""
        from mailglass.cli import run

        run(["--help"], PROGRAM)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run a command for `call_command("mailglass", "db", "upgrade")`.

        Raises:
            CommandError: it ended with another exit code than 0.
        """
        from mailglass.cli import run

        words = [str(word) for word in (*args, *options["arguments"])]
        code = run(words, PROGRAM)
        if code:
            raise CommandError(f"mailglass {' '.join(words[:2])} ended with {code}", returncode=code)


def _own(arguments: Sequence[str]) -> list[str]:
    """Return the words without Django's own options, up to the name of mailglass's command."""
    words = list(arguments)
    kept: list[str] = []
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in _OF_DJANGO:
            del words[:1]
        elif not word.startswith(tuple(f"{option}=" for option in _OF_DJANGO)):
            kept.append(word)
            if word == "--config" and words:
                kept.append(words.pop(0))
    return kept + words
