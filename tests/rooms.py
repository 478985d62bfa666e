"""Our own rooms as the provider suite wants them declared: options, answers, genuine webhooks, and what each lacks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socketserver
import time
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from mailglass import clock
from mailglass.errors import ProviderCallError
from mailglass.providers.base import Provider
from mailglass.providers.brevo import BrevoProvider
from mailglass.providers.mailgun import MailgunProvider
from mailglass.providers.mailjet import MailjetProvider
from mailglass.providers.mandrill import MandrillProvider
from mailglass.providers.null import NullProvider
from mailglass.providers.postmark import PostmarkProvider
from mailglass.providers.resend import ResendProvider
from mailglass.providers.sendgrid import SendGridProvider
from mailglass.providers.ses import SESOptions, SESProvider
from mailglass.providers.smtp import SMTPProvider
from mailglass.providers.sparkpost import SparkPostProvider
from mailglass.settings import build_options
from mailglass.testing.lab.ses import CERTIFICATE_URL, certificate
from mailglass.testing.provider_suite.declaration import ACCOUNT, Declaration, Feature, Webhook
from mailglass.testing.provider_suite.mails import DELIVERY, RECIPIENT
from mailglass.testing.provider_suite.wire import Reply, Seen, Wire

ID = str(DELIVERY)
KEY, SECOND, HOOK = "api-key-4711-xyz", "second-key-0815-abc", "hook-secret-9182-uvw"
MOMENT = 1_772_630_930
LINK = "https://a.example"
STAMP = "2026-03-04T13:28:50.0Z"
BY_CREDENTIALS = "its webhooks are proved by credentials, which say nothing of the body"

_EC = ec.generate_private_key(ec.SECP256R1())
_RSA = rsa.generate_private_key(65537, 2048)
_WHSEC = base64.b64encode(bytes(range(24))).decode()


def basic(password: str = HOOK) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"hooks:{password}".encode()).decode()}


class Postmark(Declaration):
    provider_class: ClassVar[type[Provider]] = PostmarkProvider
    options: ClassVar[Mapping[str, Any]] = {
        "server_token": "env:KEY",
        "webhook_username": "hooks",
        "webhook_passwords": ["env:HOOK"],
    }
    environ: ClassVar[Mapping[str, str]] = {"KEY": KEY, "HOOK": HOOK}
    webhook_options = ("webhook_username", "webhook_passwords")
    proof_headers = ("authorization",)
    lacks: ClassVar[Mapping[str, str]] = {Feature.SIGNED_BODY: BY_CREDENTIALS}

    def accept(self, request: Seen) -> Reply:
        taken = {"ErrorCode": 0, "Message": "OK"}
        found = request.json()
        if isinstance(found, list):
            return Reply.json([taken | {"MessageID": str(uuid4())} for _ in found])
        return Reply.json(taken | {"MessageID": str(uuid4())})

    def refuse(self, request: Seen) -> Reply:
        return Reply.json({"ErrorCode": 300, "Message": "Invalid"}, 422)

    def webhooks(self) -> list[Webhook]:
        about = {"MessageID": str(uuid4()), "Tag": "receipt", "Metadata": {"mailglass_id": ID}}
        bounce = {
            "RecordType": "Bounce",
            "ID": 901542550,
            "Type": "HardBounce",
            "Email": RECIPIENT,
            "BouncedAt": STAMP,
            "Details": "smtp;550 5.1.1 No such user",
            **about,
        }
        told = [
            bounce,
            {"RecordType": "Delivery", "Recipient": RECIPIENT, "DeliveredAt": STAMP, **about},
            {"RecordType": "Open", "Recipient": RECIPIENT, "ReceivedAt": STAMP, **about},
            {"RecordType": "Click", "Recipient": RECIPIENT, "ReceivedAt": STAMP, "OriginalLink": LINK, **about},
            {
                "RecordType": "SubscriptionChange",
                "Recipient": RECIPIENT,
                "ChangedAt": STAMP,
                "SuppressSending": True,
                "SuppressionReason": "ManualSuppression",
                **about,
            },
            {},
        ]
        return [Webhook(basic(), json.dumps(item).encode()) for item in told]


class SendGrid(Declaration):
    provider_class: ClassVar[type[Provider]] = SendGridProvider
    options: ClassVar[Mapping[str, Any]] = {
        "api_key": "env:KEY",
        "webhook_public_keys": [
            base64.b64encode(
                _EC.public_key().public_bytes(
                    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            ).decode()
        ],
    }
    environ: ClassVar[Mapping[str, str]] = {"KEY": KEY}
    webhook_options = ("webhook_public_keys",)
    proof_headers = ("x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp")

    def accept(self, request: Seen) -> Reply:
        return Reply(202, b"", {"x-message-id": "14c5d75ce93"})

    def webhooks(self) -> list[Webhook]:
        about = {
            "email": RECIPIENT,
            "timestamp": MOMENT,
            "mailglass_id": ID,
            "sg_message_id": "14c5d75ce93.dfd.64b469.0",
            "category": ["receipt"],
        }
        kinds = [
            {"event": "processed"},
            {"event": "delivered"},
            {"event": "bounce", "type": "bounce", "status": "5.1.1"},
            {"event": "click", "url": LINK},
            {"event": "dropped", "reason": "Bounced Address"},
        ]
        items = [about | kind | {"sg_event_id": f"e-{number}"} for number, kind in enumerate(kinds)]
        return [self._signed(items), self._signed(items[:1]), self._signed([])]

    def _signed(self, items: Any) -> Webhook:
        body, stamp = json.dumps(items).encode() + b"\r\n", str(int(time.time()))
        signature = base64.b64encode(_EC.sign(stamp.encode() + body, ec.ECDSA(SHA256()))).decode()
        return Webhook(dict(zip(self.proof_headers, (signature, stamp), strict=True)), body)


class Mailgun(Declaration):
    provider_class: ClassVar[type[Provider]] = MailgunProvider
    options: ClassVar[Mapping[str, Any]] = {
        "api_key": "env:KEY",
        "domain": "mg.sender.example",
        "webhook_signing_keys": ["env:HOOK"],
    }
    environ: ClassVar[Mapping[str, str]] = {"KEY": KEY, "HOOK": HOOK}
    webhook_options = ("webhook_signing_keys",)
    lacks: ClassVar[Mapping[str, str]] = {
        Feature.SIGNED_BODY: "Mailgun signs a time and a token and nothing else of the body",
    }

    def accept(self, request: Seen) -> Reply:
        return Reply.json({"id": f"<{uuid4()}@mg.sender.example>", "message": "Queued. Thank you."})

    def webhooks(self) -> list[Webhook]:
        about = {
            "timestamp": MOMENT + 0.25,
            "recipient": RECIPIENT,
            "user-variables": {"mailglass_id": ID},
            "message": {"headers": {"message-id": "20260304.1@mg.sender.example"}},
            "tags": ["receipt"],
        }
        events = [
            {"event": "delivered", "id": "a1"},
            {
                "event": "failed",
                "id": "a2",
                "severity": "permanent",
                "reason": "bounce",
                "delivery-status": {"code": 550},
            },
            {"event": "clicked", "id": "a3", "url": LINK, "client-info": {"bot": ""}},
        ]
        bodies = [json.dumps({"signature": self._proof(), "event-data": about | event}) for event in events]
        told = [Webhook({"content-type": "application/json"}, body.encode()) for body in bodies]
        form = {"event": "bounced", "recipient": RECIPIENT, "code": "550", "Message-Id": "<x@mg>", "mailglass_id": ID}
        return [*told, Webhook({}, urlencode(form | self._proof()).encode())]

    def _proof(self) -> dict[str, str]:
        stamp, token = str(int(time.time())), uuid4().hex
        mac = hmac.new(HOOK.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
        return {"timestamp": stamp, "token": token, "signature": mac}


class SES(Declaration):
    provider_class: ClassVar[type[Provider]] = SESProvider
    options: ClassVar[Mapping[str, Any]] = {
        "region": "eu-west-1",
        "access_key_id": "env:KEY",
        "secret_access_key": "env:SECOND",
        "topic_arns": ["arn:aws:sns:eu-west-1:123456789012:ses-events"],
    }
    environ: ClassVar[Mapping[str, str]] = {"KEY": KEY, "SECOND": SECOND}
    webhook_options = ("topic_arns",)
    address_option = "endpoint_url"
    proof_headers = ("x-amz-sns-message-type", "x-amz-sns-message-id", "x-amz-sns-topic-arn")
    lacks: ClassVar[Mapping[str, str]] = {
        Feature.SIGNED_BYTES: "SNS signs the values of a message's fields, however the JSON around them is spaced",
    }

    def build(self, raw: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Provider:
        options = build_options(SESOptions, raw, f"accounts.{ACCOUNT}", self.environ if environ is None else environ)
        return SESProvider(ACCOUNT, options, _fetched)

    def accept(self, request: Seen) -> Reply:
        return Reply.json({"MessageId": f"0100-{uuid4()}"})

    def refuse(self, request: Seen) -> Reply:
        return Reply.json({"message": "no"}, 400, {"x-amzn-errortype": "BadRequestException"})

    def webhooks(self) -> list[Webhook]:
        mail = {"messageId": "0100-a", "timestamp": STAMP, "destination": [RECIPIENT], "tags": {"mailglass_id": [ID]}}
        people = [{"emailAddress": RECIPIENT, "status": "5.1.1"}, {"emailAddress": "other@recipient.example"}]
        events: list[Any] = [
            {"eventType": "Delivery", "delivery": {"recipients": [RECIPIENT], "timestamp": STAMP}},
            {
                "eventType": "Bounce",
                "bounce": {"bounceType": "Permanent", "bouncedRecipients": people, "timestamp": STAMP},
            },
            {"notificationType": "Complaint", "complaint": {"complainedRecipients": people[:1], "timestamp": STAMP}},
            {"eventType": "Click", "click": {"link": LINK, "timestamp": STAMP}},
        ]
        told = [self._signed("Notification", json.dumps(event | {"mail": mail})) for event in events]
        return [
            *told,
            self._signed("SubscriptionConfirmation", "Confirm", Token="t0k3n", SubscribeURL=LINK),
        ]

    def _signed(self, kind: str, message: str, **more: str) -> Webhook:
        fields = {
            "Type": kind,
            "MessageId": str(uuid4()),
            "TopicArn": self.options["topic_arns"][0],
            "Message": message,
            "Timestamp": clock.now().isoformat(),
            **more,
        }
        names = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
        signed = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields).encode()
        signature = base64.b64encode(_RSA.sign(signed, PKCS1v15(), SHA256())).decode()
        proof = {"SignatureVersion": "2", "SigningCertURL": CERTIFICATE_URL, "Signature": signature}
        headers = dict(zip(self.proof_headers, (kind, fields["MessageId"], fields["TopicArn"]), strict=True))
        return Webhook(headers, json.dumps(fields | proof).encode())


def _fetched(url: str) -> bytes:
    if url != CERTIFICATE_URL:
        raise ProviderCallError("fetch", status=404)
    return certificate(_RSA).encode()


class Resend(Declaration):
    provider_class: ClassVar[type[Provider]] = ResendProvider
    options: ClassVar[Mapping[str, Any]] = {"api_key": "env:KEY", "webhook_secrets": ["env:HOOK"]}
    environ: ClassVar[Mapping[str, str]] = {"KEY": KEY, "HOOK": f"whsec_{_WHSEC}"}
    webhook_options = ("webhook_secrets",)
    proof_headers = ("svix-id", "svix-timestamp", "svix-signature")

    def accept(self, request: Seen) -> Reply:
        return Reply.json({"id": str(uuid4())})

    def refuse(self, request: Seen) -> Reply:
        return Reply.json({"statusCode": 422, "name": "validation_error", "message": "no"}, 422)

    def webhooks(self) -> list[Webhook]:
        data = {"email_id": str(uuid4()), "to": [RECIPIENT], "tags": {"mailglass_id": ID, "mailglass_tag_1": "receipt"}}
        events = [
            ("email.delivered", {}),
            ("email.bounced", {"bounce": {"type": "Permanent"}}),
            ("email.clicked", {"click": {"link": LINK}}),
        ]
        return [self._signed({"type": kind, "created_at": STAMP, "data": data | more}) for kind, more in events]

    def _signed(self, item: Any) -> Webhook:
        identity, stamp, body = f"msg_{uuid4().hex}", str(int(time.time())), json.dumps(item).encode()
        mac = hmac.digest(base64.b64decode(_WHSEC), f"{identity}.{stamp}.".encode() + body, "sha256")
        values = (identity, stamp, f"v1,{base64.b64encode(mac).decode()}")
        return Webhook(dict(zip(self.proof_headers, values, strict=True)), body)


class Brevo(Declaration):
    provider_class: ClassVar[type[Provider]] = BrevoProvider
    options: ClassVar[Mapping[str, Any]] = {
        "api_key": "env:KEY",
        "webhook_username": "hooks",
        "webhook_passwords": ["env:HOOK"],
        "blocked_senders": ["orders@sender.example"],
    }
    environ: ClassVar[Mapping[str, str]] = {"KEY": KEY, "HOOK": HOOK}
    webhook_options = ("webhook_username", "webhook_passwords")
    proof_headers = ("authorization",)
    lacks: ClassVar[Mapping[str, str]] = {Feature.SIGNED_BODY: BY_CREDENTIALS}

    def accept(self, request: Seen) -> Reply:
        return Reply.json({"messageId": f"<{uuid4()}@smtp-relay.mailin.fr>"}, 201)

    def refuse(self, request: Seen) -> Reply:
        return Reply.json({"code": "invalid_parameter", "message": "no"}, 400)

    def webhooks(self) -> list[Webhook]:
        about = {
            "email": RECIPIENT,
            "message-id": "<20260304.1@smtp-relay.mailin.fr>",
            "ts_epoch": MOMENT * 1000,
            "X-Mailin-custom": json.dumps({"mailglass_id": ID}),
            "tags": ["receipt"],
        }
        events = [about | {"event": kind} for kind in ("request", "delivered", "hard_bounce", "proxy_open")]
        events.append(about | {"event": "click", "link": LINK})
        return [Webhook(basic(), json.dumps(item).encode()) for item in (events[1], events)]


class BrevoBearer(Brevo):
    options: ClassVar[Mapping[str, Any]] = {"api_key": "env:KEY", "webhook_tokens": ["env:HOOK"]}
    webhook_options = ("webhook_tokens",)

    def webhooks(self) -> list[Webhook]:
        return [Webhook({"authorization": f"Bearer {HOOK}"}, webhook.body) for webhook in super().webhooks()]


class Mailjet(Declaration):
    provider_class: ClassVar[type[Provider]] = MailjetProvider
    options: ClassVar[Mapping[str, Any]] = {
        "api_key": "env:KEY",
        "secret_key": "env:SECOND",
        "webhook_username": "hooks",
        "webhook_passwords": ["env:HOOK"],
    }
    environ: ClassVar[Mapping[str, str]] = {"KEY": KEY, "SECOND": SECOND, "HOOK": HOOK}
    webhook_options = ("webhook_username", "webhook_passwords")
    proof_headers = ("authorization",)
    lacks: ClassVar[Mapping[str, str]] = {
        Feature.SIGNED_BODY: BY_CREDENTIALS,
        Feature.SUPPRESSION_LIST: "Mailjet shows nobody whom it blocks in transactional mail",
    }

    def accept(self, request: Seen) -> Reply:
        verdicts = [
            {
                "Status": "success",
                "CustomID": mail["CustomID"],
                "To": [{"Email": mail["To"][0]["Email"], "MessageID": place + 1}],
            }
            for place, mail in enumerate(request.json()["Messages"])
        ]
        return Reply.json({"Messages": verdicts})

    def refuse(self, request: Seen) -> Reply:
        return Reply.json({"ErrorCode": "mj-0004", "StatusCode": 400, "ErrorMessage": "no"}, 400)

    def webhooks(self) -> list[Webhook]:
        about = {
            "time": MOMENT,
            "MessageID": 1152921526316184579,
            "email": RECIPIENT,
            "CustomID": ID,
            "customcampaign": "receipt",
            "Payload": "",
        }
        events = [about | {"event": kind} for kind in ("sent", "open", "spam")]
        events.append(about | {"event": "bounce", "hard_bounce": True, "error": "user unknown"})
        events.append(about | {"event": "click", "url": LINK})
        return [Webhook(basic(), json.dumps(item).encode()) for item in (events[0], events)]


class SparkPost(Declaration):
    provider_class: ClassVar[type[Provider]] = SparkPostProvider
    options: ClassVar[Mapping[str, Any]] = {
        "api_key": "env:KEY",
        "webhook_username": "hooks",
        "webhook_passwords": ["env:HOOK"],
    }
    environ: ClassVar[Mapping[str, str]] = {"KEY": KEY, "HOOK": HOOK}
    webhook_options = ("webhook_username", "webhook_passwords")
    proof_headers = ("authorization",)
    lacks: ClassVar[Mapping[str, str]] = {Feature.SIGNED_BODY: BY_CREDENTIALS}

    def accept(self, request: Seen) -> Reply:
        people = len(request.json()["recipients"])
        results = {"id": "65832150921904138", "total_accepted_recipients": people, "total_rejected_recipients": 0}
        return Reply.json({"results": results})

    def refuse(self, request: Seen) -> Reply:
        return Reply.json({"errors": [{"code": "1300", "message": "no"}]}, 422)

    def webhooks(self) -> list[Webhook]:
        about = {
            "timestamp": str(MOMENT),
            "transmission_id": "65832150921904138",
            "rcpt_to": RECIPIENT,
            "raw_rcpt_to": RECIPIENT,
            "rcpt_meta": {"mailglass_id": ID},
            "rcpt_tags": ["receipt"],
        }
        events = [
            {"msys": {name: about | {"type": kind, "event_id": str(92356927693813856 + number), **more}}}
            for number, (name, kind, more) in enumerate(
                [
                    ("message_event", "delivery", {}),
                    ("message_event", "bounce", {"bounce_class": "10"}),
                    ("track_event", "click", {"target_link_url": LINK}),
                    ("unsubscribe_event", "list_unsubscribe", {}),
                ]
            )
        ]
        return [
            Webhook(basic() | {"x-messagesystems-batch-id": uuid4().hex}, json.dumps(items).encode())
            for items in (events, [{"msys": {}}])
        ]


class Mandrill(Declaration):
    provider_class: ClassVar[type[Provider]] = MandrillProvider
    options: ClassVar[Mapping[str, Any]] = {
        "api_key": "env:KEY",
        "webhook_keys": ["env:HOOK"],
        "webhook_url": "https://mail.sender.example/webhooks/md?x=1",
    }
    environ: ClassVar[Mapping[str, str]] = {"KEY": KEY, "HOOK": HOOK}
    webhook_options = ("webhook_keys", "webhook_url")
    address = "{url}/api/1.0"
    proof_headers = ("x-mandrill-signature",)

    def accept(self, request: Seen) -> Reply:
        to = request.json()["message"]["to"][0]["email"]
        return Reply.json([{"email": to, "status": "sent", "_id": uuid4().hex}])

    def refuse(self, request: Seen) -> Reply:
        return Reply.json({"status": "error", "code": -2, "name": "ValidationError", "message": "no"}, 422)

    def webhooks(self) -> list[Webhook]:
        message = {"email": RECIPIENT, "_id": "5f0c", "tags": ["receipt"], "metadata": {"mailglass_id": ID}}
        kinds = ("send", "delivered", "hard_bounce", "spam", "open")
        events = [{"event": kind, "_id": "5f0c", "ts": MOMENT, "msg": message} for kind in kinds]
        return [self._signed(events), self._signed(events[:1])]

    def rearranged(self, body: bytes) -> list[bytes]:
        items = json.loads(parse_qs(body.decode())["mandrill_events"][0])
        return [self._form(order) for order in (items[::-1], items * 2)]

    def _form(self, items: Any) -> bytes:
        return urlencode({"mandrill_events": json.dumps(items)}).encode()

    def _signed(self, items: Any) -> Webhook:
        text = f"{self.options['webhook_url']}mandrill_events{json.dumps(items)}"
        mac = base64.b64encode(hmac.new(HOOK.encode(), text.encode(), hashlib.sha1).digest()).decode()
        return Webhook({"x-mandrill-signature": mac}, self._form(items))


class SMTP(Declaration):
    provider_class: ClassVar[type[Provider]] = SMTPProvider
    options: ClassVar[Mapping[str, Any]] = {
        "host": "127.0.0.1",
        "security": "none",
        "username": "shop",
        "password": "env:KEY",
        "timeout": 5.0,
    }
    environ: ClassVar[Mapping[str, str]] = {"KEY": KEY}
    address_option = "port"
    address = "{port}"
    faults = (421, 451)
    lacks: ClassVar[Mapping[str, str]] = {
        Feature.WEBHOOKS: "SMTP servers report by mail: see mailglass.bounces",
        Feature.SUPPRESSION_LIST: "SMTP has none",
    }

    def accept(self, request: Seen) -> Reply:
        return Reply(250)

    def refuse(self, request: Seen) -> Reply:
        return Reply(554)

    def open_wire(self) -> Wire:
        return Wire(_SMTPHandler, self.accept)


class _SMTPHandler(socketserver.StreamRequestHandler):
    """Takes any mail; what `take` says is the answer to its content."""

    server: Wire
    timeout = 20

    def handle(self) -> None:
        self.wfile.write(b"220 stand-in\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                self.wfile.write(
                    b"250-stand-in\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 30000000\r\n"
                )
            elif verb == b"AUTH":
                self.wfile.write(b"235 2.7.0 welcome\r\n")
            elif verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                if not self._content():
                    return
            elif verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 fine\r\n")

    def _content(self) -> bool:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return False
            lines.append(line)
        reply = self.server.take(Seen("DATA", "", {}, b"".join(lines)))
        if reply is None:
            return False
        self.wfile.write(f"{reply.status} {'2.0.0 taken' if reply.status < 300 else '5.6.0 refused'}\r\n".encode())
        return True


class Null(Declaration):
    provider_class: ClassVar[type[Provider]] = NullProvider
    lacks: ClassVar[Mapping[str, str]] = {
        Feature.WIRE: "it sends nothing",
        Feature.WEBHOOKS: "nothing is sent, so nothing is told",
        Feature.SUPPRESSION_LIST: "there is nobody to keep one",
    }


ROOMS: Mapping[str, type[Declaration]] = {
    room.__name__: room
    for room in (Postmark, SendGrid, Mailgun, SES, Resend, Brevo, BrevoBearer, Mailjet, SparkPost, Mandrill, SMTP, Null)
}
