"""The webhook endpoint, called with one request."""

from __future__ import annotations

from typing import Any

from mailglass.providers.base import WebhookRequest
from mailglass.webhooks.ingress import IncomingWebhook, IngressContext, Response, handle_all


def handle(account: str, request: WebhookRequest, *, tenant: str | None = None, **context: Any) -> Response:
    """Return the response to one webhook; the rest is `IngressContext`'s."""
    (response,) = handle_all([IncomingWebhook(account, request, tenant)], IngressContext(**context))
    return response
