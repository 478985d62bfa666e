"""The lab's Amazon SES: SendEmail, the account's quota and suppression list, and events by SNS, signed by itself."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final
from uuid import uuid4

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mailglass.clock import now
from mailglass.testing.lab.accounts import LabAccount, take_secrets
from mailglass.testing.lab.fates import Happening
from mailglass.testing.lab.hanging_up import HANG_UP
from mailglass.testing.lab.weather import LabMail, Weather
from mailglass.testing.lab.world import World

REGION: Final = "us-east-1"
TOPIC: Final = f"arn:aws:sns:{REGION}:123456789012:lab-events"
CERTIFICATE_URL: Final = f"https://sns.{REGION}.amazonaws.com/SimpleNotificationService-1ab0.pem"
MAX_RECIPIENTS: Final = 50
_PAGE: Final = 2  # small, so that a list of three has a second page
_ID: Final = "lab:sns-id"
_SIGNED: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")

_BOUNCES: Final[Mapping[Happening, tuple[str, str, str]]] = {
    Happening.HARD_BOUNCED: ("Permanent", "General", "smtp; 550 5.1.1 No such mailbox here"),
    Happening.SOFT_BOUNCED: ("Transient", "MailboxFull", "smtp; 452 4.2.2 The mailbox is full"),
    Happening.DROPPED: ("Permanent", "OnAccountSuppressionList", "Amazon SES did not send the message"),
}


@dataclass(frozen=True, eq=False)
class SESLab:
    """One SES account of the lab, with a topic to which it publishes.

    Attributes:
        world: where it stands.
        account: what its webhooks are posted as.
        access_key_id: the key it asks for; "": any, and no signature is looked at.
        secret_access_key: what requests must be signed with.
        signer: SNS's key.
    """

    world: World
    account: str
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    signer: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048), repr=False)
    listed: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False)
    bundle: ClassVar[int] = 1
    stop_status: ClassVar[int | None] = None

    @classmethod
    def open(cls, world: World, account: LabAccount) -> SESLab:
        """Open an account of this lab."""
        secrets = take_secrets(account, access_key_id="", secret_access_key="")
        return cls(world, account.name, secrets["access_key_id"], secrets["secret_access_key"])

    def public(self) -> Mapping[str, str]:
        """Return the values that a client needs and that the lab chose itself."""
        return {"topic_arn": TOPIC, "certificate_url": CERTIFICATE_URL, "certificate": certificate(self.signer)}

    def routes(self) -> list[Route]:
        """Return the HTTP routes of the account."""
        addresses = "/v2/email/suppression/addresses"
        return [
            Route("/v2/email/outbound-emails", self._send, methods=["POST"]),
            Route("/v2/email/account", self._account, methods=["GET"]),
            Route(addresses, self._list, methods=["GET"]),
            Route(addresses, self._put, methods=["PUT"]),
            Route(f"{addresses}/{{address:path}}", self._delete, methods=["DELETE"]),
        ]

    def sign(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove a webhook's body."""
        return {}

    def pack(self, events: list[dict[str, Any]]) -> tuple[bytes, Mapping[str, str]]:
        """Return the body of these events and its content type."""
        (event,) = events
        message = {
            "Type": "Notification",
            "MessageId": event[_ID],
            "TopicArn": TOPIC,
            "Subject": "Amazon SES Email Event Notification",
            "Message": json.dumps({key: value for key, value in event.items() if key != _ID}) + "\n",
            "Timestamp": _time(now().timestamp()),
            "SignatureVersion": "2",
            "SigningCertURL": CERTIFICATE_URL,
            "UnsubscribeURL": f"https://sns.{REGION}.amazonaws.com/?Action=Unsubscribe",
        }
        signed = "".join(f"{name}\n{message[name]}\n" for name in _SIGNED).encode()
        signature = self.signer.sign(signed, PKCS1v15(), SHA256())
        headers = {
            "content-type": "text/plain; charset=UTF-8",
            "x-amz-sns-message-type": message["Type"],
            "x-amz-sns-message-id": message["MessageId"],
            "x-amz-sns-topic-arn": TOPIC,
        }
        return json.dumps(message | {"Signature": base64.b64encode(signature).decode("ascii")}).encode(), headers

    def event(self, mail: LabMail, message_id: str, what: Happening, moment: float) -> dict[str, Any] | None:
        """Return the provider's event for this happening, or None where it tells none."""
        time = _time(moment)
        ours = {"mailglass_id": [mail.delivery_id]} if mail.delivery_id else {}
        about = {
            "timestamp": time,
            "messageId": message_id,
            "destination": [mail.recipient],
            "tags": {"ses:configuration-set": ["lab"], **ours},
        }
        return _told(mail, what, time) | {"mail": about, _ID: str(uuid4())}

    async def _send(self, request: Request) -> Response:
        body = await request.body()
        if refusal := self._refuses(request, body):
            return refusal
        try:
            mail = self._mail(await request.json(), len(body))
        except (ValueError, LookupError, TypeError, AttributeError):
            return _error(400, "BadRequestException", "The request is not what this call takes.")
        await asyncio.sleep(self.world.latency)
        match self.world.refusal([mail]):
            case Weather.THROTTLE_ONCE:
                return _error(429, "TooManyRequestsException", "Maximum sending rate exceeded.")
            case Weather.SERVER_ERROR_ONCE:
                return _error(503, "ServiceUnavailable", "Come back later.")
        message_id = f"0100{uuid4().hex[:12]}-{uuid4()}-000000"
        if not self.world.accept(self, [(mail, message_id)]):
            return HANG_UP
        return JSONResponse({"MessageId": message_id})

    async def _account(self, request: Request) -> Response:
        if refusal := self._refuses(request, b""):
            return refusal
        quota = {
            "Max24HourSend": 50000.0,
            "MaxSendRate": 14.0,
            "SentLast24Hours": float(sum(self.world.witness.received.values())),
        }
        return JSONResponse({"SendQuota": quota, "SendingEnabled": True, "ProductionAccessEnabled": True})

    async def _list(self, request: Request) -> Response:
        if refusal := self._refuses(request, b""):
            return refusal
        start = int(request.query_params.get("NextToken") or 0)
        size = min(int(request.query_params.get("PageSize") or _PAGE), _PAGE)
        page = list(self.listed.items())[start : start + size]
        found: dict[str, Any] = {
            "SuppressedDestinationSummaries": [
                {"EmailAddress": address, "Reason": reason, "LastUpdateTime": moment}
                for address, (reason, moment) in page
            ]
        }
        if start + size < len(self.listed):
            found["NextToken"] = str(start + size)
        return JSONResponse(found)

    async def _put(self, request: Request) -> Response:
        body = await request.body()
        if refusal := self._refuses(request, body):
            return refusal
        found = await request.json()
        if "@" not in found["EmailAddress"] or found["Reason"] not in ("BOUNCE", "COMPLAINT"):
            return _error(400, "BadRequestException", "Not an address, or not a reason.")
        self.listed[found["EmailAddress"]] = found["Reason"], now().timestamp()
        return JSONResponse({})

    async def _delete(self, request: Request) -> Response:
        if refusal := self._refuses(request, b""):
            return refusal
        if self.listed.pop(request.path_params["address"], None) is None:
            return _error(404, "NotFoundException", "The address is not on the list.")
        return JSONResponse({})

    def _refuses(self, request: Request, body: bytes) -> Response | None:
        if not self.access_key_id:
            return None
        url = f"http://{request.headers.get('host', '')}{request.scope['raw_path'].decode('ascii')}"
        query = request.scope["query_string"].decode("ascii")
        signed = _signature(
            request, f"{url}?{query}" if query else url, body, self.access_key_id, self.secret_access_key
        )
        if signed and hmac.compare_digest(signed.encode(), request.headers.get("authorization", "").encode()):
            return None
        return _error(403, "InvalidSignatureException", "The request signature we calculated does not match yours.")

    def _mail(self, found: Any, size: int) -> LabMail:
        copies = found["Destination"]
        to = copies["ToAddresses"]
        everybody = [*to, *copies.get("CcAddresses", []), *copies.get("BccAddresses", [])]
        raw = email.message_from_bytes(base64.b64decode(found["Content"]["Raw"]["Data"]), policy=email.policy.default)
        if not to or len(everybody) > MAX_RECIPIENTS or "@" not in "".join(everybody) or not raw["From"]:
            raise ValueError("a sender and recipients are needed")
        tags = {tag["Name"]: tag["Value"] for tag in found.get("EmailTags", [])}
        return LabMail(self.account, tags.get("mailglass_id", ""), to[0], str(raw["Subject"]), size)


