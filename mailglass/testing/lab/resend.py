"""The lab's Resend: `/emails` and its batch with idempotency keys, `/suppressions`, webhooks as Svix signs them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parseaddr
from typing import Any, ClassVar, Final
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mailglass.testing.lab.accounts import LabAccount, take_secrets
from mailglass.testing.lab.fates import Happening
from mailglass.testing.lab.hanging_up import HANG_UP
from mailglass.testing.lab.weather import LabMail, Weather
from mailglass.testing.lab.world import World

MAX_BATCH: Final = 100
_HARD: Final = {"type": "Permanent", "subType": "General", "diagnosticCode": ["smtp; 550 5.1.1 No such mailbox here"]}
_SOFT: Final = {"type": "Transient", "subType": "MailboxFull", "diagnosticCode": ["smtp; 452 4.2.2 Mailbox is full"]}
_EVENTS: Final[Mapping[Happening, tuple[str, dict[str, Any]]]] = {
    Happening.QUEUED: ("email.sent", {}),
    Happening.DROPPED: ("email.suppressed", {"suppressed": {"type": "previous_bounce"}}),
    Happening.DEFERRED: ("email.delivery_delayed", {}),
    Happening.DELIVERED: ("email.delivered", {}),
    Happening.HARD_BOUNCED: ("email.bounced", {"bounce": {**_HARD, "message": "The mail was not delivered."}}),
    Happening.SOFT_BOUNCED: ("email.bounced", {"bounce": {**_SOFT, "message": "The mail was not delivered."}}),
    Happening.OPENED: ("email.opened", {}),
    Happening.CLICKED: ("email.clicked", {"click": {"link": "https://example.com/lab", "ipAddress": "192.0.2.1"}}),
    Happening.COMPLAINED: ("email.complained", {}),
}
_ORIGINS: Final = {Happening.HARD_BOUNCED: "bounce", Happening.COMPLAINED: "complaint"}


@dataclass(frozen=True, eq=False)
class ResendLab:
    """One Resend team of the lab.

    Attributes:
        world: where it stands.
        account: what its webhooks are posted as.
        key: the API key it asks for; "": any.
        webhook_secret: signs its webhooks.
        remembered: by idempotency key, what was asked and what was answered; nothing yet while it is worked on.
        listed: the suppression list, by address.
    """

    world: World
    account: str
    key: str = ""
    webhook_secret: str = ""
    remembered: dict[str, tuple[str, Any]] = field(default_factory=dict)
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    bundle: ClassVar[int] = 1
    stop_status: ClassVar[int | None] = None

    @classmethod
    def open(cls, world: World, account: LabAccount) -> ResendLab:
        """Open an account of this lab."""
        made = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode("ascii")
        known = take_secrets(account, key="", webhook_secret=made)
        return cls(world, account.name, known["key"], known["webhook_secret"])

    def public(self) -> Mapping[str, str]:
        """Return the values that a client needs and that the lab chose itself."""
        return {"webhook_secret": self.webhook_secret}

    def routes(self) -> list[Route]:
        """Its part of the HTTP server."""
        return [
            Route("/emails", self._send, methods=["POST"]),
            Route("/emails/batch", self._send_batch, methods=["POST"]),
            Route("/suppressions", self._list, methods=["GET"]),
            Route("/suppressions", self._add, methods=["POST"]),
            Route("/suppressions/batch/{verb}", self._change, methods=["POST"]),
            Route("/suppressions/{address:str}", self._remove, methods=["DELETE"]),
        ]

    def sign(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove a webhook's body."""
        return {}

    def pack(self, events: list[dict[str, Any]]) -> tuple[bytes, Mapping[str, str]]:
        # a webhook keeps its id when it is tried again, and gets another time
        """Return the body of these events and its content type."""
        (event,) = events
        body = json.dumps(event["body"]).encode()
        timestamp = str(int(time.time()))
        key = base64.b64decode(self.webhook_secret.removeprefix("whsec_"))
        signature = hmac.digest(key, f"{event['id']}.{timestamp}.".encode() + body, "sha256")
        signed = base64.b64encode(signature).decode("ascii")
        # another version stands beside it, as during a change of keys
        signatures = f"v1a,{base64.b64encode(bytes(64)).decode('ascii')} v1,{signed}"
        return body, {"svix-id": event["id"], "svix-timestamp": timestamp, "svix-signature": signatures}

    def event(self, mail: LabMail, message_id: str, what: Happening, moment: float) -> dict[str, Any] | None:
        """Return the provider's event for this happening, or None where it tells none."""
        kind, details = _EVENTS[what]
        if what in _ORIGINS:
            self._suppress(mail.recipient, _ORIGINS[what])
        data = {
            "email_id": message_id,
            "from": "shop@example.org",
            "to": [mail.recipient],
            "subject": mail.subject,
            "created_at": _iso(moment),
            "tags": {"mailglass_id": mail.delivery_id} if mail.delivery_id else {},
            **details,
        }
        return {"id": f"msg_{uuid4().hex}", "body": {"type": kind, "created_at": _iso(moment), "data": data}}

    async def _send(self, request: Request) -> Response:
        return await self._once(request, batch=False)

    async def _send_batch(self, request: Request) -> Response:
        return await self._once(request, batch=True)

    async def _once(self, request: Request, *, batch: bool) -> Response:
        """Answer as before where the key was used before."""
        if refusal := self._stranger(request):
            return refusal
        body = await request.body()
        key = request.headers.get("idempotency-key", "")
        if not key:
            return (await self._take(body, batch=batch))[0]
        asked = hashlib.sha256(request.url.path.encode() + body).hexdigest()
        before, answer = self.remembered.get(key, (asked, None))
        if before != asked:
            return _error(409, "invalid_idempotent_request", "The key was used with another payload.")
        if answer is not None:
            return JSONResponse(answer)
        if key in self.remembered:
            return _error(409, "concurrent_idempotent_requests", "A request with this key is being worked on.")
        self.remembered[key] = (asked, None)
        response, said = await self._take(body, batch=batch)
        if said is None:
            del self.remembered[key]
        else:
            self.remembered[key] = (asked, said)
        return response

    async def _take(self, body: bytes, *, batch: bool) -> tuple[Response, Any]:
        """Return the answer, and what is remembered of it; None where nothing was accepted."""
        try:
            found = json.loads(body)
            items = found if batch else [found]
            mails = [self._mail(item, len(body) // len(items)) for item in items]
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
            return _error(422, "validation_error", "The request is not what this endpoint takes."), None
        if batch and (len(mails) > MAX_BATCH or any("attachments" in item for item in items)):
            return _error(422, "validation_error", "A batch has at most 100 mails and no attachments."), None
        await asyncio.sleep(self.world.latency)
        match self.world.refusal(mails):
            case Weather.THROTTLE_ONCE:
                waits = {"retry-after": "1", "ratelimit-reset": "1"}
                return _error(429, "rate_limit_exceeded", "Too many requests.", waits), None
            case Weather.SERVER_ERROR_ONCE:
                return _error(500, "internal_server_error", "An unexpected error occurred."), None
        ids = [str(uuid4()) for _ in mails]
        said: Any = {"data": [{"id": one} for one in ids]} if batch else {"id": ids[0]}
        answered = self.world.accept(self, zip(mails, ids, strict=True))
        return JSONResponse(said) if answered else HANG_UP, said

    def _mail(self, item: dict[str, Any], size: int) -> LabMail:
        (to,) = item["to"]
        recipient = parseaddr(to)[1]
        if "@" not in recipient or "@" not in item["from"] or not (item.get("text") or item.get("html")):
            raise ValueError("an address is none, or there is no body")
        tags = {pair["name"]: pair["value"] for pair in item.get("tags", ())}
        return LabMail(self.account, str(tags.get("mailglass_id") or ""), recipient, str(item["subject"]), size)

    async def _list(self, request: Request) -> Response:
        if refusal := self._stranger(request):
            return refusal
        entries = list(self.listed.values())
        ids = [entry["id"] for entry in entries]
        after = request.query_params.get("after")
        start = ids.index(after) + 1 if after in ids else 0
        page = entries[start : start + min(int(request.query_params.get("limit", "20")), 100)]
        return JSONResponse({"object": "list", "has_more": start + len(page) < len(entries), "data": page})

    async def _add(self, request: Request) -> Response:
        if refusal := self._stranger(request):
            return refusal
        return self._added([(await request.json())["email"]])

    async def _change(self, request: Request) -> Response:
        if refusal := self._stranger(request):
            return refusal
        addresses = (await request.json())["emails"]
        if request.path_params["verb"] == "add":
            return self._added(addresses)
        gone = [entry for address in addresses if (entry := self.listed.pop(address.lower(), None))]
        return JSONResponse({"data": [{"object": "suppression", "id": entry["id"], "deleted": True} for entry in gone]})

    async def _remove(self, request: Request) -> Response:
        if refusal := self._stranger(request):
            return refusal
        entry = self.listed.pop(request.path_params["address"].lower(), None)
        if entry is None:
            return _error(404, "not_found", "Suppression not found.")
        return JSONResponse({"object": "suppression", "id": entry["id"], "deleted": True})

    def _added(self, addresses: list[str]) -> Response:
        if not 0 < len(addresses) <= MAX_BATCH or not all("@" in address for address in addresses):
            return _error(422, "validation_error", "Give 1 to 100 addresses.")
        made = [self._suppress(address, "manual") for address in addresses]
        return JSONResponse({"data": [{"object": "suppression", "id": entry["id"]} for entry in made]}, 201)

    def _suppress(self, address: str, origin: str) -> dict[str, Any]:
        entry = {
            "object": "suppression",
            "id": str(uuid4()),
            "email": address.lower(),
            "origin": origin,
            "source_id": None,
            "created_at": _iso(time.time()),
        }
        return self.listed.setdefault(address.lower(), entry)

    def _stranger(self, request: Request) -> Response | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            return _error(401, "missing_api_key", "Missing API key in the authorization header.")
        if self.key and not hmac.compare_digest(key.encode(), self.key.encode()):
            return _error(403, "invalid_api_key", "API key is invalid.")
        return None


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(status: int, name: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"statusCode": status, "name": name, "message": message}, status, headers)
