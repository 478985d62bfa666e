"""The lab's Postmark: `/email` and `/email/batch`, suppressions, and webhooks with HTTP Basic credentials."""

from __future__ import annotations

import asyncio
import base64
import hmac
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import getaddresses
from functools import cached_property
from typing import Any, ClassVar, Final
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mailglass.testing.lab import searching
from mailglass.testing.lab.fates import Happening
from mailglass.testing.lab.hanging_up import HANG_UP
from mailglass.testing.lab.postmark_suppressions import PostmarkSuppressionsLab
from mailglass.testing.lab.weather import LabMail, Weather
from mailglass.testing.lab.world import World

MAX_BATCH: Final = 500
MAX_RECIPIENTS: Final = 50
STREAM: Final = "outbound"
_BOUNCES: Final[Mapping[Happening, tuple[str, int, str]]] = {
    Happening.HARD_BOUNCED: ("HardBounce", 1, "smtp;550 5.1.1 No such mailbox here"),
    Happening.SOFT_BOUNCED: ("SoftBounce", 4096, "smtp;452 4.2.2 The mailbox is full"),
    Happening.DEFERRED: ("Transient", 2, "smtp;451 4.7.1 Come back later"),
}
_LISTED: Final = {Happening.HARD_BOUNCED: "HardBounce", Happening.COMPLAINED: "SpamComplaint"}
_REFUSALS: Final[Mapping[Weather, tuple[int, dict[str, str]]]] = {
    Weather.THROTTLE_ONCE: (429, {"retry-after": "1"}),
    Weather.SERVER_ERROR_ONCE: (503, {}),
}


