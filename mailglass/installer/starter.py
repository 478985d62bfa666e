"""First files of an application that sends mail: settings, an example of its environment, a mail with its template."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Final

from mailglass.installer import managed
from mailglass.installer.conflicts import conflict
from mailglass.installer.plan import Action, Step
from mailglass.installer.source import Source, read

SETTINGS: Final = "mailglass.toml"
ENVIRONMENT: Final = ".env.example"
MAILS: Final = "mails.py"
TEMPLATE: Final = "templates/mails/welcome.html"
ENV_BLOCK: Final = "env"

_SETTINGS: Final = """\
# Settings of mailglass, read from the working directory or from where MAILGLASS_CONFIG points.
# `mailglass config check` tells you whether they are in order.

default_from = "Example <mail@example.com>"

# One account is one way out. This one hands every mail to a mail server on the same machine.
[accounts.relay]
provider = "smtp"
host = "localhost"
port = 25
security = "none"

# A server that asks for a password is reached with TLS. Secrets are references: env:NAME or file:PATH.
#
# [accounts.relay]
# provider = "smtp"
# host = "smtp.example.net"
# username = "mail@example.com"
# password = "env:SMTP_PASSWORD"

# A provider posts its webhooks to https://your.host/mailglass/webhooks/postmark
#
# [accounts.postmark]
# provider = "postmark"
# server_token = "env:POSTMARK_SERVER_TOKEN"
# webhook_username = "postmark"
# webhook_passwords = ["env:POSTMARK_WEBHOOK_PASSWORD"]

# The first route that matches a mail says which accounts may send it.
[[routes]]
accounts = ["relay"]
"""
_ENVIRONMENT: Final = (
    "# The ledger, which records every mail and its events: a PostgreSQL database",
    "MAILGLASS_DATABASE_URL=postgresql://mail@localhost/mail",
    "# The broker of the Celery workers: Redis, Valkey or RabbitMQ",
    "MAILGLASS_BROKER_URL=redis://localhost/0",
    "# Secrets that mailglass.toml refers to, such as",
    "# SMTP_PASSWORD=",
    "# POSTMARK_SERVER_TOKEN=",
    "# POSTMARK_WEBHOOK_PASSWORD=",
)
_VARIABLE: Final = "MAILGLASS_DATABASE_URL"
_MAILS: Final = '''\
"""Mails of the application.

Send one where it is due:

    from mailglass import deliver_later

    deliver_later.delay(Welcome(to="ada@example.com", context={"name": "Ada"}))
"""

from mailglass import Mailable


class Welcome(Mailable):
    """The first mail to a new customer."""

    subject = "Welcome, {{ name }}"
    html_template = "mails/welcome.html"
'''
_TEMPLATE: Final = """\
<!doctype html>
<html>
  <head>
    <style>
      body { font-family: sans-serif; color: #222222; }
    </style>
  </head>
  <body>
    <p>Hello {{ name }},</p>
    <p>welcome.</p>
  </body>
</html>
"""


def steps(root: Path, home: str, settings: str | None = None) -> list[Step]:
    """Return the steps that write the first files. A file that is there stays as it is.

    Args:
        root: the project.
        home: the file beside which the mails stand, relative to the project.
        settings: the file that has mailglass's settings already, or None.

    Raises:
        ConfigError: `.env.example` cannot be read.
    """
    first = [_created(root, SETTINGS, managed.file(_SETTINGS))] if settings is None else []
    return [*first, _environment(root), *_mail(root, PurePosixPath(home))]


def _created(root: Path, path: str, content: bytes) -> Step:
    if not os.path.lexists(root / path):
        return Step(Action.CREATE, path, "is new", None, content)
    before = read(root, path) if (root / path).is_file() else b""
    detail = "is as it was written" if _is_ours(before) else "is there, and stays as it is"
    return Step(Action.KEEP, path, detail, before, before)


def _environment(root: Path) -> Step:
    """Return the step of `.env.example`: a file of its own, or a block at the end of the one that is there."""
    whole = managed.file("".join(f"{line}\n" for line in _ENVIRONMENT))
    if not (root / ENVIRONMENT).is_file():
        return _created(root, ENVIRONMENT, whole)
    raw = read(root, ENVIRONMENT)
    source = Source.read(ENVIRONMENT, raw)
    blocks = [piece for piece in managed.pieces(source, python=False) if piece.name == ENV_BLOCK]
    lines = managed.block(ENV_BLOCK, _ENVIRONMENT)
    if not all(piece.intact for piece in blocks):
        return conflict(root, ENVIRONMENT, ENV_BLOCK, lines)
    bare = managed.without(source, blocks)
    if [piece.body for piece in blocks] == [_ENVIRONMENT] or _VARIABLE in bare.text:
        return Step(Action.KEEP, ENVIRONMENT, "names the variables", raw, raw)
    return Step(Action.CHANGE, ENVIRONMENT, "names the variables", raw, bare.insert({len(bare.lines): lines}).encode())


def _mail(root: Path, home: PurePosixPath) -> list[Step]:
    """Return the steps of the first mail and its template, which are written together or not at all."""
    mails, template = str(home.parent / MAILS), str(home.parent / TEMPLATE)
    package = str(home.parent / PurePosixPath(MAILS).stem)
    if (root / package).is_dir():
        # the module would never be imported
        return [Step(Action.KEEP, package, "is there, and a first mail has no place beside it")]
    mail = _created(root, mails, managed.file(_MAILS))
    if mail.action is Action.KEEP and not _is_ours(mail.before):
        return [mail]
    made = sum(not (root / parent).exists() for parent in PurePosixPath(template).parents)
    content = managed.file(_TEMPLATE, jinja=True, directories=made)
    page = _created(root, template, content)
    if page.action is Action.KEEP and not _is_ours(page.before):
        return [page]
    # the template first: a mail without one cannot be made
    return [page, mail]


def _is_ours(raw: bytes | None) -> bool:
    mark = managed.file_mark(raw or b"")
    return mark is not None and mark.intact
