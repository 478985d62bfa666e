"""Pigeon: sends one mail per request, signs its webhooks with HMAC-SHA256, posts events in arrays."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mailglass.errors import SignatureError, SignatureErrorType, WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.refusal import About, Lasting
from mailglass.providers import parsing
from mailglass.providers.base import WebhookRequest
from mailglass.providers.http import HTTPAnswer, HTTPOptions, HTTPRequest, refusal
from mailglass.providers.http_provider import HTTPProvider, Unsendable, encode_json, mailbox, provider_options
from mailglass.providers.labels import labelled
from mailglass.providers.parsing import UNMAPPED, Meaning
from mailglass.providers.signatures import missing_secret
from mailglass.refusals.answers import Answer
from mailglass.settings import Secret

SIGNATURE: Final = "x-pigeon-signature"


@dataclass(frozen=True, kw_only=True)
class PigeonOptions(HTTPOptions):
    """The options of a Pigeon account.

    Attributes:
        api_key: of the loft.
        webhook_secrets: what webhooks are signed with; several while one is replaced. Needed to receive webhooks.
    """

    api_key: Secret
    base_url: str = "https://api.pigeon.example"
    webhook_secrets: tuple[Secret, ...] = ()


_MANUAL: Final = "Pigeon, API manual"
ANSWERS: Final = (
    Answer(About.SENDER_ACCOUNT, Lasting.PERMANENT, _MANUAL, frozenset({"unknown_loft"})),
    Answer(About.SENDER_RATE, Lasting.TEMPORARY, _MANUAL, frozenset({"no_more_seed"}), used_up=True),
    Answer(About.INFRASTRUCTURE, Lasting.TEMPORARY, _MANUAL, frozenset({"hawk_on_the_way"})),
    Answer(About.RECIPIENT_POLICY, Lasting.PERMANENT, _MANUAL, frozenset({"recipient_keeps_a_cat"}), listed=True),
)
"""Pigeon's `error`; what is not listed is read by its status."""

EVENTS: Final[Mapping[str, Meaning]] = {
    "took_off": Meaning(EventKind.SENT),
    "landed": Meaning(EventKind.DELIVERED),
    "no_such_window": Meaning(EventKind.BOUNCED, BounceClass.HARD),
    "turned_back": Meaning(EventKind.BOUNCED, BounceClass.SOFT),
    "shooed_away": Meaning(EventKind.COMPLAINED),
}
"""Pigeon's `event`."""

RESERVED_FIELDS: Final = frozenset("from to subject text html reference".split())


class PigeonProvider(HTTPProvider):
    """One loft."""

    name = "pigeon"
    Options = PigeonOptions
    webhook_secrets = ("webhook_secrets",)
    signed_headers = (SIGNATURE,)
    options: PigeonOptions

    def credentials(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self.options.api_key.reveal()}"}

    def fitting(self, mail: Outgoing) -> Outgoing:
        return labelled(mail, (), {})  # a pigeon carries no labels

    def encode(self, mail: Outgoing) -> bytes:
        if mail.attachments:
            raise Unsendable("unsupported_attachments")  # a pigeon carries paper
        for feature in ("reply_to", "cc", "bcc", "headers"):
            if getattr(mail, feature):
                raise Unsendable(f"unsupported_{feature}")
        fields = {
            "from": mailbox(mail.sender),
            "to": mailbox(mail.recipient),
            "subject": mail.subject,
            "text": mail.text,
            "html": mail.html,
            "reference": str(mail.delivery_id),
        }
        said = {key: value for key, value in fields.items() if value is not None}
        return encode_json(provider_options(mail, self.name, RESERVED_FIELDS) | said)

    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        return HTTPRequest("/v1/flights", parts[0], {"content-type": "application/json"})

    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        found = answer.json()
        found = found if isinstance(found, dict) else {}
        if answer.ok:
            flight = parsing.text(found.get("flight"))
            # without its number nobody knows whether it took off
            return [Outcome(OutcomeClass.ACCEPTED, flight, status=answer.status)] if flight else []
        return [refusal(answer, self.name, parsing.label_of(found.get("error")), rows=ANSWERS)]

    def verify(self, request: WebhookRequest) -> Secret:
        if not self.options.webhook_secrets:
            raise missing_secret(self.account, "webhook_secrets")
        given = request.header(SIGNATURE)
        if not given.isascii():
            raise SignatureError(SignatureErrorType.MALFORMED_HEADER, SIGNATURE)
        # all are compared, so that the time does not tell which one matched
        matches = [
            hmac.compare_digest(hmac.digest(secret.reveal().encode(), request.body, "sha256").hex(), given)
            for secret in self.options.webhook_secrets
        ]
        if not any(matches):
            raise SignatureError(SignatureErrorType.BAD_SIGNATURE)
        return self.options.webhook_secrets[matches.index(True)]

    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        items = parsing.parse_json(body)
        if not isinstance(items, list):
            raise WebhookBodyError("Pigeon posts a JSON array")
        return parsing.read_items(items, _event, _name, provider=self.name, account=self.account)


def _event(item: dict[str, Any]) -> ProviderEvent:
    meaning = EVENTS.get(_name(item), UNMAPPED)
    return ProviderEvent(
        kind=meaning.kind,
        provider_event_id=parsing.fingerprint(item.get("flight"), _name(item), item.get("at")),
        occurred_at=parsing.iso_moment(item.get("at")),
        delivery_id=parsing.delivery_of(item.get("reference")),
        provider_message_id=parsing.text(item.get("flight")),
        recipient=parsing.address_of(item.get("to")),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
    )


def _name(item: dict[str, Any]) -> str:
    return parsing.label_of(item.get("event"))
