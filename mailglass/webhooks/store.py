"""Keep verified webhooks, however they came: what identifies one, what is kept of it, and who is told."""

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
Kept = bool | Exception
"""Of one webhook: True kept, False it was kept before, or why it is not; `SignatureError` where its proof was used."""

# credentials are not kept, whatever a provider's room says is signed
_NEVER_KEPT = frozenset({"authorization", "proxy-authorization", "cookie"})
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
    """A verified webhook as it is kept.

    Args:
        key: what identifies it when it is posted again; None: its bytes.
        headers: all of them; those that the provider's room wants are kept, but for credentials.
        proofs: from `Provider.single_use`.
    """
    kept = {name: headers[name] for name in _kept_names(provider.signed_headers) if name in headers}
    return Arrival(account, provider.name, _dedupe_key(key, body, tenant), body, kept, tenant, tuple(proofs))


@cache
def _kept_names(signed: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({name.lower() for name in signed} - _NEVER_KEPT))


def keep(database: Database, arrivals: Sequence[Arrival], ring: Ring) -> list[Kept]:
    """Keep webhooks by one statement and ring the task that understands them.

    One with a value that the ledger cannot take sinks no other. Never raises.

    Args:
        ring: rings a task by its name; its failure is no failure of what is kept.

    Returns:
        What became of each, in order.
    """
    if not arrivals:
        return []
    kept = _store(database, arrivals)
    _tell(arrivals, kept)
    if any(new is True for new in kept):
        try:
            ring(WEBHOOKS)
        except Exception as error:
            telemetry.emit("mailglass.webhook.unrung", level=logging.WARNING, error_type=type(error).__name__)
    return kept


def _store(database: Database, arrivals: Sequence[Arrival]) -> list[Kept]:
    try:
        return [_KEPT[stored] for stored in webhooks.store_all(database, arrivals)]
    except Exception as error:
        if len(arrivals) > 1 and isinstance(error, LedgerError) and error.of_a_value:
            return [kept for item in arrivals for kept in _store(database, [item])]
        return [error] * len(arrivals)


_KEPT: dict[Stored, Kept] = {
    Stored.NEW: True,
    Stored.KNOWN: False,
    Stored.REFUSED: SignatureError(SignatureErrorType.REUSED_PROOF),
}


def _tell(arrivals: Sequence[Arrival], kept: Sequence[Kept]) -> None:
    """One line for each account, and one for each kind of failure there. Refusals are the caller's to tell."""
    counts: Counter[tuple[str, str, bool | str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for item, new in zip(arrivals, kept, strict=True):
        if isinstance(new, SignatureError):
            continue
        # the text of a database's error may quote what it refused
        counts[item.account, item.provider, type(new).__name__ if isinstance(new, Exception) else new] += 1
        sizes[item.account, item.provider] += len(item.body)
    for (account, provider), size in sizes.items():
        stored, known = counts[account, provider, True], counts[account, provider, False]
        if stored or known:
            telemetry.emit(
                "mailglass.webhook.stored",
                account=account, provider=provider, size=size, stored=stored, duplicates=known,
            )  # fmt: skip
    for (account, provider, what), count in counts.items():
        if isinstance(what, str):
            telemetry.emit(
                "mailglass.webhook.failed",
                level=logging.ERROR, account=account, provider=provider, count=count, error_type=what,
            )  # fmt: skip


def _dedupe_key(key: str | None, body: bytes, tenant: str | None) -> str:
    # posted to the URLs of two tenants it is two webhooks: each is applied to its own tenant's mail only. No tenant's
    # name has a slash, so no key of one reads as another's
    owner = tenant or ""
    if key is None:
        return f"{owner}/{hashlib.sha256(body).hexdigest()}"
    if len(key) <= _MAX_KEY and key.isprintable():
        return f"{owner}/={key}"
    # providers' keys are short; whatever this is must fit into an index all the same
    return f"{owner}/#{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()}"
