"""The webhook endpoint, without a framework: verify the raw bytes, store them, acknowledge.

Framework adapters pass an `IncomingWebhook` and send the `Response`. Nothing here parses a body. An adapter may pass
several waiting requests together. They are verified one by one and stored by one statement, and none is answered before
its row is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from mailglass import telemetry
from mailglass.errors import AccountUnavailableError, ConfigError, MailglassError, SignatureError, TenantError
from mailglass.ledger.database import Database
from mailglass.ledger.webhooks import Arrival
from mailglass.providers.base import Provider, WebhookRequest
from mailglass.providers.registry import Accounts, provider_class
from mailglass.routing import Router
from mailglass.settings import Settings
from mailglass.webhooks.client_address import with_client_address
from mailglass.webhooks.secret_uses import SecretUses
from mailglass.webhooks.store import Ring, arrival, store
from mailglass.webhooks.tenants import resolves_by_code, tenant_of


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response, independent of any framework."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class IncomingWebhook:
    """One webhook as it was posted.

    Attributes:
        account: the account in the URL.
        request: its raw bytes, and its headers with names in lower case.
        tenant: the tenant in the URL, if there is one.
    """

    account: str
    request: WebhookRequest
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class IngressContext:
    """Dependencies of the endpoint.

    Attributes:
        settings: of the process.
        database: stores webhooks.
        accounts: verify webhooks.
        ring: rings a task by its name, such as `Doorbell.ring_task`; if it fails, the request does not.
        router: has the tenancy hooks; without it, URLs and accounts name the tenants.
        secret_uses: keeps when each webhook secret was used; without it nobody does.
    """

    settings: Settings
    database: Database
    accounts: Accounts
    ring: Ring
    router: Router | None = None
    secret_uses: SecretUses | None = None


STORED = Response(200)
NOT_FOUND = Response(404)
TOO_LARGE = Response(413)
UNRESOLVED = Response(422)
MISCONFIGURED = Response(500)
# RFC 9110 11.6.1 asks for a challenge; some HTTP clients send credentials only after this one
UNAUTHORIZED = Response(401, (("www-authenticate", 'Basic realm="mailglass", charset="UTF-8"'),))


def handle_all(webhooks: Sequence[IncomingWebhook], context: IngressContext) -> list[Response]:
    """Verify and store webhooks that came at about the same time. None of them affects another.

    Returns:
        For each webhook, in order, a response without a body. Its status is 200 for a stored webhook, new or known; 401
        if the provider did not send it; 404 for an unknown account; 413 if it is larger than `webhooks.max_body`; 422
        if its tenant is not known. If the fault is ours, it is one at which the provider posts again: its
        `retry_status`, or 500 for an account that cannot verify.
    """
    return store_all(verify_all(webhooks, context), context)


def verify_all(webhooks: Sequence[IncomingWebhook], context: IngressContext) -> list[VerifiedWebhook | Response]:
    """Verify webhooks and find their tenants: the first half of `handle_all`.

    Returns:
        For each webhook, in order, the verified one, or the response that refuses it.
    """
    return [_verify(webhook, context) for webhook in webhooks]


def store_all(verified: Sequence[VerifiedWebhook | Response], context: IngressContext) -> list[Response]:
    """Store verified webhooks: the second half of `handle_all`. Waits for the database."""
    accepted = [item for item in verified if isinstance(item, VerifiedWebhook)]
    results = iter(store(context.database, [item.arrival for item in accepted], context.ring))
    responses: list[Response] = []
    for item in verified:
        if isinstance(item, Response):
            responses.append(item)
            continue
        result = next(results)
        if isinstance(result, SignatureError):
            responses.append(_refused(item.arrival.account, UNAUTHORIZED, result.type.value))
        else:
            responses.append(_retry(item.provider) if isinstance(result, Exception) else STORED)
    if context.secret_uses is not None:
        context.secret_uses.write()
    return responses


def can_verify_inline(account: str, context: IngressContext) -> bool:
    """Return whether `verify_all` never blocks: the account's provider only computes, and no hook is asked."""
    if context.accounts.is_resolved(account):
        return False
    try:
        waits = context.accounts.open(account).waits_to_verify
        return not waits and (context.router is None or not resolves_by_code(context.router.tenancy))
    except MailglassError:
        return False


