"""The command `mailglass`. It imports a sub-command at its first use, so that it starts fast.

Data goes to standard output, everything else to standard error. Exit codes: 0 success, 1 an error with its remedy,
64 wrong usage (EX_USAGE of sysexits.h), 130 interrupted. Commands document further codes.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from mailglass import __version__
from mailglass.errors import MailglassError

PROGRAM = "mailglass"
EXIT_ERROR = 1
EXIT_USAGE = 64
EXIT_INTERRUPTED = 130
# errors of a full disk, a quota, a closed pipe, a failing device
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE, errno.EIO)


@dataclass(frozen=True, slots=True)
class Row:
    """One sub-command.

    Attributes:
        target: `module:attribute` of a click command.
        summary: its line in `mailglass --help`, shown without loading it.
        extra: the optional dependencies that it needs.
    """

    target: str
    summary: str
    extra: str | None = None


COMMANDS: Mapping[str, Row] = {
    "accounts": Row("mailglass.cli.accounts:accounts", "See accounts, pause and resume them, close their breakers."),
    "audit": Row("mailglass.cli.audit:audit", "List actions of people, newest first."),
    "bounce": Row("mailglass.cli.bounce:bounce", "Take in bounces and complaints that come back by mail."),
    "completion": Row("mailglass.cli.completion:completion", "Print the completion script of a shell."),
    "config": Row("mailglass.cli.config:config", "Check the settings, list the variables."),
    "db": Row("mailglass.cli.db:db", "Create and migrate the ledger's schema."),
    "deliveries": Row("mailglass.cli.deliveries:deliveries", "See, cancel, release and settle deliveries."),
    "demo": Row("mailglass.cli.demo:demo", "Run the main job from end to end on a local stack.", "embedded"),
    "dev": Row("mailglass.cli.dev:dev", "Run a local stack to develop an application against.", "embedded"),
    "doctor": Row("mailglass.cli.doctor:doctor", "Tell from an application's source whether webhooks reach mailglass."),
    "install": Row("mailglass.cli.install:install", "Wire mailglass into an application's source.", "install"),
    "go-live": Row("mailglass.cli.go_live:go_live", "Run the checklist before you go live."),
    "mail-doctor": Row("mailglass.cli.mail_doctor:mail_doctor", "Check whether a domain's mail will be accepted."),
    "domains": Row("mailglass.cli.domains:domains", "List sending domains: their status, and since when."),
    "pause": Row("mailglass.cli.pausing:pause", "Stop a tenant's mail, or one stream of it, at once."),
    "preflight": Row("mailglass.cli.preflight:preflight", "Check a deployment with its configuration in hand."),
    "probe": Row("mailglass.cli.probe:probe", "Tell whether a worker, beat or web process is alive or ready."),
    "resume": Row("mailglass.cli.pausing:resume", "Send a tenant's paused mail again."),
    "secrets": Row("mailglass.cli.secrets:secrets", "See which secrets accounts have, and which may go."),
    "sizing": Row("mailglass.cli.sizing:sizing", "Size a worker for a rate and a provider's latency."),
    "suppressions": Row("mailglass.cli.suppressions:suppressions", "See, edit and synchronise suppression lists."),
    "uninstall": Row("mailglass.cli.install:uninstall", "Take out what install put into an application's source."),
    "version": Row("mailglass.cli.version:version", "Print the version."),
    "web": Row(
        "mailglass.cli.web:web",
        "Serve webhooks at POST /webhooks/[TENANT/]ACCOUNT, liveness at /healthz, readiness at /readyz.",
        "web",
    ),
    "webhooks": Row("mailglass.cli.webhooks:webhooks", "List stored webhooks, and replay dead ones."),
}


class LazyGroup(click.Group):
    """Click group that imports its commands at their first use.

    Args:
        rows: the commands by name.
    """

    def __init__(self, *args: Any, rows: Mapping[str, Row] = COMMANDS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rows = rows

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(self.rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or return None."""
        row = self.rows.get(cmd_name)
        return None if row is None else load(cmd_name, row)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.rows[name].summary) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name without importing it."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=self.rows[name].summary) for name in names]
        return commands + click.Command.shell_complete(self, ctx, incomplete)


def load(name: str, row: Row) -> click.Command:
    """Import a command.

    Raises:
        click.ClickException: its module, or one that it needs, is not installed.
    """
    module, _, attribute = row.target.partition(":")
    try:
        command: click.Command = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise click.ClickException(f"`{PROGRAM} {name}` is not part of this installation of mailglass") from None
        remedy = f'pip install "mailglass[{row.extra}]"' if row.extra else "install mailglass again"
        raise click.ClickException(
            f"`{PROGRAM} {name}` needs the module {error.name}, which is not installed: {remedy}"
        ) from None
    return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The settings file, instead of MAILGLASS_CONFIG or ./mailglass.toml.",
)
@click.option(
    "--color/--no-color", default=None, help="Colour, or none; default: on terminals, unless NO_COLOR is set."
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, config_path: str | None, color: bool | None) -> None:
    """Mail you can see through: deliver transactional e-mail with Celery, and see what became of it."""
    if config_path is not None:
        os.environ["MAILGLASS_CONFIG"] = config_path
    ctx.color = wants_color(os.environ) if color is None else color


def wants_color(environ: Mapping[str, str]) -> bool | None:
    """Return the environment's choice of colour (no-color.org, force-color.org); None: as the terminal is."""
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    return True if environ.get("FORCE_COLOR") else None


def run(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Run one command line.

    Args:
        arguments: its words, without the program's name.
        program: the name that usage messages show.

    Returns:
        The exit code: the command's result if it is an int, else as the module says.
    """
    try:
        result = cli.main(list(arguments), prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        return _unwritable(error)
    except MailglassError as error:
        click.echo(f"{PROGRAM}: {error}", err=True)
        return EXIT_ERROR
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE if isinstance(error, click.UsageError) else error.exit_code
    except click.Abort as abort:
        return EXIT_INTERRUPTED if isinstance(abort.__cause__, KeyboardInterrupt) else EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return result if isinstance(result, int) else 0


def _unwritable(error: OSError) -> int:
    """Report that the output cannot be written, and stop the interpreter from writing at its end."""
    if error.errno != errno.EPIPE:
        click.echo(f"{PROGRAM}: cannot write the output: {os.strerror(error.errno or 0)}", err=True)
    if sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_ERROR


def main() -> None:
    """Run the program and exit with its code."""
    sys.exit(run(sys.argv[1:]))