def certificate(key: rsa.RSAPrivateKey) -> str:
    """Return a certificate of this key by itself, in PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    today = now()
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=30))
        .sign(key, SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _signature(request: Request, url: str, body: bytes, access_key_id: str, secret_access_key: str) -> str | None:
    """Return the Authorization this request would have if it was signed with this key, by botocore's own signer."""
    _, _, fields = request.headers.get("authorization", "").partition(" ")
    given = dict(part.strip().partition("=")[::2] for part in fields.split(","))
    scope = given.get("Credential", "").split("/")
    if len(scope) != 5 or scope[0] != access_key_id:
        return None
    headers = {name: request.headers.get(name, "") for name in given.get("SignedHeaders", "").split(";")}
    rebuilt = AWSRequest(method=request.method, url=url, headers=headers, data=body)
    rebuilt.context["timestamp"] = request.headers.get("x-amz-date", "")
    signer: Any = SigV4Auth(Credentials(access_key_id, secret_access_key), scope[3], scope[2])
    to_sign = signer.string_to_sign(rebuilt, signer.canonical_request(rebuilt))
    whole = f"AWS4-HMAC-SHA256 Credential={given['Credential']}, SignedHeaders={given.get('SignedHeaders', '')}, "
    return f"{whole}Signature={signer.signature(to_sign, rebuilt)}"


