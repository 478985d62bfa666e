# ruff: noqa: RUF012
"""The Pigeon room passes the provider suite."""

import hmac
import json

from mailglass_pigeon import SIGNATURE, PigeonProvider

from mailglass.testing.provider_suite import Feature, ProviderSuite, Reply, Seen, Webhook


class TestPigeon(ProviderSuite):
    provider_class = PigeonProvider
    options = {"api_key": "env:PIGEON_KEY", "webhook_secrets": ["env:PIGEON_OLD", "env:PIGEON_NEW"]}
    environ = {"PIGEON_KEY": "loft-key-4711", "PIGEON_OLD": "old-secret-0815", "PIGEON_NEW": "new-secret-9182"}
    webhook_options = ("webhook_secrets",)
    proof_headers = (SIGNATURE,)
    lacks = {Feature.SUPPRESSION_LIST: "Pigeon keeps none"}

    def accept(self, request: Seen) -> Reply:
        return Reply.json({"flight": "f-1"})

    def refuse(self, request: Seen) -> Reply:
        return Reply.json({"error": "too_heavy"}, status=422)

    def webhooks(self) -> list[Webhook]:
        about = {"flight": "f-1", "reference": self.delivery, "to": self.recipient, "at": "2026-03-04T12:00:00Z"}
        events = [about | {"event": name} for name in ("took_off", "landed", "no_such_window")]
        return [self.signed(events), self.signed(events[:1])]

    def signed(self, events: list[dict[str, str]]) -> Webhook:
        body = json.dumps(events).encode()
        signature = hmac.digest(self.environ["PIGEON_NEW"].encode(), body, "sha256").hex()
        return Webhook({SIGNATURE: signature}, body)
