"""`mailglass completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mailglass.cli import PROGRAM, cli


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  eval "$(mailglass completion bash)"
    zsh:   eval "$(mailglass completion zsh)"
    fish:  mailglass completion fish | source
    """
    writer = get_completion_class(shell)
    assert writer is not None
    click.echo(writer(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