def _told(mail: LabMail, what: Happening, time: str) -> dict[str, Any]:
    if what in _BOUNCES:
        kind, subtype, diagnostic = _BOUNCES[what]
        bounced = {"emailAddress": mail.recipient, "action": "failed", "diagnosticCode": diagnostic}
        bounce = {"bounceType": kind, "bounceSubType": subtype, "bouncedRecipients": [bounced], "timestamp": time}
        return {"eventType": "Bounce", "bounce": bounce}
    part: dict[str, Any]
    match what:
        case Happening.QUEUED:
            return {"eventType": "Send", "send": {}}
        case Happening.DEFERRED:
            delayed = [{"emailAddress": mail.recipient, "status": "4.4.1", "diagnosticCode": "smtp; 421 4.4.1 later"}]
            part = {"delayType": "TransientCommunicationFailure", "delayedRecipients": delayed, "timestamp": time}
            return {"eventType": "DeliveryDelay", "deliveryDelay": part}
        case Happening.COMPLAINED:
            part = {
                "complainedRecipients": [{"emailAddress": mail.recipient}],
                "complaintSubType": None,
                "complaintFeedbackType": "abuse",
                "timestamp": time,
            }
            return {"eventType": "Complaint", "complaint": part}
        case Happening.OPENED:
            return {"eventType": "Open", "open": {"timestamp": time, "userAgent": "lab"}}
        case Happening.CLICKED:
            return {"eventType": "Click", "click": {"timestamp": time, "link": "https://example.com/lab"}}
        case _:
            part = {"recipients": [mail.recipient], "smtpResponse": "250 2.0.0 OK", "timestamp": time}
            return {"eventType": "Delivery", "delivery": part}


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"message": message}, status, {"x-amzn-errortype": code})
