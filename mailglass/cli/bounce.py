"""`mailglass bounce`: the command that mail servers pipe bounces into."""

from __future__ import annotations

import sys
from typing import IO

import click

from mailglass.cli.output import note
from mailglass.errors import MailglassError

# sysexits.h: Postfix, Exim, OpenSMTPD and Dovecot keep the mail and retry after 75 only
EX_DATAERR = 65
EX_TEMPFAIL = 75
_CHUNK = 1024 * 1024


@click.group()
def bounce() -> None:
    """Take in bounces and complaints that come back by mail."""


@bounce.command()
@click.option("--account", required=True, help="The SMTP account that had sent the mail it is about.")
@click.option("--recipient", default="", metavar="ADDRESS", help="The envelope's recipient, as the mail server has it.")
def receive(account: str, recipient: str) -> int:
    """Store one mail, read from standard input.

    For a mail server's pipe. Exits with 0 if the mail is stored, now or before; with 75 if the mail server must retry
    later, because the database is away or the settings are wrong; with 65 if there is no mail.
    """
    raw = _mail_of(sys.stdin.buffer)
    if not raw.strip():
        note("mailglass: no mail on standard input: pipe the message into this command")
        return EX_DATAERR
    _log_quietly()
    try:
        from mailglass.inbound import receive_bounce
        from mailglass.runtime import close_runtime

        try:
            receive_bounce(account, raw, recipient=recipient)
        finally:
            close_runtime()
    except MailglassError as error:
        note(f"mailglass: {error}")
        return EX_TEMPFAIL
    return 0


def _mail_of(stream: IO[bytes]) -> bytes:
    """Read as much of a mail as is stored, and discard the rest, so that the mail server's pipe does not break."""
    from mailglass.bounces.reports import MAX_READ

    raw = stream.read(MAX_READ)
    while stream.read(_CHUNK):
        pass
    return raw


def _log_quietly() -> None:
    """Keep logs out of the output, which mail servers put into their own logs or into a bounce."""
    from mailglass.telemetry import configure_logging

    configure_logging("critical")
