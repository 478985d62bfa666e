"""A provider's declaration to the suite, and the fixtures of the suite's tests."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

import pytest

from mailglass.clock import monotonic
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider, WebhookRequest
from mailglass.settings import build_options
from mailglass.testing.provider_suite.mails import DELIVERY, RECIPIENT
from mailglass.testing.provider_suite.wire import HTTPWire, Reply, Seen, Wire, closed_port

ACCOUNT = "acme-account"


class Feature(StrEnum):
    """Capabilities that a provider may lack, with a reason."""

    WIRE = "wire"
    """It sends over no network."""
    WEBHOOKS = "webhooks"
    """Nobody posts webhooks to it."""
    SIGNED_BODY = "signed body"
    """Its webhooks' proof does not cover their bodies."""
    SIGNED_BYTES = "signed bytes"
    """Its webhooks' proof covers what is read from the bytes and not the bytes themselves."""
    CORRELATION = "correlation"
    """Our delivery id does not come back in its events."""
    SUPPRESSION_LIST = "suppression list"
    """The provider has no list that can be read and written."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A genuine webhook, as the provider posts it.

    Attributes:
        headers: names in lower case.
        url: as the provider calls it, where its signature covers that.
    """

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    url: str = field(default="", repr=False)
    remote_addr: str = "127.0.0.1"

    def request(self, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> WebhookRequest:
        """As the endpoint gets it, perhaps with other headers or another body."""
        return WebhookRequest(
            dict(self.headers if headers is None else headers),
            self.body if body is None else body,
            self.url,
            self.remote_addr,
        )


class Declaration:
    """One room under test.

    Class attributes:
        provider_class: the room.
        options: the account's table as it would stand in `mailglass.toml`, secrets as `env:` references, webhooks
            included.
        environ: the values of those references. None of them may be a common word: tests look for them in texts.
        webhook_options: the names in `options` without which no webhook can be proved.
        address_option: the option that says where the provider's API is, and `address` what stands there:
            `{url}`, `{port}` and `{host}` are the loopback server's.
        proof_headers: the webhook headers that prove something; each is looked at one by one.
        faults: statuses with which a server fails that say nothing of the mail.
        lacks: features the room does not have, each with the reason.
    """

    provider_class: ClassVar[type[Provider]]
    options: ClassVar[Mapping[str, Any]] = {}
    environ: ClassVar[Mapping[str, str]] = {}
    webhook_options: ClassVar[Sequence[str]] = ()
    address_option: ClassVar[str] = "base_url"
    address: ClassVar[str] = "{url}"
    proof_headers: ClassVar[Sequence[str]] = ()
    faults: ClassVar[Sequence[int]] = (500, 502, 504)
    lacks: ClassVar[Mapping[str, str]] = {}

    def accept(self, request: Seen) -> Reply:
        """Return the provider's answer when it takes every mail of a request."""
        raise AssertionError("say what the provider answers when it takes the mails of a request")

    def refuse(self, request: Seen) -> Reply:
        """Return the provider's answer when it will never take any mail of a request."""
        return Reply(400, b"{}", {"content-type": "application/json"})

    def webhooks(self) -> list[Webhook]:
        """Genuine webhooks, signed just now; events of delivery `DELIVERY` to `RECIPIENT` among them."""
        raise AssertionError("give genuine webhooks, or declare that the room lacks them")

    def holds(self, request: Seen, text: str) -> bool:
        """Return whether a request holds a text of ASCII letters, digits and `-`, base64 in JSON values included."""
        if text.encode() in request.body:
            return True
        try:
            return any(text.encode() in content for content in _decoded(request.json()))
        except ValueError:
            return False

    def rearranged(self, body: bytes) -> list[bytes]:
        """Return the same events in other bodies: reordered, or some of them twice. Reads JSON arrays by default."""
        try:
            items = json.loads(body)
        except ValueError:
            return []
        if not isinstance(items, list):
            return []
        return [json.dumps(order).encode() for order in (items[::-1], items + items[::-1], items * 3)]

    def open_wire(self) -> Wire:
        """Return the server that stands in for the provider."""
        return HTTPWire(self.accept)

    def build(self, raw: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Provider:
        """Return the room's account from a table of options."""
        cls: type[Any] = self.provider_class.Options
        options: object = build_options(cls, raw, f"accounts.{ACCOUNT}", self.environ if environ is None else environ)
        return self.provider_class(ACCOUNT, options)

    @property
    def delivery(self) -> str:
        """The delivery id that sample webhooks carry."""
        return str(DELIVERY)

    @property
    def recipient(self) -> str:
        """The address that sample webhooks are about."""
        return RECIPIENT

    # --- what the tests stand on ---

    def need(self, *features: Feature) -> None:
        """Skip the test where the room has declared that it lacks one of these."""
        for feature in features:
            if feature in self.lacks:
                pytest.skip(f"{self.provider_class.name} has no {feature}: {self.lacks[feature]}")

    def at(self, port: int) -> dict[str, Any]:
        """Return the options of an account whose provider is at a port of loopback."""
        if Feature.WIRE in self.lacks:
            return dict(self.options)
        address: Any = self.address.format(url=f"http://127.0.0.1:{port}", port=port, host="127.0.0.1")
        return {**self.options, self.address_option: int(address) if address.isdigit() else address}

    @pytest.fixture
    def wire(self) -> Iterator[Wire]:
        """Yield the provider's stand-in, which takes everything."""
        self.need(Feature.WIRE)
        with self.open_wire() as wire:
            yield wire

    @pytest.fixture
    def provider(self, wire: Wire) -> Iterator[Provider]:
        """Yield an account at the stand-in."""
        provider = self.build(self.at(wire.port))
        yield provider
        provider.close()

    @pytest.fixture
    def nowhere(self) -> Iterator[Provider]:
        """Yield an account whose provider cannot be reached."""
        provider = self.build(self.at(closed_port()))
        yield provider
        provider.close()

    @pytest.fixture
    def samples(self) -> list[Webhook]:
        """Return the genuine webhooks."""
        self.need(Feature.WEBHOOKS)
        found = self.webhooks()
        assert found, "give at least one genuine webhook"
        return found

    def kept_headers(self, webhook: Webhook) -> dict[str, str]:
        """Return the headers that the ingress keeps, and that `normalise` gets."""
        names = {name.lower() for name in self.provider_class.signed_headers}
        return {name: value for name, value in webhook.headers.items() if name in names}

    def shows_nothing(self, *texts: object) -> None:
        """Fail where a secret, the recipient or a sample's body shows in texts or in errors with their causes."""
        for text in texts:
            shown = "".join(traceback.format_exception(text)) if isinstance(text, BaseException) else str(text)
            for name, secret in self.environ.items():
                assert secret not in shown, f"{name} shows"
            assert RECIPIENT not in shown, "an address shows"


def send(provider: Provider, *mails: Outgoing, within: float = 20.0) -> list[Outcome]:
    """Send mails and check the form of what comes back."""
    outcomes = provider.send(mails, deadline=monotonic() + within)
    assert len(outcomes) == len(mails), "each mail has one outcome"
    for outcome in outcomes:
        assert isinstance(outcome, Outcome)
        assert isinstance(outcome.kind, OutcomeClass)
        assert outcome.kind is OutcomeClass.ACCEPTED or outcome.reason, "what is not accepted has a reason"
    return outcomes


def _decoded(value: Any) -> Iterator[bytes]:
    """All texts in a JSON value, and what those that are base64 hold."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _decoded(item)
    elif isinstance(value, list):
        for item in value:
            yield from _decoded(item)
    elif isinstance(value, str):
        yield value.encode("utf-8", "replace")
        try:
            yield base64.b64decode(value, validate=True)
        except ValueError:
            return
