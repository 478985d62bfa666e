"""The actor of a command: every command that changes something takes `--as`, for the audit."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_LONGEST = 200


def actor_option(command: F) -> F:
    """Add `--as NAME`, the name for the audit, as the parameter `actor`."""
    return click.option(
        "--as",
        "actor",
        metavar="NAME",
        callback=_named,
        help="Your name in the audit; default: the operating system's user and host.",
    )(command)


def whoami() -> str:
    """Return the operating system's user and host; the user's number if it has no name, as in many containers."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid{os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"


def _named(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    if value is None:
        return whoami()
    if not value.strip() or len(value) > _LONGEST or not value.isprintable():
        raise click.BadParameter(f"give 1 to {_LONGEST} printable characters")
    return value
