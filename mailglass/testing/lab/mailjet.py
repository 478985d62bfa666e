"""The lab's Mailjet: `/v3.1/send` with a verdict per message, and webhooks with HTTP Basic credentials."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mailglass.testing.lab import searching
from mailglass.testing.lab.accounts import LabAccount, take_secrets
from mailglass.testing.lab.fates import Happening
from mailglass.testing.lab.hanging_up import HANG_UP
from mailglass.testing.lab.weather import LabMail, Weather
from mailglass.testing.lab.world import World

MAX_BATCH: Final = 50
MAX_RECIPIENTS: Final = 50
SECRETS: Final = {"key": "", "secret": "", "username": "lab", "password": "lab-webhook-password", "version": "2"}
"""Options of an account and their defaults."""

_EVENTS: Final[Mapping[Happening, dict[str, Any]]] = {
    Happening.DROPPED: {"event": "blocked", "error_related_to": "mailjet", "error": "preblocked"},
    Happening.DEFERRED: {
        "event": "bounce",
        "blocked": False,
        "hard_bounce": False,
        "error_related_to": "domain",
        "error": "greylisted",
    },
    Happening.DELIVERED: {"event": "sent", "smtp_reply": "sent (250 2.0.0 OK - lab)"},
    Happening.HARD_BOUNCED: {
        "event": "bounce",
        "blocked": True,
        "hard_bounce": True,
        "error_related_to": "recipient",
        "error": "user unknown",
        "comment": "550 5.1.1 No such mailbox here",
    },
    Happening.SOFT_BOUNCED: {
        "event": "bounce",
        "blocked": False,
        "hard_bounce": False,
        "error_related_to": "recipient",
        "error": "quota exceeded",
        "comment": "552 5.2.2 The mailbox is full",
    },
    Happening.OPENED: {"event": "open", "agent": "lab"},
    Happening.CLICKED: {"event": "click", "url": "https://example.com/lab", "agent": "lab"},
    Happening.COMPLAINED: {"event": "spam", "source": "lab"},
}


@dataclass(frozen=True, eq=False)
class MailjetLab:
    """One Mailjet account of the lab.

    Attributes:
        world: where it stands.
        account: what its webhooks are posted as.
        key: the API key it asks for; "": any.
        secret: its secret.
        username: of its webhooks.
        password: of its webhooks.
        bundle: how many events one webhook carries: 1 as version 1 of the event API, more as version 2.
    """

    world: World
    account: str
    key: str
    secret: str
    username: str
    password: str
    bundle: int
    stop_status: ClassVar[int | None] = None

    @classmethod
    def open(cls, world: World, account: LabAccount) -> MailjetLab:
        """Open an account of this lab."""
        known = take_secrets(account, **SECRETS)
        bundle = 1 if known.pop("version") == "1" else 100
        return cls(world, account.name, **known, bundle=bundle)

    def public(self) -> Mapping[str, str]:
        """Return the values that a client needs and that the lab chose itself."""
        return {}

    def routes(self) -> list[Route]:
        """Its part of the HTTP server."""
        return [
            Route("/v3.1/send", self._send, methods=["POST"]),
            Route("/v3/REST/message", self._search, methods=["GET"]),
        ]

    def sign(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove a webhook's body."""
        return {"authorization": _basic(self.username, self.password)}

    def pack(self, events: list[dict[str, Any]]) -> tuple[bytes, Mapping[str, str]]:
        """Return the body of these events and its content type."""
        body = json.dumps(events[0] if self.bundle == 1 else events).encode()
        return body, {"content-type": "application/json", **self.sign(body)}

    def event(self, mail: LabMail, message_id: str, what: Happening, moment: float) -> dict[str, Any] | None:
        """Return the provider's event for this happening, or None where it tells none."""
        if what not in _EVENTS:
            return None
        return {
            "time": int(moment),
            "MessageID": int(message_id),
            "Message_GUID": str(uuid4()),
            "email": mail.recipient,
            "mj_campaign_id": 0,
            "mj_contact_id": 1,
            "customcampaign": "",
            "CustomID": mail.delivery_id,
            "Payload": "",
            **_EVENTS[what],
        }

    async def _send(self, request: Request) -> Response:
        if not self._knows(request.headers.get("authorization", "")):
            return _error(401, "mj-0015", "API key authentication/authorization failure.")
        body = await request.body()
        try:
            found = json.loads(body)
        except ValueError:
            return _error(400, "mj-0002", "The JSON is malformed.")
        items = found.get("Messages") if isinstance(found, dict) else None
        if not isinstance(items, list) or not 0 < len(items) <= MAX_BATCH:
            return _error(400, "mj-0008", f"Messages must be an array of at most {MAX_BATCH}.")
        await asyncio.sleep(self.world.latency)
        mails = [self._mail(item, len(body) // len(items)) for item in items]
        match self.world.refusal(mail for mail in mails if mail):
            case Weather.THROTTLE_ONCE:
                return HTMLResponse("<html><body>Rate limit exceeded</body></html>", 429)
            case Weather.SERVER_ERROR_ONCE:
                return _error(500, "", "Something went wrong on the server's side.")
        return self._answer(items, mails, sandbox=found.get("SandboxMode") is True)

    async def _search(self, request: Request) -> Response:
        if not self._knows(request.headers.get("authorization", "")):
            return _error(401, "mj-0015", "API key authentication/authorization failure.")
        return searching.mailjet(self.world.archive, self.account, request)

    def _answer(self, items: list[Any], mails: list[LabMail | None], *, sandbox: bool) -> Response:
        ids = [0 if sandbox else random.getrandbits(62) + 1 for _ in mails]
        taken = [(mail, str(number)) for mail, number in zip(mails, ids, strict=True) if mail and not sandbox]
        if not self.world.accept(self, taken):
            return HANG_UP
        verdicts = [
            _success(item, number) if mail else _failure() for item, mail, number in zip(items, mails, ids, strict=True)
        ]
        return JSONResponse({"Messages": verdicts}, 200 if all(mails) else 400)

    def _knows(self, authorization: str) -> bool:
        if not self.key:
            return authorization.startswith("Basic ")
        return hmac.compare_digest(authorization.encode(), _basic(self.key, self.secret).encode())

    def _mail(self, item: Any, size: int) -> LabMail | None:
        if not isinstance(item, dict):
            return None
        to = [str(person.get("Email")) for person in item.get("To") or []]
        copies = [*(item.get("Cc") or []), *(item.get("Bcc") or [])]
        sender = str((item.get("From") or {}).get("Email"))
        if len(to) + len(copies) > MAX_RECIPIENTS or not to or not all("@" in address for address in (*to, sender)):
            return None
        if not (item.get("TextPart") or item.get("HTMLPart")):
            return None
        return LabMail(self.account, str(item.get("CustomID") or ""), to[0], str(item.get("Subject") or ""), size)


def _basic(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode('ascii')}"


def _success(item: dict[str, Any], number: int) -> dict[str, Any]:
    def people(field: str, first: int) -> list[dict[str, Any]]:
        return [
            {"Email": person["Email"], "MessageUUID": str(uuid4()), "MessageID": first and first + place}
            for place, person in enumerate(item.get(field) or [])
        ]

    return {
        "Status": "success",
        "CustomID": item.get("CustomID", ""),
        "To": people("To", number),
        "Cc": people("Cc", number and number + 100),
        "Bcc": people("Bcc", number and number + 200),
    }


def _failure() -> dict[str, Any]:
    error = {
        "ErrorIdentifier": str(uuid4()),
        "ErrorCode": "mj-0013",
        "StatusCode": 400,
        "ErrorMessage": "An address is invalid, or a part of the message is missing.",
        "ErrorRelatedTo": ["To[0].Email"],
    }
    return {"Status": "error", "Errors": [error]}


def _error(status: int, code: str, message: str) -> JSONResponse:
    fields = {"ErrorIdentifier": str(uuid4()), "StatusCode": status, "ErrorMessage": message}
    return JSONResponse(fields | {"ErrorCode": code} if code else fields, status)
