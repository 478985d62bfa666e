"""The lab's Mailgun: `/v3/DOMAIN/messages`, its suppression lists, and webhooks with their proof in the body."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage, Message
from email.parser import BytesParser
from email.policy import HTTP
from email.utils import parseaddr
from typing import Any, ClassVar, Final
from urllib.parse import urlencode
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mailglass.testing.lab import searching
from mailglass.testing.lab.accounts import LabAccount, take_secrets
from mailglass.testing.lab.fates import Happening
from mailglass.testing.lab.hanging_up import HANG_UP
from mailglass.testing.lab.weather import LabMail, Weather
from mailglass.testing.lab.world import World

LISTS: Final = ("bounces", "unsubscribes", "complaints")
_FAILED: Final = {"event": "failed", "severity": "permanent"}
_EVENTS: Final[Mapping[Happening, dict[str, Any]]] = {
    Happening.QUEUED: {"event": "accepted"},
    Happening.DROPPED: {**_FAILED, "reason": "suppress-bounce", "delivery-status": {"code": 605}},
    Happening.DEFERRED: {
        "event": "failed",
        "severity": "temporary",
        "reason": "greylisted",
        "delivery-status": {"code": 451, "message": "4.7.1 Come back later", "attempt-no": 1, "retry-seconds": 300},
    },
    Happening.DELIVERED: {"event": "delivered", "delivery-status": {"code": 250, "message": "OK"}},
    Happening.HARD_BOUNCED: {
        **_FAILED,
        "reason": "bounce",
        "delivery-status": {"code": 550, "enhanced-code": "5.1.1", "message": "5.1.1 No such mailbox here"},
    },
    Happening.SOFT_BOUNCED: {
        **_FAILED,
        "reason": "bounce",
        "delivery-status": {"code": 552, "enhanced-code": "5.2.2", "message": "5.2.2 The mailbox is full"},
    },
    Happening.OPENED: {"event": "opened", "client-info": {"bot": ""}},
    Happening.CLICKED: {"event": "clicked", "url": "https://example.com/lab"},
    Happening.COMPLAINED: {"event": "complained"},
}


@dataclass(frozen=True, eq=False)
class MailgunLab:
    """One Mailgun domain of the lab.

    Attributes:
        world: where it stands.
        account: what its webhooks are posted as.
        key: the API key it asks for; "": any.
        signing_key: of its webhooks.
        lists: what stands on its suppression lists.
    """

    world: World
    account: str
    key: str = ""
    signing_key: str = "lab-signing-key"
    lists: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {name: {} for name in LISTS})
    bundle: ClassVar[int] = 1
    stop_status: ClassVar[int | None] = 406

    @classmethod
    def open(cls, world: World, account: LabAccount) -> MailgunLab:
        """Open an account of this lab."""
        known = take_secrets(account, key="", signing_key="lab-signing-key")
        return cls(world, account.name, known["key"], known["signing_key"])

    def public(self) -> Mapping[str, str]:
        """Return the values that a client needs and that the lab chose itself."""
        return {}

    def routes(self) -> list[Route]:
        """Its part of the HTTP server. As the real one it answers 200 at paths it does not know."""
        return [
            Route("/v3/{domain}/messages", self._send, methods=["POST"]),
            Route("/v3/{domain}/events", self._search, methods=["GET"]),
            Route("/v3/{domain}/{name:str}", self._page, methods=["GET"]),
            Route("/v3/{domain}/{name:str}", self._add, methods=["POST"]),
            Route("/v3/{domain}/{name:str}/{address:str}", self._delete, methods=["DELETE"]),
            Route("/{rest:path}", _magnificent, methods=["GET", "POST"]),
        ]

    def sign(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove a webhook's body."""
        return {}

    def pack(self, events: list[dict[str, Any]]) -> tuple[bytes, Mapping[str, str]]:
        """Return the body of these events and its content type."""
        timestamp, token = str(int(time.time())), secrets.token_hex(25)
        signature = hmac.digest(self.signing_key.encode(), (timestamp + token).encode(), "sha256").hex()
        proof = {"timestamp": timestamp, "token": token, "signature": signature}
        body = json.dumps({"signature": proof, "event-data": events[0]}).encode()
        return body, {"content-type": "application/json"}

    def event(self, mail: LabMail, message_id: str, what: Happening, moment: float) -> dict[str, Any] | None:
        """Return the provider's event for this happening, or None where it tells none."""
        return {
            "id": base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("="),
            "timestamp": moment,
            "recipient": mail.recipient,
            "message": {"headers": {"message-id": message_id.strip("<>"), "to": mail.recipient}},
            "user-variables": {"mailglass_id": mail.delivery_id} if mail.delivery_id else {},
            "tags": [],
            **_EVENTS[what],
        }

    async def _send(self, request: Request) -> Response:
        if not self._knows(request):
            return PlainTextResponse("Forbidden", 401)
        body = await request.body()
        mail = self._mail(_form(request.headers.get("content-type", ""), body), len(body))
        if mail is None:
            return _message(400, "'to' parameter is not a valid address. please check documentation")
        await asyncio.sleep(self.world.latency)
        match self.world.refusal([mail]):
            case Weather.THROTTLE_ONCE:
                return _message(429, "Too many requests", {"retry-after": "1"})
            case Weather.SERVER_ERROR_ONCE:
                return _message(503, "The service is unavailable")
        message_id = f"<{uuid4().hex}@{request.path_params['domain']}>"
        if not self.world.accept(self, [(mail, message_id)]):
            return HANG_UP
        return JSONResponse({"id": message_id, "message": "Queued. Thank you."})

    async def _search(self, request: Request) -> Response:
        if not self._knows(request):
            return PlainTextResponse("Forbidden", 401)
        return searching.mailgun(self.world.archive, self.account, request)

    async def _page(self, request: Request) -> Response:
        if not self._knows(request):
            return PlainTextResponse("Forbidden", 401)
        name = request.path_params["name"]
        if name not in self.lists:
            return await _magnificent(request)
        limit = min(int(request.query_params.get("limit", "100")), 1000)
        after = request.query_params.get("address", "")
        found = sorted(address for address in self.lists[name] if address > after)[:limit]
        query = urlencode({"page": "next", "address": found[-1] if found else after, "limit": limit})
        paging = {"next": f"{request.url.replace(query=query)}"}
        return JSONResponse({"items": [self.lists[name][address] for address in found], "paging": paging})

    async def _add(self, request: Request) -> Response:
        if not self._knows(request):
            return PlainTextResponse("Forbidden", 401)
        name, items = request.path_params["name"], await request.json()
        if name not in self.lists:
            return await _magnificent(request)
        if not 0 < len(items) <= 1000 or any("@" not in item["address"] for item in items):
            return _message(400, "Address is invalid")
        self.lists[name] |= {item["address"]: item for item in items}
        return _message(200, f"{len(items)} addresses have been added to the {name} table")

    async def _delete(self, request: Request) -> Response:
        if not self._knows(request):
            return PlainTextResponse("Forbidden", 401)
        found = self.lists.get(request.path_params["name"], {}).pop(request.path_params["address"], None)
        return _message(200, "Removed") if found else _message(404, "Address not found")

    def _knows(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        expected = base64.b64encode(f"api:{self.key}".encode())
        return scheme == "Basic" and (not self.key or hmac.compare_digest(given.encode(), expected))

    def _mail(self, form: dict[str, str], size: int) -> LabMail | None:
        recipient = parseaddr(form.get("to", ""))[1]
        if "@" not in recipient or "@" not in form.get("from", "") or not ("text" in form or "html" in form):
            return None
        return LabMail(self.account, form.get("v:mailglass_id", ""), recipient, form.get("subject", ""), size)


async def _magnificent(request: Request) -> Response:
    return PlainTextResponse("Mailgun Magnificent API")


def _message(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"message": message}, status, headers)


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """Return the first value of each field, read by another parser than the one that mailglass reads forms with."""
    parser: BytesParser[EmailMessage] = BytesParser(policy=HTTP)
    parsed = parser.parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    form: dict[str, str] = {}
    for part in parsed.get_payload() if parsed.is_multipart() else []:
        if isinstance(part, Message) and not part.get_filename():
            name = str(part.get_param("name", "", "content-disposition"))
            content = part.get_payload(decode=True)
            form.setdefault(name, content.decode("utf-8", "replace") if isinstance(content, bytes) else "")
    return form