def retry_later(account: str, accounts: Accounts) -> Response:
    """Return the response at which the account's provider posts again. Waits for no hook."""
    try:
        if accounts.is_resolved(account):
            return Response(provider_class(accounts.provider_name(account)).retry_status, _SOON)
        return _retry(accounts.open(account))
    except ConfigError:
        return Response(503, _SOON)


@dataclass(frozen=True, slots=True)
class VerifiedWebhook:
    """A verified webhook with its tenant, ready to store."""

    provider: Provider
    arrival: Arrival


_SOON = (("retry-after", "5"),)


def _retry(provider: Provider) -> Response:
    return Response(provider.retry_status, _SOON)


def _cannot_verify(provider: str) -> Response:
    """Return 500, or the retry status of a provider that gives up at a 500."""
    try:
        status = provider_class(provider).retry_status
    except ConfigError:
        return MISCONFIGURED
    return MISCONFIGURED if status >= 500 else Response(status, _SOON)


def _verify(webhook: IncomingWebhook, context: IngressContext) -> VerifiedWebhook | Response:
    account, request = webhook.account, webhook.request
    try:
        settings = context.accounts.settings(account, stranger=True)
    except ConfigError as error:
        return _unresolved(account, context.accounts, error)
    size, webhook_settings = len(request.body), context.settings.webhooks
    if size > webhook_settings.max_body:
        telemetry.emit("mailglass.webhook.refused", level=logging.WARNING, account=account, status=413, size=size)
        return TOO_LARGE
    try:
        provider = context.accounts.open(account)
        secret = provider.verify(with_client_address(request, webhook_settings.trusted_proxies))
    except SignatureError as error:
        return _refused(account, UNAUTHORIZED, error.type.value)
    except ConfigError as error:
        return _misconfigured(account, _cannot_verify(settings.provider), error.key)
    except Exception as error:
        return _failed(account, _cannot_verify(settings.provider), error)
    if secret is not None and context.secret_uses is not None:
        context.secret_uses.note(provider, secret)
    try:
        tenant = tenant_of(settings, webhook.tenant, None if context.router is None else context.router.tenancy)
        key, proofs = provider.delivery_key(request), provider.single_use(request)
    except TenantError:
        return _refused(account, UNRESOLVED, "tenant_unresolved")
    except Exception as error:
        return _failed(account, _retry(provider), error)
    return VerifiedWebhook(provider, arrival(account, provider, key, request.body, request.headers, tenant, proofs))


def refuse_unknown(account: str, accounts: Accounts) -> Response | None:
    """Return the response to a webhook whose account does not exist or cannot be told, or None if it is there.

    May wait for the application's hook: for an account that the settings name it does not.
    """
    try:
        accounts.settings(account, stranger=True)
    except ConfigError as error:
        return _unresolved(account, accounts, error)
    return None


def _unresolved(account: str, accounts: Accounts, error: ConfigError) -> Response:
    if not isinstance(error, AccountUnavailableError) or error.missing:
        return unknown_account()
    telemetry.emit("mailglass.webhook.refused", level=logging.WARNING, status=503, reason="account_unavailable")
    return retry_later(account, accounts)


def unknown_account() -> Response:
    """Return the response to a webhook for an account that does not exist."""
    # the name comes from a stranger, so it is not repeated
    telemetry.emit("mailglass.webhook.refused", level=logging.WARNING, status=404, reason="unknown_account")
    return NOT_FOUND


def _refused(account: str, response: Response, reason: str) -> Response:
    telemetry.emit(
        "mailglass.webhook.refused", level=logging.WARNING, account=account, status=response.status, reason=reason
    )
    return response


def _misconfigured(account: str, response: Response, reason: str) -> Response:
    telemetry.emit(
        "mailglass.webhook.misconfigured", level=logging.ERROR, account=account, status=response.status, reason=reason
    )
    return response


def _failed(account: str, response: Response, error: Exception) -> Response:
    telemetry.emit(
        "mailglass.webhook.failed",
        level=logging.ERROR,
        account=account,
        status=response.status,
        error_type=type(error).__name__,
    )
    return response
