"""The store of verified webhooks, posted, polled or returned by mail."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from mailglass import telemetry
from mailglass.doorbell import WEBHOOKS
from mailglass.errors import LedgerError, SignatureError, SignatureErrorType
from mailglass.ledger import webhooks
from mailglass.ledger.database import Database
from mailglass.ledger.webhooks import Arrival, Stored
from mailglass.providers.base import Provider

Ring = Callable[[str], object]
StoreResult = bool | Exception
"""Result of storing one webhook: True if new, False if known, or the error; `SignatureError` for a used proof."""

# credentials are not stored, even if a provider signs them
_NEVER_STORED = frozenset({"authorization", "proxy-authorization", "cookie"})
_MAX_KEY = 200


def arrival(
    account: str,
    provider: Provider,
    key: str | None,
    body: bytes,
    headers: Mapping[str, str],
    tenant: str | None,
    proofs: Sequence[bytes] = (),
) -> Arrival:
    """Return a verified webhook in the form that the ledger stores.

    Args:
        account: the account that it is for.
        provider: the account's provider.
        key: identifies the webhook when it is posted again; None: its bytes do.
        body: the raw bytes.
        headers: all headers. The ones that the provider signs are stored, except credentials.
        tenant: the only tenant whose mail the webhook may be about; None for any.
        proofs: the result of `Provider.single_use`.
    """
    stored = {name: headers[name] for name in _stored_names(provider.signed_headers) if name in headers}
    return Arrival(account, provider.name, dedupe_key(key, body, tenant), body, stored, tenant, tuple(proofs))


@cache
def _stored_names(signed: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({name.lower() for name in signed} - _NEVER_STORED))


def store(database: Database, arrivals: Sequence[Arrival], ring: Ring) -> list[StoreResult]:
    """Store webhooks by one statement, and ring the task that processes them. Never raises.

    A webhook with a value that the ledger refuses affects no other.

    Args:
        database: the ledger.
        arrivals: from `arrival`.
        ring: rings a task by its name. If it fails, the webhooks are stored all the same, and the pump rings.

    Returns:
        The result of each webhook, in order.
    """
    if not arrivals:
        return []
    results = _store(database, arrivals)
    _report(arrivals, results)
    if any(result is True for result in results):
        try:
            ring(WEBHOOKS)
        except Exception as error:
            telemetry.emit("mailglass.webhook.unrung", level=logging.WARNING, error_type=type(error).__name__)
    return results


def _store(database: Database, arrivals: Sequence[Arrival]) -> list[StoreResult]:
    try:
        return [_RESULTS[stored] for stored in webhooks.store_all(database, arrivals)]
    except Exception as error:
        if len(arrivals) > 1 and isinstance(error, LedgerError) and error.of_a_value:
            return [result for item in arrivals for result in _store(database, [item])]
        return [error] * len(arrivals)


_RESULTS: dict[Stored, StoreResult] = {
    Stored.NEW: True,
    Stored.KNOWN: False,
    Stored.REFUSED: SignatureError(SignatureErrorType.REUSED_PROOF),
}


def _report(arrivals: Sequence[Arrival], results: Sequence[StoreResult]) -> None:
    """Emit one event for each account, and one for each kind of failure there. Callers report refusals themselves."""
    counts: Counter[tuple[str, str, bool | str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for item, result in zip(arrivals, results, strict=True):
        if isinstance(result, SignatureError):
            continue
        # the text of a database error may quote what it refused
        counts[item.account, item.provider, type(result).__name__ if isinstance(result, Exception) else result] += 1
        sizes[item.account, item.provider] += len(item.body)
    for (account, provider), size in sizes.items():
        new, known = counts[account, provider, True], counts[account, provider, False]
        if new or known:
            telemetry.emit(
                "mailglass.webhook.stored", account=account, provider=provider, size=size, stored=new, duplicates=known
            )
    for (account, provider, kind), count in counts.items():
        if isinstance(kind, str):
            telemetry.emit(
                "mailglass.webhook.failed",
                level=logging.ERROR,
                account=account,
                provider=provider,
                count=count,
                error_type=kind,
            )


def dedupe_key(key: str | None, body: bytes, tenant: str | None) -> str:
    """Return what makes a webhook the same webhook when it comes again: its key, or a digest of its bytes."""
    # the same webhook at the URLs of two tenants is stored twice, because each is applied to its own tenant's mail
    # only. A tenant's name has no slash, so no key of one tenant reads as another's
    owner = tenant or ""
    if key is None:
        return f"{owner}/{hashlib.sha256(body).hexdigest()}"
    if len(key) <= _MAX_KEY and key.isprintable():
        return f"{owner}/={key}"
    # providers' keys are short; any other must still fit into an index
    return f"{owner}/#{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()}"
