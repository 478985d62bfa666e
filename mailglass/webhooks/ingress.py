"""The webhook endpoint, without a framework: verify the raw bytes, keep them, acknowledge.

Framework adapters give it a `WebhookRequest` and send its `Answer`; nothing here looks into a body. An adapter that has
several requests waiting may hand them over together: they are verified one by one and kept by one statement, and none
is answered before its row is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from mailglass import telemetry
from mailglass.errors import ConfigError, MailglassError, SignatureError, TenantError
from mailglass.ledger.database import Database
from mailglass.ledger.webhooks import Arrival
from mailglass.providers.base import Provider, WebhookRequest
from mailglass.providers.registry import Accounts, provider_class
from mailglass.routing import Router
from mailglass.settings import Settings
from mailglass.webhooks.client_address import seen_through
from mailglass.webhooks.store import Ring, arrival, keep
from mailglass.webhooks.tenants import resolves_by_code, tenant_of


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Posted:
    """One webhook as it came.

    Attributes:
        account: as it stands in the URL.
        request: its raw bytes, and its headers with names in lower case.
        tenant: as it stands in the URL, if it does.
    """

    account: str
    request: WebhookRequest
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """What the endpoint works with.

    Attributes:
        ring: rings a task by its name, for example `Doorbell.ring_task`; its failure is no failure of the request.
        router: whose tenancy hooks are asked; left out, paths and accounts name the tenants.
    """

    settings: Settings
    database: Database
    accounts: Accounts
    ring: Ring
    router: Router | None = None


STORED = Answer(200)
NOT_FOUND = Answer(404)
TOO_LARGE = Answer(413)
UNRESOLVED = Answer(422)
MISCONFIGURED = Answer(500)
# RFC 9110 11.6.1 asks for a challenge; some HTTP clients send credentials only after this one
UNAUTHORIZED = Answer(401, (("www-authenticate", 'Basic realm="mailglass", charset="UTF-8"'),))


def handle(
    account: str,
    request: WebhookRequest,
    *,
    settings: Settings,
    database: Database,
    accounts: Accounts,
    ring: Ring,
    tenant: str | None = None,
    router: Router | None = None,
) -> Answer:
    """Take one webhook; see `handle_all`.

    Args:
        account: as it stands in the URL.
        request: its raw bytes, and its headers with names in lower case.
        ring: rings a task by its name, for example `Doorbell.ring_task`; its failure is no failure of the request.
        tenant: as it stands in the URL, if it does.
        router: whose tenancy hooks are asked; left out, path and account name the tenant.
    """
    (answer,) = handle_all([Posted(account, request, tenant)], Desk(settings, database, accounts, ring, router))
    return answer


def handle_all(posted: Sequence[Posted], desk: Desk) -> list[Answer]:
    """Take webhooks that came at about the same time. None of them sinks another.

    Returns:
        Of each, in order: 200 kept, now or before; 401 not from the provider; 404 no such account; 413 larger than
        `webhooks.max_body`; 422 its tenant cannot be told; where the fault is ours a status at which the provider posts
        again: its `retry_status`, or 500 for an account that cannot verify. Never a body.
    """
    return keep_all(admit_all(posted, desk), desk)


def admit_all(posted: Sequence[Posted], desk: Desk) -> list[Admitted | Answer]:
    """The first half of `handle_all`: verify each webhook and find its tenant; its answer where it is not taken."""
    return [_admit(item, desk) for item in posted]


def keep_all(admitted: Sequence[Admitted | Answer], desk: Desk) -> list[Answer]:
    """The second half of `handle_all`: keep what was admitted. Waits for the database."""
    taken = [item for item in admitted if isinstance(item, Admitted)]
    kept = iter(keep(desk.database, [item.arrival for item in taken], desk.ring))
    answers: list[Answer] = []
    for item in admitted:
        if isinstance(item, Answer):
            answers.append(item)
            continue
        became = next(kept)
        if isinstance(became, SignatureError):
            answers.append(_refused(item.arrival.account, UNAUTHORIZED, became.type.value))
        else:
            answers.append(_again(item.provider) if isinstance(became, Exception) else STORED)
    return answers


def is_proved_at_once(account: str, desk: Desk) -> bool:
    """Whether `admit_all` waits for nobody: the account's proofs only compute, and the application has no hook."""
    try:
        waits = desk.accounts.open(account).waits_to_verify
        return not waits and (desk.router is None or not resolves_by_code(desk.router.tenancy))
    except MailglassError:
        return False


def retry_later(account: str, accounts: Accounts) -> Answer:
    """The answer that makes the account's provider post again, without having looked at the request."""
    try:
        return _again(accounts.open(account))
    except ConfigError:
        return Answer(503, _SOON)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A verified webhook, and whose it is."""

    provider: Provider
    arrival: Arrival


_SOON = (("retry-after", "5"),)


def _again(provider: Provider) -> Answer:
    return Answer(provider.retry_status, _SOON)


def _cannot_verify(provider: str) -> Answer:
    """500, but for providers that give up at it."""
    try:
        status = provider_class(provider).retry_status
    except ConfigError:
        return MISCONFIGURED
    return MISCONFIGURED if status >= 500 else Answer(status, _SOON)


def _admit(posted: Posted, desk: Desk) -> Admitted | Answer:
    """Verify one webhook and find its tenant; an answer where it is not taken."""
    account, request = posted.account, posted.request
    try:
        known = desk.accounts.settings(account)
    except ConfigError:
        return unknown_account()
    if len(request.body) > desk.settings.webhooks.max_body:
        telemetry.emit(
            "mailglass.webhook.refused", level=logging.WARNING, account=account, status=413, size=len(request.body)
        )
        return TOO_LARGE
    try:
        provider = desk.accounts.open(account)
        provider.verify(seen_through(request, desk.settings.webhooks.trusted_proxies))
    except SignatureError as error:
        return _refused(account, UNAUTHORIZED, error.type.value)
    except ConfigError as error:
        answer = _cannot_verify(known.provider)
        telemetry.emit(
            "mailglass.webhook.misconfigured",
            level=logging.ERROR, account=account, status=answer.status, reason=error.key,
        )  # fmt: skip
        return answer
    except Exception as error:
        return _failed(account, _cannot_verify(known.provider), error)
    try:
        tenant = tenant_of(known, posted.tenant, None if desk.router is None else desk.router.tenancy)
        key, proofs = provider.delivery_key(request), provider.single_use(request)
    except TenantError:
        return _refused(account, UNRESOLVED, "tenant_unresolved")
    except Exception as error:
        return _failed(account, _again(provider), error)
    return Admitted(provider, arrival(account, provider, key, request.body, request.headers, tenant, proofs))


def unknown_account() -> Answer:
    """Return the answer to a webhook for an account that does not exist."""
    # the name is a stranger's word, so it is not repeated
    telemetry.emit("mailglass.webhook.refused", level=logging.WARNING, status=404, reason="unknown_account")
    return NOT_FOUND


def _refused(account: str, answer: Answer, reason: str) -> Answer:
    telemetry.emit(
        "mailglass.webhook.refused", level=logging.WARNING, account=account, status=answer.status, reason=reason
    )
    return answer


def _failed(account: str, answer: Answer, error: Exception) -> Answer:
    telemetry.emit(
        "mailglass.webhook.failed",
        level=logging.ERROR, account=account, status=answer.status, error_type=type(error).__name__,
    )  # fmt: skip
    return answer
