"""Messages of Amazon SNS: what is signed in them, and the proof that a topic of ours sent one."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from mailglass.clock import now
from mailglass.errors import SignatureError, SignatureErrorType, WebhookBodyError
from mailglass.providers import parsing
from mailglass.providers.base import WebhookRequest
from mailglass.providers.ses.certificates import Certificates

TYPE: Final = "x-amz-sns-message-type"
MESSAGE_ID: Final = "x-amz-sns-message-id"
TOPIC: Final = "x-amz-sns-topic-arn"
_TWINS: Final = ((TYPE, "Type"), (MESSAGE_ID, "MessageId"), (TOPIC, "TopicArn"))

# Amazon takes 256 KiB of text, of which escapes make at most three times that
MAX_MESSAGE: Final = 1024 * 1024

NOTIFICATION: Final = "Notification"
CONFIRMATION: Final = "SubscriptionConfirmation"
UNSUBSCRIBED: Final = "UnsubscribeConfirmation"
_CONFIRMATION_FIELDS: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    CONFIRMATION: _CONFIRMATION_FIELDS,
    UNSUBSCRIBED: _CONFIRMATION_FIELDS,
}
"""The fields each type of message has signed, in this order; only a Subject may be absent."""


@dataclass(frozen=True, slots=True)
class SNSMessage:
    """One message as it was posted, or laid into a queue.

    Attributes:
        fields: all texts at its top level; only those in `SIGNED` are proved by a signature.
    """

    fields: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> SNSMessage:
        """Return the message in a body.

        Raises:
            WebhookBodyError: it is none.
        """
        posted = parsing.parse_json(body) if len(body) <= MAX_MESSAGE else None
        if not isinstance(posted, dict):
            raise WebhookBodyError("Amazon SNS posts one JSON object")
        message = cls({key: value for key, value in posted.items() if isinstance(value, str)})
        if message.type not in SIGNED or "Message" not in message.fields or parsing.text(message.id, 100) is None:
            raise WebhookBodyError("not a message of Amazon SNS; raw message delivery must be off")
        return message

    @property
    def type(self) -> str:
        """Type of the message."""
        return self.fields.get("Type", "")

    @property
    def id(self) -> str:
        """Id of the message."""
        return self.fields.get("MessageId", "")

    @property
    def topic(self) -> str:
        """ARN of the topic."""
        return self.fields.get("TopicArn", "")

    @property
    def headers(self) -> dict[str, str]:
        """The headers SNS posts it with, as far as they repeat the body."""
        return {header: self.fields[name] for header, name in _TWINS if name in self.fields}

    def signed_bytes(self) -> bytes:
        """Return the bytes that the signature covers: each field's name and value on a line of its own.

        Raises:
            ValueError: a field is missing, or a value is one that no UTF-8 can carry.
        """
        names = [name for name in SIGNED[self.type] if name in self.fields or name != "Subject"]
        try:
            return "".join(f"{name}\n{self.fields[name]}\n" for name in names).encode("utf-8")
        except KeyError:
            raise ValueError("a signed field is missing") from None


def require_signed(
    request: WebhookRequest,
    certificates: Certificates,
    *,
    topics: Collection[str],
    allow_v1: bool,
    tolerance: float,
) -> None:
    """Require a message of one of our topics, signed by AWS, of now.

    What costs nothing is looked at first, so that a stranger's request causes no request of ours.

    Args:
        request: as it was posted.
        certificates: the public keys.
        topics: ARNs; a signature alone proves only that it came from some customer of AWS.
        allow_v1: accept SHA-1 as well.
        tolerance: seconds its time may lie from now, in either direction.

    Raises:
        SignatureError: it is not; `bad_credentials` for another topic.
        ProviderCallError: the certificate cannot be fetched just now.
    """
    twins = {name: request.header(header) for header, name in _TWINS}
    try:
        message = SNSMessage.parse(request.body)
    except WebhookBodyError:
        raise SignatureError(SignatureErrorType.BAD_SIGNATURE, "the body is no signed message of Amazon SNS") from None
    if message.topic not in topics:
        raise SignatureError(SignatureErrorType.BAD_CREDENTIALS, "the topic is not one of topic_arns")
    if any(message.fields[name] != value for name, value in twins.items()):
        raise SignatureError(SignatureErrorType.BAD_SIGNATURE, "headers and body name different messages")
    _require_signature(message, certificates, allow_v1)
    moment = parsing.iso_moment(message.fields.get("Timestamp"))
    if moment is None:
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, "Timestamp is no ISO 8601 time")
    if abs((now() - moment).total_seconds()) > tolerance:
        raise SignatureError(SignatureErrorType.TIMESTAMP_SKEW)


def _require_signature(message: SNSMessage, certificates: Certificates, allow_v1: bool) -> None:
    for name in ("SignatureVersion", "Signature", "SigningCertURL"):
        if not message.fields.get(name):
            raise SignatureError(SignatureErrorType.MISSING_HEADER, name)
    version = message.fields["SignatureVersion"]
    if version not in ("1", "2"):
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, "SignatureVersion is neither 1 nor 2")
    if version == "1" and not allow_v1:
        raise SignatureError(
            SignatureErrorType.BAD_SIGNATURE, "SHA-1; set the topic's SignatureVersion to 2, or allow_signature_v1"
        )
    try:
        signature = base64.b64decode(message.fields["Signature"], validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, "Signature is not base64") from None
    key = certificates.key(message.fields["SigningCertURL"])
    try:
        # SHA-1 is what version 1 says; it is accepted only where the account asks for it
        digest = SHA256() if version == "2" else SHA1()  # noqa: S303
        key.verify(signature, message.signed_bytes(), PKCS1v15(), digest)
    except (InvalidSignature, ValueError):
        raise SignatureError(SignatureErrorType.BAD_SIGNATURE) from None


def content_of(message: SNSMessage) -> object:
    """Return the JSON value a notification carries, or None for text that is none."""
    try:
        event: object = json.loads(message.fields["Message"])
    except (ValueError, RecursionError):
        return None
    return event
