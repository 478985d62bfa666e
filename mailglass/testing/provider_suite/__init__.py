"""A conformance suite for provider rooms, for pytest: subclass `ProviderSuite`, say what is yours, and run.

from mailglass.testing.provider_suite import ProviderSuite, Reply, Seen, Webhook

class TestAcme(ProviderSuite):
    provider_class = AcmeProvider
    options = {"api_key": "env:ACME_KEY"}
    environ = {"ACME_KEY": "acme-key-4711"}

    def accept(self, request: Seen) -> Reply:
        return Reply.json({"id": "m-1"})

    def webhooks(self) -> list[Webhook]:
        return [Webhook({"x-acme-signature": ...}, b"...")]

The attributes and hooks are those of `Declaration`. What a room does not have it declares in `lacks`, with the reason;
nothing else is skipped.
"""

from __future__ import annotations

import pytest

for _module in ("options", "sending", "webhooks", "lists", "searching"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")

from mailglass.testing.provider_suite.declaration import Declaration, Feature, Webhook  # noqa: E402
from mailglass.testing.provider_suite.lists import SuppressionSuite  # noqa: E402
from mailglass.testing.provider_suite.options import OptionsSuite  # noqa: E402
from mailglass.testing.provider_suite.searching import SearchSuite  # noqa: E402
from mailglass.testing.provider_suite.sending import SendingSuite  # noqa: E402
from mailglass.testing.provider_suite.webhooks import WebhookSuite  # noqa: E402
from mailglass.testing.provider_suite.wire import HTTPWire, Reply, Seen, Wire  # noqa: E402

__all__ = ["Declaration", "Feature", "HTTPWire", "ProviderSuite", "Reply", "Seen", "Webhook", "Wire"]


class ProviderSuite(OptionsSuite, SendingSuite, WebhookSuite, SuppressionSuite, SearchSuite):
    """All that mailglass asks of a provider's room."""
