"""The lab's Brevo: `/v3/smtp/email` with idempotency keys, its blocked contacts, and webhooks that are not signed."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mailglass.testing.lab import searching
from mailglass.testing.lab.accounts import LabAccount, take_secrets
from mailglass.testing.lab.archive import MOST
from mailglass.testing.lab.fates import Happening
from mailglass.testing.lab.hanging_up import HANG_UP
from mailglass.testing.lab.weather import LabMail, Weather
from mailglass.testing.lab.world import World

KEY_LIFE: Final = 15 * 60.0
_EVENTS: Final[Mapping[Happening, dict[str, Any]]] = {
    Happening.QUEUED: {"event": "request"},
    Happening.DROPPED: {"event": "blocked", "reason": "blocked : due to blacklist user"},
    Happening.DEFERRED: {"event": "deferred", "reason": "451 4.7.1 Come back later"},
    Happening.DELIVERED: {"event": "delivered"},
    Happening.HARD_BOUNCED: {"event": "hard_bounce", "reason": "550 5.1.1 No such mailbox here"},
    Happening.SOFT_BOUNCED: {"event": "soft_bounce", "reason": "452 4.2.2 The mailbox is full"},
    Happening.OPENED: {"event": "opened"},
    Happening.CLICKED: {"event": "click", "link": "https://example.com/lab"},
    Happening.COMPLAINED: {"event": "spam"},
}
_CODES: Final = {Happening.HARD_BOUNCED: "hardBounce", Happening.COMPLAINED: "contactFlaggedAsSpam"}


@dataclass(frozen=True, eq=False)
class BrevoLab:
    """One Brevo account of the lab.

    Attributes:
        world: where it stands.
        account: what its webhooks are posted as.
        key: the API key it asks for; "": any.
        username: of its webhooks; "": they bring a bearer token.
        password: of its webhooks, or the token.
        tags: of its latest mails, by message id.
        used: when each idempotency key was first used.
        blocked: its blocked contacts, by address.
    """

    world: World
    account: str
    key: str = ""
    username: str = "lab"
    password: str = ""
    tags: dict[str, list[str]] = field(default_factory=dict)
    used: dict[UUID, float] = field(default_factory=dict)
    blocked: dict[str, dict[str, Any]] = field(default_factory=dict)
    bundle: ClassVar[int] = 1

    @classmethod
    def open(cls, world: World, account: LabAccount) -> BrevoLab:
        """Open an account of this lab."""
        known = take_secrets(account, key="", username="lab", password="lab-password")  # noqa: S106 - of the lab
        return cls(world, account.name, known["key"], known["username"], known["password"])

    def public(self) -> Mapping[str, str]:
        """Return the values that a client needs and that the lab chose itself."""
        return {}

    def routes(self) -> list[Route]:
        """Its part of the HTTP server."""
        return [
            Route("/v3/smtp/email", self._send, methods=["POST"]),
            Route("/v3/smtp/emails", self._search, methods=["GET"]),
            Route("/v3/smtp/blockedContacts", self._list, methods=["GET"]),
            Route("/v3/smtp/blockedContacts/{address:str}", self._unblock, methods=["DELETE"]),
            Route("/v3/contacts", self._contact, methods=["POST"]),
        ]

    def sign(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove a webhook's body."""
        if not self.username:
            return {"authorization": f"Bearer {self.password}"}
        credentials = base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")
        return {"authorization": f"Basic {credentials}"}

    def gives_up(self, status: int) -> bool:
        """Brevo tries again after a 429 or no answer, and drops the event after any other refusal."""
        return status not in (0, 429)

    def event(self, mail: LabMail, message_id: str, what: Happening, moment: float) -> dict[str, Any] | None:
        """Return the provider's event for this happening, or None where it tells none."""
        if what in _CODES:
            self._block(mail.recipient, _CODES[what])
        named = {"X-Mailin-custom": json.dumps({"mailglass_id": mail.delivery_id})} if mail.delivery_id else {}
        return {
            "id": 1,
            "email": mail.recipient,
            "message-id": message_id,
            "subject": mail.subject,
            "date": "2026-01-01 00:00:00",
            "ts": int(moment),
            "ts_event": int(moment),
            "ts_epoch": int(moment * 1000),
            **named,
            **_EVENTS[what],
        }

    async def _send(self, request: Request) -> Response:
        if refusal := self._stranger(request):
            return refusal
        body = await request.body()
        try:
            found = json.loads(body)
            mail, key = self._mail(found, len(body)), UUID(found["headers"]["idempotencyKey"])
        except (ValueError, LookupError, TypeError, AttributeError):
            return _error(400, "invalid_parameter", "The request is not what this endpoint takes")
        await asyncio.sleep(self.world.latency)
        if time.monotonic() - self.used.get(key, -KEY_LIFE) < KEY_LIFE:
            return _error(400, "duplicate_request", "The idempotency key was used before")
        match self.world.refusal([mail]):
            case Weather.THROTTLE_ONCE:
                return _error(429, "too_many_requests", "Rate limit reached", {"x-sib-ratelimit-reset": "1"})
            case Weather.SERVER_ERROR_ONCE:
                return _error(500, "internal_error", "An unexpected error occurred")
        self.used[key] = time.monotonic()
        message_id = f"<{datetime.now(UTC):%Y%m%d%H%M}.{random.getrandbits(40)}@smtp-relay.mailin.fr>"
        self.tags[message_id] = list(found.get("tags", ()))
        if len(self.tags) > MOST:
            del self.tags[next(iter(self.tags))]
        if not self.world.accept(self, [(mail, message_id)]):
            return HANG_UP
        return JSONResponse({"messageId": message_id}, 201)

    def _mail(self, found: dict[str, Any], size: int) -> LabMail:
        (to,) = found["to"]
        if "@" not in to["email"] or "@" not in found["sender"]["email"] or not found["htmlContent"]:
            raise ValueError("an address is none, or there is no HTML")
        if any(not item["name"].isascii() or "." not in item["name"] for item in found.get("attachment", ())):
            raise ValueError("an attachment has no name that can be used")
        custom = json.loads(found["headers"]["X-Mailin-custom"])
        return LabMail(self.account, custom["mailglass_id"], to["email"], str(found["subject"]), size)

    async def _search(self, request: Request) -> Response:
        return self._stranger(request) or searching.brevo(self.world.archive, self.account, self.tags, request)

    async def _list(self, request: Request) -> Response:
        if refusal := self._stranger(request):
            return refusal
        limit, offset = (int(request.query_params[name]) for name in ("limit", "offset"))
        if not 0 < limit <= 100:
            return _error(400, "out_of_range", "Limit exceeds max value")
        page = list(self.blocked.values())[offset : offset + limit]
        # as the real one does: no page, no `contacts`
        return JSONResponse({"count": len(self.blocked)} | ({"contacts": page} if page else {}))

    async def _unblock(self, request: Request) -> Response:
        if refusal := self._stranger(request):
            return refusal
        if self.blocked.pop(request.path_params["address"].lower(), None) is None:
            return _error(404, "document_not_found", "Contact does not exist")
        return Response(status_code=204)

    async def _contact(self, request: Request) -> Response:
        if refusal := self._stranger(request):
            return refusal
        found = await request.json()
        if "@" not in found["email"] or not found["updateEnabled"] or not found["smtpBlacklistSender"]:
            return _error(400, "invalid_parameter", "The contact is not valid")
        self._block(found["email"], "adminBlocked")
        return JSONResponse({"id": len(self.blocked)}, 201)

    def _block(self, address: str, code: str) -> None:
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry = {"email": address, "senderEmail": "", "reason": {"code": code, "message": code}, "blockedAt": moment}
        self.blocked.setdefault(address.lower(), entry)

    def _stranger(self, request: Request) -> Response | None:
        key = request.headers.get("api-key", "")
        if key and (not self.key or hmac.compare_digest(key.encode(), self.key.encode())):
            return None
        return _error(401, "unauthorized", "Key not found")


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"code": code, "message": message}, status, headers)
