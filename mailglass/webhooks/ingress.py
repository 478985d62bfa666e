"""The webhook endpoint, without a framework: verify the raw bytes, keep them, acknowledge.

Framework adapters give it a `WebhookRequest` and send its `Answer`; nothing here looks into a body.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from mailglass import telemetry
from mailglass.doorbell import WEBHOOKS
from mailglass.errors import ConfigError, SignatureError
from mailglass.ledger import webhooks
from mailglass.ledger.database import Database
from mailglass.providers.base import Provider, WebhookRequest
from mailglass.providers.registry import Accounts
from mailglass.settings import Settings

Ring = Callable[[str], object]

# credentials are not kept, whatever a provider's room says is signed
_NEVER_KEPT = frozenset({"authorization", "proxy-authorization", "cookie"})
_MAX_KEY = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


STORED = Answer(200)
NOT_FOUND = Answer(404)
TOO_LARGE = Answer(413)
MISCONFIGURED = Answer(500)
# RFC 9110 11.6.1 asks for a challenge; some HTTP clients send credentials only after this one
UNAUTHORIZED = Answer(401, (("www-authenticate", 'Basic realm="mailglass", charset="UTF-8"'),))


def handle(
    account: str, request: WebhookRequest, *, settings: Settings, database: Database, accounts: Accounts, ring: Ring
) -> Answer:
    """Take one webhook.

    Args:
        account: as it stands in the URL.
        request: its raw bytes, and its headers with names in lower case.
        ring: rings a task by its name, for example `Doorbell.ring_task`; its failure is no failure of the request.

    Returns:
        200 kept, now or before; 401 not from the provider; 404 no such account; 413 larger than
        `webhooks.max_body`; 500 the account cannot verify; the provider's `retry_status` where the fault is ours and
        it should post again. Never a body.
    """
    try:
        accounts.settings(account)
    except ConfigError:
        # the name is a stranger's word, so it is not repeated
        telemetry.emit("mailglass.webhook.refused", level=logging.WARNING, status=404, reason="unknown_account")
        return NOT_FOUND
    if len(request.body) > settings.webhooks.max_body:
        telemetry.emit(
            "mailglass.webhook.refused", level=logging.WARNING, account=account, status=413, size=len(request.body)
        )
        return TOO_LARGE
    try:
        provider = accounts.open(account)
        provider.verify(request)
    except SignatureError as error:
        telemetry.emit(
            "mailglass.webhook.refused", level=logging.WARNING, account=account, status=401, reason=error.type.value
        )
        return UNAUTHORIZED
    except ConfigError as error:
        telemetry.emit(
            "mailglass.webhook.misconfigured", level=logging.ERROR, account=account, status=500, reason=error.key
        )
        return MISCONFIGURED
    except Exception as error:
        telemetry.emit(
            "mailglass.webhook.failed",
            level=logging.ERROR, account=account, status=500, error_type=type(error).__name__,
        )  # fmt: skip
        return MISCONFIGURED
    return _keep(account, provider, request, database, ring)


def retry_later(account: str, accounts: Accounts) -> Answer:
    """The answer that makes the account's provider post again, without having looked at the request."""
    try:
        return Answer(accounts.open(account).retry_status, (("retry-after", "5"),))
    except ConfigError:
        return Answer(503, (("retry-after", "5"),))


def _keep(account: str, provider: Provider, request: WebhookRequest, database: Database, ring: Ring) -> Answer:
    size = len(request.body)
    try:
        new = webhooks.store(
            database,
            account,
            provider.name,
            _dedupe_key(provider, request),
            request.body,
            _kept_headers(provider, request),
        )
    except Exception as error:
        # the text of a database's error may quote what it refused
        telemetry.emit(
            "mailglass.webhook.failed",
            level=logging.ERROR, account=account, provider=provider.name, status=provider.retry_status, size=size,
            error_type=type(error).__name__,
        )  # fmt: skip
        return Answer(provider.retry_status, (("retry-after", "5"),))
    telemetry.emit(
        "mailglass.webhook.stored",
        account=account, provider=provider.name, size=size, stored=int(new), duplicates=int(not new),
    )  # fmt: skip
    if new:
        try:
            ring(WEBHOOKS)
        except Exception as error:
            telemetry.emit("mailglass.webhook.unrung", level=logging.WARNING, error_type=type(error).__name__)
    return STORED


def _dedupe_key(provider: Provider, request: WebhookRequest) -> str:
    key = provider.delivery_key(request)
    if key is None:
        return hashlib.sha256(request.body).hexdigest()
    if len(key) <= _MAX_KEY and key.isprintable():
        return key
    # providers' keys are short; whatever this is must fit into an index all the same
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def _kept_headers(provider: Provider, request: WebhookRequest) -> dict[str, str]:
    names = {name.lower() for name in provider.signed_headers} - _NEVER_KEPT
    return {name: request.headers[name] for name in sorted(names) if name in request.headers}
