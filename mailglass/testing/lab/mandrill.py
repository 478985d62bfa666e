"""The lab's Mandrill: `/messages/send.json`, its rejection list, and signed form posts."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import urlencode
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mailglass.testing.lab import searching
from mailglass.testing.lab.accounts import LabAccount, take_secrets
from mailglass.testing.lab.fates import Happening
from mailglass.testing.lab.hanging_up import HANG_UP
from mailglass.testing.lab.weather import LabMail, Weather
from mailglass.testing.lab.world import World

_EVENTS: Final[Mapping[Happening, tuple[str, dict[str, str]]]] = {
    Happening.QUEUED: ("send", {"state": "sent"}),
    Happening.DEFERRED: ("deferral", {"diag": "451 4.7.1 Come back later"}),
    Happening.DELIVERED: ("delivered", {"diag": "250 2.0.0 OK"}),
    Happening.HARD_BOUNCED: (
        "hard_bounce",
        {"bounce_description": "bad_mailbox", "diag": "smtp;550 5.1.1 No such mailbox here"},
    ),
    Happening.SOFT_BOUNCED: (
        "soft_bounce",
        {"bounce_description": "mailbox_full", "diag": "smtp;552 5.2.2 The mailbox is full"},
    ),
    Happening.OPENED: ("open", {}),
    Happening.CLICKED: ("click", {}),
    Happening.COMPLAINED: ("spam", {}),
}


@dataclass(frozen=True, eq=False)
class MandrillLab:
    """One Mandrill account of the lab.

    Attributes:
        world: where it stands.
        account: what its webhooks are posted as.
        key: the API key it asks for; "": any.
        webhook_key: signs its webhooks.
        rejects: what stands on its rejection list.
    """

    world: World
    account: str
    key: str = ""
    webhook_key: str = "lab-webhook-key"
    rejects: dict[str, dict[str, Any]] = field(default_factory=dict)
    bundle: ClassVar[int] = 100
    stop_status: ClassVar[int | None] = None

    @classmethod
    def open(cls, world: World, account: LabAccount) -> MandrillLab:
        """Open an account of this lab."""
        known = take_secrets(account, key="", webhook_key="lab-webhook-key")
        return cls(world, account.name, known["key"], known["webhook_key"])

    def public(self) -> Mapping[str, str]:
        """Return the values that a client needs and that the lab chose itself."""
        return {"webhook_url": self.world.poster.url(self.account)}

    def routes(self) -> list[Route]:
        """Its part of the HTTP server."""
        return [
            Route("/messages/send.json", self._send, methods=["POST"]),
            Route("/messages/search.json", self._search, methods=["POST"]),
            Route("/rejects/{verb}.json", self._rejects, methods=["POST"]),
        ]

    def sign(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove a webhook's body."""
        return {}

    def pack(self, events: list[dict[str, Any]]) -> tuple[bytes, Mapping[str, str]]:
        """Return the body of these events and its content type."""
        text = json.dumps(events)
        signed = f"{self.world.poster.url(self.account)}mandrill_events{text}"
        signature = base64.b64encode(hmac.digest(self.webhook_key.encode(), signed.encode(), "sha1")).decode("ascii")
        headers = {"content-type": "application/x-www-form-urlencoded", "x-mandrill-signature": signature}
        return urlencode({"mandrill_events": text}).encode(), headers

    def event(self, mail: LabMail, message_id: str, what: Happening, moment: float) -> dict[str, Any] | None:
        """Return the provider's event for this happening, or None where it tells none."""
        if what not in _EVENTS:
            return None
        name, details = _EVENTS[what]
        metadata = {"mailglass_id": mail.delivery_id} if mail.delivery_id else {}
        more = {"url": "https://example.com/lab"} if what is Happening.CLICKED else {}
        message = {"_id": message_id, "email": mail.recipient, "metadata": metadata, "tags": [], **details}
        return {"event": name, "_id": message_id, "ts": moment, "msg": message, **more}

    async def _send(self, request: Request) -> Response:
        body = await request.body()
        found = _object(body)
        if not self._knows(found):
            return _error(401, "Invalid_Key", "Invalid API key")
        mail = self._mail(found, len(body))
        if mail is None:
            return _error(422, "ValidationError", "Validation error: the message lacks a sender, recipient or body")
        await asyncio.sleep(self.world.latency)
        match self.world.refusal([mail]):
            case Weather.THROTTLE_ONCE:
                return _error(429, "RateLimited", "Too many requests", {"retry-after": "1"})
            case Weather.SERVER_ERROR_ONCE:
                return _error(500, "GeneralError", "An unexpected error occurred")
        if self.world.suppresses(mail) or mail.recipient in self.rejects:
            item = {"email": mail.recipient, "status": "rejected", "reject_reason": "hard-bounce", "_id": uuid4().hex}
            return JSONResponse([item])
        message_id = uuid4().hex
        if not self.world.accept(self, [(mail, message_id)]):
            return HANG_UP
        people = found["message"]["to"]
        ids = [message_id, *(uuid4().hex for _ in people[1:])]
        return JSONResponse(
            [
                {"email": person["email"], "status": "sent", "reject_reason": None, "_id": each}
                for person, each in zip(people, ids, strict=True)
            ]
        )

    async def _search(self, request: Request) -> Response:
        found = _object(await request.body())
        if not self._knows(found):
            return _error(401, "Invalid_Key", "Invalid API key")
        return searching.mandrill(self.world.archive, self.account, found)

    async def _rejects(self, request: Request) -> Response:
        found = _object(await request.body())
        if not self._knows(found):
            return _error(401, "Invalid_Key", "Invalid API key")
        verb, address = request.path_params["verb"], str(found.get("email", ""))
        if verb == "list":
            return JSONResponse(list(self.rejects.values())[-1000:])
        if "@" not in address:
            return _error(422, "ValidationError", "Validation error: the address is none")
        if verb == "add":
            created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
            entry = {"reason": "custom", "detail": found.get("comment"), "created_at": created, "expired": False}
            self.rejects[address] = {"email": address, **entry}
            return JSONResponse({"email": address, "added": True})
        if self.rejects.pop(address, None) is None:
            return _error(404, "Invalid_Reject", "The address is not on the list")
        return JSONResponse({"email": address, "deleted": True})

    def _knows(self, found: dict[str, Any]) -> bool:
        given = str(found.get("key") or "")
        return bool(given) and (not self.key or hmac.compare_digest(given.encode(), self.key.encode()))

    def _mail(self, found: dict[str, Any], size: int) -> LabMail | None:
        message = found.get("message")
        people = message.get("to") if isinstance(message, dict) else None
        if not isinstance(message, dict) or not people or not (message.get("text") or message.get("html")):
            return None
        recipient, metadata = str(people[0].get("email")), message.get("metadata") or {}
        if "@" not in recipient or "@" not in str(message.get("from_email")):
            return None
        delivery_id = str(metadata.get("mailglass_id") or "")
        return LabMail(self.account, delivery_id, recipient, str(message.get("subject") or ""), size)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _error(status: int, name: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"status": "error", "code": -1, "name": name, "message": message}, status, headers)
