"""Tests of webhooks: the genuine are believed, the forged refused, and nothing makes a room fall over."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from mailglass.errors import ConfigError, SignatureError, WebhookBodyError
from mailglass.mail.events import EventKind, ProviderEvent
from mailglass.providers.base import Provider
from mailglass.providers.credentials import webhook_secrets_of
from mailglass.testing.provider_suite.declaration import Declaration, Feature, Webhook
from mailglass.testing.provider_suite.mutations import damaged, flipped, flipped_bytes, odd_texts, places

DAMAGED = 300
FLIPS = 60


class WebhookSuite(Declaration):
    """`verify`, `normalise` and `delivery_key`; no network is needed for any of them."""

    def test_a_genuine_webhook_is_believed(self, nowhere: Provider, samples: list[Webhook]) -> None:
        for webhook in samples:
            proved_by = nowhere.verify(webhook.request())
            assert proved_by is None or proved_by in webhook_secrets_of(nowhere)

    def test_a_genuine_webhook_is_read(self, nowhere: Provider, samples: list[Webhook]) -> None:
        for webhook in samples:
            events = self._read(nowhere, webhook)
            assert all(isinstance(event, ProviderEvent) for event in events)
            for event in events:
                assert isinstance(event.kind, EventKind)
                assert event.provider_event_id
                assert event.occurred_at is None or event.occurred_at.tzinfo is not None
        kinds = {event.kind for webhook in samples for event in self._read(nowhere, webhook)}
        assert kinds - {EventKind.UNKNOWN}, "not one of the samples is understood"

    def test_what_is_kept_is_enough_to_read_it_again(self, nowhere: Provider, samples: list[Webhook]) -> None:
        for webhook in samples:
            assert self._read(nowhere, webhook) == self._read(nowhere, webhook)
        assert "authorization" not in {name.lower() for name in self.provider_class.signed_headers}

    def test_our_delivery_id_comes_back(self, nowhere: Provider, samples: list[Webhook]) -> None:
        self.need(Feature.CORRELATION)
        found = {str(event.delivery_id) for webhook in samples for event in self._read(nowhere, webhook)}
        assert self.delivery in found

    def test_without_a_webhook_secret_nothing_is_believed(self, samples: list[Webhook]) -> None:
        bare = {name: value for name, value in self.options.items() if name not in self.webhook_options}
        provider = self.build(bare)
        for webhook in samples:
            with pytest.raises(ConfigError) as error:
                provider.verify(webhook.request())
            self.shows_nothing(error.value)
        provider.close()

    def test_a_proof_that_is_missing_or_altered_is_refused(self, nowhere: Provider, samples: list[Webhook]) -> None:
        for webhook in samples:
            for name in self.proof_headers:
                value = webhook.headers[name]
                without = {key: text for key, text in webhook.headers.items() if key != name}
                self._refused(nowhere, webhook, without)
                for place in places(len(value), FLIPS):
                    self._refused(nowhere, webhook, {**webhook.headers, name: flipped(value, place)})

    def test_a_body_that_was_altered_is_refused(self, nowhere: Provider, samples: list[Webhook]) -> None:
        self.need(Feature.SIGNED_BODY)
        for webhook in samples:
            for place in places(len(webhook.body), FLIPS):
                self._refused(nowhere, webhook, body=flipped_bytes(webhook.body, place))
            self._refused(nowhere, webhook, body=b"")

    def test_the_raw_bytes_are_what_is_proved(self, nowhere: Provider, samples: list[Webhook]) -> None:
        self.need(Feature.SIGNED_BODY, Feature.SIGNED_BYTES)
        for webhook in samples:
            for body in (webhook.body + b" ", webhook.body[:-1], b" " + webhook.body):
                self._refused(nowhere, webhook, body=body)

    def test_one_webhooks_proof_is_not_anothers(self, nowhere: Provider, samples: list[Webhook]) -> None:
        self.need(Feature.SIGNED_BODY)
        for one, other in pairwise(samples):
            if one.body != other.body:
                self._refused(nowhere, one, body=other.body)

    def test_any_headers_are_believed_or_refused(self, nowhere: Provider, samples: list[Webhook]) -> None:
        for name in self.proof_headers:
            for text in odd_texts(samples[0].headers[name], 100, seed=len(name)):
                try:
                    nowhere.verify(samples[0].request({**samples[0].headers, name: text}))
                except SignatureError as error:
                    self.shows_nothing(error)

    def test_any_body_is_believed_or_refused(self, nowhere: Provider, samples: list[Webhook]) -> None:
        for body in damaged([webhook.body for webhook in samples], DAMAGED, seed=1):
            try:
                nowhere.verify(samples[0].request(body=body))
            except SignatureError as error:
                self.shows_nothing(error)

    def test_any_body_is_read_or_said_to_be_none(self, nowhere: Provider, samples: list[Webhook]) -> None:
        headers = self.kept_headers(samples[0])
        for body in damaged([webhook.body for webhook in samples], DAMAGED, seed=2):
            for given in (headers, {}):
                try:
                    events = nowhere.normalise(body, given)
                except WebhookBodyError as error:
                    self.shows_nothing(error)
                else:
                    assert isinstance(events, list)
                    assert all(isinstance(event, ProviderEvent) and event.provider_event_id for event in events)

    def test_any_request_has_a_key_or_none(self, nowhere: Provider, samples: list[Webhook]) -> None:
        for webhook in samples:
            key = nowhere.delivery_key(webhook.request())
            assert key is None or (isinstance(key, str) and key)
            assert nowhere.delivery_key(webhook.request()) == key
            self.shows_nothing(key)
        for body in damaged([webhook.body for webhook in samples], DAMAGED // 3, seed=3):
            for headers in (samples[0].headers, {}):
                key = nowhere.delivery_key(samples[0].request(headers, body))
                assert key is None or isinstance(key, str)

    def test_a_proof_that_does_not_cover_the_body_tells_one_webhook_from_another(
        self, nowhere: Provider, samples: list[Webhook]
    ) -> None:
        bound: dict[bytes, bytes] = {}
        for webhook in samples:
            for proof in nowhere.single_use(webhook.request()):
                assert isinstance(proof, bytes)
                assert len(proof) >= 16
                assert bound.setdefault(proof, webhook.body) == webhook.body
            assert list(nowhere.single_use(webhook.request())) == list(nowhere.single_use(webhook.request()))

    def test_order_and_repetition_change_no_identity(self, nowhere: Provider, samples: list[Webhook]) -> None:
        for webhook in samples:
            headers = self.kept_headers(webhook)
            ids = {event.provider_event_id for event in nowhere.normalise(webhook.body, headers)}
            for body in self.rearranged(webhook.body):
                assert {event.provider_event_id for event in nowhere.normalise(body, headers)} == ids

    def test_different_events_have_different_identities(self, nowhere: Provider, samples: list[Webhook]) -> None:
        events = {event for webhook in samples for event in self._read(nowhere, webhook)}
        assert len(events) == len({event.provider_event_id for event in events})

    def test_no_identity_holds_an_address(self, nowhere: Provider, samples: list[Webhook]) -> None:
        for event in (event for webhook in samples for event in self._read(nowhere, webhook)):
            assert "@" not in event.provider_event_id
            assert (event.recipient or "@").lower() not in event.provider_event_id.lower()

    def test_no_repr_of_an_event_shows_an_address(self, nowhere: Provider, samples: list[Webhook]) -> None:
        for webhook in samples:
            self.shows_nothing(
                *(repr(event) for event in self._read(nowhere, webhook)), repr(webhook.request().body[:0])
            )

    def test_a_webhook_may_be_posted_again(self) -> None:
        assert 400 <= self.provider_class.retry_status < 600

    def test_a_request_without_a_proof_is_never_believed(self, nowhere: Provider) -> None:
        for headers in ({}, {"authorization": "Basic eDp4"}):
            with pytest.raises((SignatureError, ConfigError)):
                nowhere.verify(Webhook(headers, json.dumps([]).encode()).request())

    def _read(self, provider: Provider, webhook: Webhook) -> list[ProviderEvent]:
        return provider.normalise(webhook.body, self.kept_headers(webhook))

    def _refused(
        self, provider: Provider, webhook: Webhook, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> None:
        with pytest.raises(SignatureError) as error:
            provider.verify(webhook.request(headers, body))
        self.shows_nothing(error.value)
