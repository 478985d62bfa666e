"""The lab's SparkPost: transmissions, its suppression list, and webhooks in batches."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mailglass.testing.lab import searching
from mailglass.testing.lab.accounts import LabAccount, take_secrets
from mailglass.testing.lab.fates import Happening
from mailglass.testing.lab.hanging_up import HANG_UP
from mailglass.testing.lab.weather import LabMail, Weather
from mailglass.testing.lab.world import World

TOKEN_HEADER: Final = "x-messagesystems-webhook-token"  # noqa: S105 - a header's name
SECRETS: Final = {
    "key": "",
    "username": "lab",
    "password": "lab-webhook-password",
    "token": "",
    "header_value": "",
}
"""Options of an account and their defaults."""

_MESSAGE, _TRACK = "message_event", "track_event"
_EVENTS: Final[Mapping[Happening, tuple[str, dict[str, Any]]]] = {
    Happening.QUEUED: (_MESSAGE, {"type": "injection"}),
    Happening.DROPPED: (
        "gen_event",
        {
            "type": "generation_rejection",
            "error_code": "554",
            "bounce_class": "25",
            "raw_reason": "554 5.7.1 recipient address suppressed due to customer policy",
        },
    ),
    Happening.DEFERRED: (
        _MESSAGE,
        {"type": "delay", "bounce_class": "20", "error_code": "451", "raw_reason": "451 4.7.1 Come back later"},
    ),
    Happening.DELIVERED: (_MESSAGE, {"type": "delivery"}),
    Happening.HARD_BOUNCED: (
        _MESSAGE,
        {"type": "bounce", "bounce_class": "10", "error_code": "550", "raw_reason": "550 5.1.1 No such mailbox here"},
    ),
    Happening.SOFT_BOUNCED: (
        _MESSAGE,
        {"type": "bounce", "bounce_class": "22", "error_code": "552", "raw_reason": "552 5.2.2 The mailbox is full"},
    ),
    Happening.OPENED: (_TRACK, {"type": "open", "user_agent": "lab"}),
    Happening.CLICKED: (_TRACK, {"type": "click", "target_link_url": "https://example.com/lab", "user_agent": "lab"}),
    Happening.COMPLAINED: (_MESSAGE, {"type": "spam_complaint", "fbtype": "abuse"}),
}


@dataclass(frozen=True, eq=False)
class SparkPostLab:
    """One SparkPost account of the lab.

    Attributes:
        world: where it stands.
        account: what its webhooks are posted as.
        key: the API key it asks for; "": any.
        username: of webhooks with Basic authentication.
        password: of webhooks with Basic authentication.
        token: a bearer token, which its webhooks carry instead where it is set.
        header_value: a header's value, which its webhooks carry instead where it is set.
        suppressed: what stands on its suppression list, by address and kind of mail.
    """

    world: World
    account: str
    key: str
    username: str
    password: str
    token: str
    header_value: str
    suppressed: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    bundle: ClassVar[int] = 100
    stop_status: ClassVar[int | None] = None

    @classmethod
    def open(cls, world: World, account: LabAccount) -> SparkPostLab:
        """Open an account of this lab."""
        known = take_secrets(account, **SECRETS)
        return cls(
            world,
            account.name,
            known["key"],
            known["username"],
            known["password"],
            known["token"],
            known["header_value"],
        )

    def public(self) -> Mapping[str, str]:
        """Return the values that a client needs and that the lab chose itself."""
        return {}

    def routes(self) -> list[Route]:
        """Its part of the HTTP server."""
        suppressions = "/api/v1/suppression-list"
        return [
            Route("/api/v1/transmissions/", self._send, methods=["POST"]),
            Route("/api/v1/events/message", self._search, methods=["GET"]),
            Route(suppressions, self._page, methods=["GET"]),
            Route(f"{suppressions}/", self._add, methods=["PUT"]),
            Route(f"{suppressions}/{{address:str}}", self._delete, methods=["DELETE"]),
        ]

    def sign(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove a webhook's body."""
        if self.token:
            return {"authorization": f"Bearer {self.token}"}
        if self.header_value:
            return {TOKEN_HEADER: self.header_value}
        credentials = base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")
        return {"authorization": f"Basic {credentials}"}

    def pack(self, events: list[dict[str, Any]]) -> tuple[bytes, Mapping[str, str]]:
        """Return the body of these events and its content type."""
        body = json.dumps(events).encode()
        # the same batch has the same id at every try
        batch = hashlib.blake2b(body, digest_size=16).hexdigest()
        return body, {"content-type": "application/json", "x-messagesystems-batch-id": batch, **self.sign(body)}

    def event(self, mail: LabMail, message_id: str, what: Happening, moment: float) -> dict[str, Any] | None:
        """Return the provider's event for this happening, or None where it tells none."""
        name, details = _EVENTS[what]
        event = {
            "event_id": str(random.getrandbits(56) + 1),
            "timestamp": str(int(moment)),
            "message_id": hashlib.blake2b(message_id.encode(), digest_size=10).hexdigest(),
            "transmission_id": message_id,
            "rcpt_to": mail.recipient.lower(),
            "raw_rcpt_to": mail.recipient,
            "rcpt_meta": {"mailglass_id": mail.delivery_id} if mail.delivery_id else {},
            "rcpt_tags": [],
            **details,
        }
        return {"msys": {name: event}}

    async def _send(self, request: Request) -> Response:
        if not self._knows(request):
            return _error(401, "", "Unauthorized.")
        body = await request.body()
        found = _object(body)
        mail = self._mail(found, len(body))
        if mail is None:
            return _error(422, "1400", "required field is missing")
        await asyncio.sleep(self.world.latency)
        match self.world.refusal([mail]):
            case Weather.THROTTLE_ONCE:
                return _error(429, "", "Too many requests")
            case Weather.SERVER_ERROR_ONCE:
                return _error(503, "1900", "Message generation module not available")
        kind = "transactional" if found.get("options", {}).get("transactional") else "non_transactional"
        if (mail.recipient.lower(), kind) in self.suppressed:
            return _error(
                400, "1902", "Message generation rejected", "recipient address suppressed due to customer policy"
            )
        transmission = str(random.getrandbits(56) + 1)
        if not self.world.accept(self, [(mail, transmission)]):
            return HANG_UP
        counts = {"total_accepted_recipients": len(found["recipients"]), "total_rejected_recipients": 0}
        return JSONResponse({"results": {"id": transmission, **counts}})

    async def _search(self, request: Request) -> Response:
        if not self._knows(request):
            return _error(401, "", "Unauthorized.")
        return searching.sparkpost(self.world.archive, self.account, request)

    async def _page(self, request: Request) -> Response:
        if not self._knows(request):
            return _error(401, "", "Unauthorized.")
        limit = min(int(request.query_params.get("limit", "1000")), 10_000)
        cursor = request.query_params.get("cursor", "initial")
        start = 0 if cursor == "initial" else int(cursor)
        rows = list(self.suppressed.values())
        links = []
        if start + limit < len(rows):
            query = urlencode({"cursor": start + limit, "limit": limit})
            links = [{"href": f"/api/v1/suppression-list?{query}", "rel": "next"}]
        return JSONResponse({"results": rows[start : start + limit], "links": links, "total_count": len(rows)})

    async def _add(self, request: Request) -> Response:
        if not self._knows(request):
            return _error(401, "", "Unauthorized.")
        rows = _object(await request.body()).get("recipients") or []
        bad = [row for row in rows if "@" not in row["recipient"]]
        if bad or not 0 < len(rows) <= 10_000:
            return _error(400, "", f"PUT body contains {len(bad)} invalid or malformed recipient(s)")
        created = datetime.now(UTC).isoformat(timespec="seconds")
        for row in rows:
            more = {"source": "Manually Added", "created": created, "updated": created}
            self.suppressed[row["recipient"].lower(), row["type"]] = row | more
        return JSONResponse({"results": {"message": "Suppression List successfully updated"}})

    async def _delete(self, request: Request) -> Response:
        if not self._knows(request):
            return _error(401, "", "Unauthorized.")
        address = request.path_params["address"].lower()
        rows = [key for key in self.suppressed if key[0] == address]
        if not rows:
            return _error(404, "", "Recipient could not be found")
        if any(self.suppressed[key]["source"] == "Compliance" for key in rows):
            return _error(403, "", "Recipient could not be removed - Compliance")
        for key in rows:
            del self.suppressed[key]
        return Response(status_code=204)

    def _knows(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        return bool(given) and (not self.key or hmac.compare_digest(given.encode(), self.key.encode()))

    def _mail(self, found: dict[str, Any], size: int) -> LabMail | None:
        people, content = found.get("recipients"), found.get("content")
        if not isinstance(people, list) or not people or not isinstance(content, dict):
            return None
        recipient = str((people[0].get("address") or {}).get("email"))
        if "@" not in recipient or "from" not in content or not (content.get("text") or content.get("html")):
            return None
        delivery_id = str((people[0].get("metadata") or {}).get("mailglass_id") or "")
        return LabMail(self.account, delivery_id, recipient, str(content.get("subject") or ""), size)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _error(status: int, code: str, message: str, description: str = "") -> JSONResponse:
    fields = {"message": message, "code": code, "description": description}
    return JSONResponse({"errors": [{key: value for key, value in fields.items() if value}]}, status)