@dataclass(frozen=True, eq=False)
class PostmarkLab:
    """One Postmark server of the lab.

    Attributes:
        world: where it stands.
        account: what its webhooks are posted as.
        token: the server token it asks for; None: any.
        username: of its webhooks.
        password: of its webhooks.
    """

    world: World
    account: str
    token: str | None = None
    username: str = "lab"
    password: str = ""
    bundle: ClassVar[int] = 1

    @cached_property
    def suppressions(self) -> PostmarkSuppressionsLab:
        """Its lists."""
        return PostmarkSuppressionsLab(self.account, self.world.witness, self._refusal)

    def routes(self) -> list[Route]:
        """Its part of the HTTP server."""
        return [
            Route("/email", self._send, methods=["POST"]),
            Route("/email/batch", self._send_batch, methods=["POST"]),
            Route("/messages/outbound", self._search, methods=["GET"]),
            *self.suppressions.routes(),
        ]

    def sign(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove a webhook's body."""
        credentials = base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")
        return {"authorization": f"Basic {credentials}"}

    def event(self, mail: LabMail, message_id: str, what: Happening, moment: float) -> dict[str, Any] | None:
        """Return the provider's event for this happening, or None where it tells none."""
        record = {
            "MessageID": message_id,
            "MessageStream": STREAM,
            "ServerID": 1,
            "Metadata": {"mailglass_id": mail.delivery_id} if mail.delivery_id else {},
        }
        if what in _LISTED:
            self.suppressions.suppress(STREAM, mail.recipient, _LISTED[what], "Recipient")
        time = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
        if what in _BOUNCES:
            kind, code, details = _BOUNCES[what]
            bounce = {"RecordType": "Bounce", "Type": kind, "TypeCode": code, "Details": details}
            return record | bounce | _bounce_fields(mail, time, inactive=what is Happening.HARD_BOUNCED)
        match what:
            case Happening.COMPLAINED:
                complaint = {"RecordType": "SpamComplaint", "Type": "SpamComplaint", "TypeCode": 100001}
                return record | complaint | _bounce_fields(mail, time, inactive=True)
            case Happening.DELIVERED:
                delivery = {"RecordType": "Delivery", "DeliveredAt": time, "Details": "250 2.0.0 OK"}
                return record | delivery | {"Recipient": mail.recipient}
            case Happening.OPENED:
                return record | {"RecordType": "Open", "ReceivedAt": time, "Recipient": mail.recipient}
            case Happening.CLICKED:
                click = {"RecordType": "Click", "ReceivedAt": time, "OriginalLink": "https://example.com/lab"}
                return record | click | {"Recipient": mail.recipient}
            case _:
                return None

    async def _send(self, request: Request) -> Response:
        return await self._answer(request, batch=False)

    async def _send_batch(self, request: Request) -> Response:
        return await self._answer(request, batch=True)

    async def _answer(self, request: Request, *, batch: bool) -> Response:
        if refused := self._refusal(request):
            return refused
        body = await request.body()
        try:
            found = await request.json()
        except ValueError:
            return _error(422, 402, "The request body is not JSON.")
        items = found if batch else [found]
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            return _error(422, 403, "The JSON is not what this endpoint takes.")
        if len(items) > MAX_BATCH:
            return _error(422, 410, f"A batch has at most {MAX_BATCH} messages.")
        await asyncio.sleep(self.world.latency)
        mails = [self._mail(item, len(body) // len(items)) for item in items]
        if refusal := self.world.refusal(mail for mail in mails if mail):
            status, headers = _REFUSALS[refusal]
            return JSONResponse({"ErrorCode": 0, "Message": refusal.value}, status, headers)
        answers, answered = self._take(mails)
        if not answered:
            return HANG_UP
        if batch:
            return JSONResponse(answers)
        return JSONResponse(answers[0], 422 if answers[0]["ErrorCode"] else 200)

    async def _search(self, request: Request) -> Response:
        return self._refusal(request) or searching.postmark(self.world.archive, self.account, request)

    def _refusal(self, request: Request) -> Response | None:
        if self._knows(request.headers.get("x-postmark-server-token", "")):
            return None
        return _error(401, 10, "No Account or Server API tokens were supplied or they are wrong.")

    def _knows(self, token: str) -> bool:
        return bool(token) if self.token is None else hmac.compare_digest(token.encode(), self.token.encode())

    def _mail(self, item: dict[str, Any], size: int) -> LabMail | None:
        to = [address for _, address in getaddresses([str(item.get("To") or "")]) if "@" in address]
        copies = getaddresses([str(item.get(field) or "") for field in ("Cc", "Bcc")])
        bodies = item.get("TextBody") or item.get("HtmlBody")
        if not to or not bodies or "@" not in str(item.get("From")) or len(to) + len(copies) > MAX_RECIPIENTS:
            return None
        metadata = item.get("Metadata")
        delivery_id = str(metadata.get("mailglass_id") or "") if isinstance(metadata, dict) else ""
        return LabMail(self.account, delivery_id, to[0], str(item.get("Subject") or ""), size)

    def _take(self, mails: list[LabMail | None]) -> tuple[list[dict[str, Any]], bool]:
        """Each mail's answer, and whether they are given at all."""
        answers: list[dict[str, Any]] = []
        accepted: list[tuple[LabMail, str]] = []
        submitted = datetime.now(UTC).isoformat()
        for mail in mails:
            if mail is None:
                answers.append({"ErrorCode": 300, "Message": "A sender, a recipient and a body are needed."})
            elif self.world.suppresses(mail):
                answers.append({"ErrorCode": 406, "Message": "The recipient is inactive."})
            else:
                message_id = str(uuid4())
                accepted.append((mail, message_id))
                answers.append(
                    {
                        "To": mail.recipient,
                        "SubmittedAt": submitted,
                        "MessageID": message_id,
                        "ErrorCode": 0,
                        "Message": "OK",
                    }
                )
        return answers, self.world.accept(self, accepted)


def _bounce_fields(mail: LabMail, time: str, *, inactive: bool) -> dict[str, Any]:
    return {
        "ID": random.getrandbits(52) + 1,
        "Email": mail.recipient,
        "BouncedAt": time,
        "Inactive": inactive,
        "CanActivate": inactive,
    }


def _error(status: int, code: int, message: str) -> JSONResponse:
    return JSONResponse({"ErrorCode": code, "Message": message}, status)
