"""Fuzz one room: what a stranger may post is read or refused, and never anything else.

Run by `python -m tests.fuzz.room ROOM CORPUS [libFuzzer options]`. Ends with an error and the input that caused it when
`normalise` raises anything but `WebhookBodyError`, or `verify` and `delivery_key` anything but `SignatureError`, or an
event is not what a room promises.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["mailglass.providers", "mailglass.bounces"]):
    from mailglass.providers.base import Provider
    from tests.rooms import ROOMS

import logging

from mailglass.errors import SignatureError, WebhookBodyError
from mailglass.mail.events import ProviderEvent
from mailglass.providers.base import WebhookRequest
from mailglass.testing.provider_suite import Declaration, Feature, Webhook
from mailglass.webhooks.incoming_events import MAX_TEXT


class Target:
    """One room, and the genuine webhooks that inputs are made of."""

    def __init__(self, room: Declaration) -> None:
        self.room = room
        self.provider: Provider = room.build(room.at(9))
        genuine = [] if Feature.WEBHOOKS in room.lacks else room.webhooks()
        self.webhook = genuine[0] if genuine else Webhook({"came-to": "bounces@sender.example"}, b"")

    def __call__(self, data: bytes) -> None:
        """The first byte says what of a webhook the rest replaces: its body, or one of its proofs."""
        if not data:
            return
        choice, rest = data[0], data[1:]
        names = list(self.room.proof_headers)
        if names and choice % 4 == 3:
            name = names[choice // 4 % len(names)]
            self.verify({**self.webhook.headers, name: rest.decode("latin-1")}, self.webhook.body)
        else:
            self.verify(self.webhook.headers, rest)
            self.normalise(rest, self.room.kept_headers(self.webhook) if choice % 2 else {})

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        request = WebhookRequest(dict(headers), body, self.webhook.url, self.webhook.remote_addr)
        with suppress(SignatureError):
            self.provider.verify(request)
        key = self.provider.delivery_key(request)
        if key is not None and not isinstance(key, str):
            raise TypeError("a key that is no text")

    def normalise(self, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            events = self.provider.normalise(body, headers)
        except WebhookBodyError:
            return
        for event in events:
            if not isinstance(event, ProviderEvent) or not event.provider_event_id:
                raise TypeError("an event that is none")
            if len(event.provider_event_id) > MAX_TEXT or "\x00" in event.provider_event_id:
                raise ValueError("an identity that cannot be kept")
            if event.occurred_at is not None and event.occurred_at.tzinfo is None:
                raise ValueError("a time without its zone")
            for text in (event.provider_message_id, event.recipient, event.status):
                if text is not None and ("\x00" in text or len(text) > MAX_TEXT):
                    raise ValueError("a text that cannot be kept")


def seeds(room: Declaration) -> list[bytes]:
    """Inputs to begin with: each genuine body, with and without its headers, and each proof."""
    genuine = [] if Feature.WEBHOOKS in room.lacks else room.webhooks()
    found = [bytes([choice]) + webhook.body for webhook in genuine for choice in (0, 1)]
    for place, name in enumerate(room.proof_headers):
        found.append(bytes([3 + 4 * place]) + genuine[0].headers[name].encode("latin-1"))
    return found or [b"\x00Content-Type: multipart/report\r\n\r\n"]


def main() -> None:
    logging.disable(logging.CRITICAL)
    name, *arguments = sys.argv[1:]
    target = Target(ROOMS[name]())
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
