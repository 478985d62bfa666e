"""The lab's SendGrid: `/v3/mail/send`, its suppression lists, and webhooks that it signs with a key of its own."""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Final
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mailglass.errors import ConfigError
from mailglass.testing.lab import searching
from mailglass.testing.lab.fates import Happening
from mailglass.testing.lab.hanging_up import HANG_UP
from mailglass.testing.lab.sendgrid_suppressions import SendGridSuppressionsLab
from mailglass.testing.lab.weather import LabMail, Weather
from mailglass.testing.lab.world import World

_EVENTS: Final[Mapping[Happening, dict[str, Any]]] = {
    Happening.QUEUED: {"event": "processed"},
    Happening.DROPPED: {"event": "dropped", "reason": "Bounced Address", "status": "5.0.0"},
    Happening.DEFERRED: {"event": "deferred", "attempt": "1", "response": "451 4.7.1 Come back later"},
    Happening.DELIVERED: {"event": "delivered", "response": "250 2.0.0 OK"},
    Happening.HARD_BOUNCED: {
        "event": "bounce",
        "type": "bounce",
        "status": "5.1.1",
        "bounce_classification": "Invalid Address",
        "reason": "550 5.1.1 No such mailbox here",
    },
    Happening.SOFT_BOUNCED: {
        "event": "bounce",
        "type": "blocked",
        "status": "4.2.2",
        "bounce_classification": "Mailbox Unavailable",
        "reason": "452 4.2.2 The mailbox is full",
    },
    Happening.OPENED: {"event": "open", "sg_machine_open": False},
    Happening.CLICKED: {"event": "click", "url": "https://example.com/lab"},
    Happening.COMPLAINED: {"event": "spamreport"},
}


def signing_key(pem: str | None) -> ec.EllipticCurvePrivateKey:
    """Return the key in a PEM text, or a new one.

    Raises:
        ConfigError: the text holds no P-256 private key.
    """
    if pem is None:
        return ec.generate_private_key(ec.SECP256R1())
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError("sendgrid-signing-key", "not a P-256 private key in PEM", "Make one, or leave it out")
    return key


@dataclass(frozen=True, eq=False)
class SendGridLab:
    """One SendGrid account of the lab.

    Attributes:
        world: where it stands.
        account: what its webhooks are posted as.
        key: the API key it asks for; None: any.
        signer: signs its webhooks.
    """

    world: World
    account: str
    key: str | None = None
    signer: ec.EllipticCurvePrivateKey = field(default_factory=lambda: signing_key(None))
    bundle: ClassVar[int] = 200

    @cached_property
    def suppressions(self) -> SendGridSuppressionsLab:
        """Its lists."""
        return SendGridSuppressionsLab(self.account, self.world.witness, self._refusal)

    @property
    def public_key(self) -> str:
        """Public key as SendGrid's console shows it: base64 of the key's SubjectPublicKeyInfo."""
        der = self.signer.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(der).decode("ascii")

    def routes(self) -> list[Route]:
        """Its part of the HTTP server."""
        return [
            Route("/v3/mail/send", self._send, methods=["POST"]),
            Route("/v3/messages", self._search, methods=["GET"]),
            Route("/v3/messages/{message_id:str}", self._message, methods=["GET"]),
            *self.suppressions.routes(),
        ]

    def sign(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove a webhook's body."""
        timestamp = str(int(time.time()))
        signature = self.signer.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
        return {
            "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode("ascii"),
            "x-twilio-email-event-webhook-timestamp": timestamp,
        }

    def event(self, mail: LabMail, message_id: str, what: Happening, moment: float) -> dict[str, Any] | None:
        """Return the provider's event for this happening, or None where it tells none."""
        if what is Happening.HARD_BOUNCED:
            self.suppressions.suppress("bounces", mail.recipient, "5.1.1")
        elif what is Happening.COMPLAINED:
            self.suppressions.suppress("spam_reports", mail.recipient)
        named = {"mailglass_id": mail.delivery_id} if mail.delivery_id else {}
        return {
            "email": mail.recipient,
            "timestamp": int(moment),
            "sg_event_id": uuid4().hex,
            "sg_message_id": f"{message_id}.filter0001.1.{uuid4().hex[:8]}.0",
            **named,
            **_EVENTS[what],
        }

    async def _send(self, request: Request) -> Response:
        if refused := self._refusal(request):
            return refused
        body = await request.body()
        try:
            mail = self._mail(await request.json(), len(body))
        except (ValueError, LookupError, TypeError, AttributeError):
            return _error(400, "The request is not what this endpoint takes")
        await asyncio.sleep(self.world.latency)
        match self.world.refusal([mail]):
            case Weather.THROTTLE_ONCE:
                reset = str(int(time.time()) + 1)
                return _error(429, "too many requests", {"retry-after": "1", "x-ratelimit-reset": reset})
            case Weather.SERVER_ERROR_ONCE:
                return _error(503, "The service is unavailable")
        message_id = uuid4().hex[:22]
        if not self.world.accept(self, [(mail, message_id)]):
            return HANG_UP
        return Response(status_code=202, headers={"x-message-id": message_id})

    async def _search(self, request: Request) -> Response:
        return self._refusal(request) or searching.sendgrid(self.world.archive, self.account, request)

    async def _message(self, request: Request) -> Response:
        return self._refusal(request) or searching.sendgrid_message(self.world.archive, self.account, request)

    def _refusal(self, request: Request) -> Response | None:
        if self._knows(request.headers.get("authorization", "")):
            return None
        return _error(401, "The provided authorization grant is invalid, expired, or revoked")

    def _knows(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        if scheme != "Bearer" or not key:
            return False
        return self.key is None or hmac.compare_digest(key.encode(), self.key.encode())

    def _mail(self, found: Any, size: int) -> LabMail:
        (person,) = found["personalizations"]
        recipient = person["to"][0]["email"]
        kinds = [item["type"] for item in found["content"]]
        if "@" not in recipient or "@" not in found["from"]["email"] or kinds != sorted(kinds, reverse=True):
            raise ValueError("an address is none, or text does not come first")
        delivery_id = str(person.get("custom_args", {}).get("mailglass_id") or "")
        return LabMail(self.account, delivery_id, recipient, str(found["subject"]), size)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"errors": [{"message": message, "field": None, "help": None}]}, status, headers)
