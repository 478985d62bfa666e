"""The mails that the lab's SMTP server took, on a plain page: for who develops an application."""

from __future__ import annotations

import email
import email.policy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage, MIMEPart
from html import escape
from itertools import count
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from mailglass.clock import now

MOST: Final = 500
MOST_BYTES: Final = 64 * 1024 * 1024
# a mail's HTML is shown in a frame of its own, in which nothing runs and nothing is loaded from elsewhere
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data: cid:; frame-src 'self'"
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta name="viewport" content="width=device-width">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ border-bottom: 1px solid #ddd; padding: .3rem .5rem; text-align: left; vertical-align: top; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
iframe {{ border: 1px solid #ddd; height: 30rem; width: 100%; }}
</style></head><body>{body}</body></html>
"""


@dataclass(frozen=True, slots=True)
class Caught:
    """One mail.

    Attributes:
        number: from 1, in the order they came.
        recipients: of the envelope.
        raw: as it came.
    """

    number: int
    at: datetime
    recipients: tuple[str, ...] = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed."""
        return email.message_from_bytes(self.raw, policy=email.policy.default)


class Inbox:
    """The latest mails, at most 500 and 64 MB: older ones are forgotten."""

    def __init__(self) -> None:
        self._caught: deque[Caught] = deque()
        self._numbers = count(1)
        self._bytes = 0

    def keep(self, recipients: Sequence[str], raw: bytes) -> None:
        """Keep a mail that was accepted."""
        self._caught.append(Caught(next(self._numbers), now(), tuple(recipients), raw))
        self._bytes += len(raw)
        while len(self._caught) > MOST or (self._bytes > MOST_BYTES and len(self._caught) > 1):
            self._bytes -= len(self._caught.popleft().raw)

    def routes(self) -> list[Route]:
        """Return the pages: the list, one mail, and its HTML alone."""
        return [
            Route("/mails", self._list, methods=["GET"]),
            Route("/mails/{number:int}", self._show, methods=["GET"]),
            Route("/mails/{number:int}/html", self._html, methods=["GET"]),
            Route("/mails/{number:int}/raw", self._raw, methods=["GET"]),
        ]

    async def _list(self, request: Request) -> Response:
        rows = "".join(
            f'<tr><td><a href="/mails/{item.number}">{item.number}</a></td><td>{item.at:%H:%M:%S}</td>'
            f"<td>{escape(', '.join(item.recipients))}</td><td>{_header(item.message, 'subject')}</td></tr>"
            for item in reversed(self._caught)
        )
        head = "<tr><th></th><th>At (UTC)</th><th>To</th><th>Subject</th></tr>"
        none = "<p>No mail yet. Nothing that is sent from here leaves this machine.</p>"
        return _page("Mails", f"<h1>Mails</h1>{f'<table>{head}{rows}</table>' if rows else none}")

    async def _show(self, request: Request) -> Response:
        item = self._find(request)
        if item is None:
            return _gone()
        message = item.message
        headers = "".join(
            f"<tr><th>{escape(name)}</th><td>{_header(message, name)}</td></tr>" for name in dict.fromkeys(message)
        )
        text, html = message.get_body(("plain",)), message.get_body(("html",))
        parts = [f"<h1>{_header(message, 'subject')}</h1><p><a href='/mails'>All mails</a></p><table>{headers}</table>"]
        if html is not None:
            parts.append(f'<h2>HTML</h2><iframe sandbox="" src="/mails/{item.number}/html"></iframe>')
        if text is not None:
            parts.append(f"<h2>Text</h2><pre>{escape(_content(text))}</pre>")
        files = [escape(part.get_filename() or "unnamed") for part in message.iter_attachments()]
        parts.append(f"<h2>Files</h2><p>{', '.join(files)}</p>" if files else "")
        parts.append(f"<p><a href='/mails/{item.number}/raw'>As it came</a></p>")
        return _page("Mail", "".join(parts))

    async def _html(self, request: Request) -> Response:
        item = self._find(request)
        body = None if item is None else item.message.get_body(("html",))
        if body is None:
            return _gone()
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
        return HTMLResponse(_content(body), headers={"Content-Security-Policy": policy})

    async def _raw(self, request: Request) -> Response:
        item = self._find(request)
        if item is None:
            return _gone()
        return Response(item.raw, media_type="text/plain", headers={"X-Content-Type-Options": "nosniff"})

    def _find(self, request: Request) -> Caught | None:
        number = request.path_params["number"]
        return next((item for item in self._caught if item.number == number), None)


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    page = _PAGE.format(title=title, body=body)
    return HTMLResponse(page, status_code=status, headers={"Content-Security-Policy": _POLICY})


def _gone() -> HTMLResponse:
    return _page("No such mail", "<p>There is no such mail, or not any more. <a href='/mails'>All mails</a></p>", 404)


def _header(message: EmailMessage, name: str) -> str:
    try:
        return escape(", ".join(str(value) for value in message.get_all(name, [])))
    except (ValueError, LookupError, AttributeError, TypeError, IndexError):
        # the standard library's parser gives up on some of what people write
        return "(unreadable)"


def _content(part: MIMEPart) -> str:
    try:
        return str(part.get_content())
    except (LookupError, ValueError):
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
