"""The ledger's knowledge of secrets: when each was used last, under a fingerprint from which it cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from mailglass.ledger import arrays
from mailglass.ledger.database import Runs

# RFC 7914: 16 MiB and some 50 ms a secret, so that trying many passwords costs who has read the ledger dearly
_COST: Final = {"n": 2**14, "r": 8, "p": 1, "dklen": 8}


@dataclass(frozen=True, slots=True)
class SecretNote:
    """Use or refusal of one secret, to be noted.

    Attributes:
        account: whose it is.
        fingerprint: of the secret.
        used: it has just proved a webhook, or was just accepted.
        refused: the provider has just refused it.
    """

    account: str
    fingerprint: bytes
    used: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class SecretUse:
    """Record of one secret.

    Attributes:
        seen_at: since when it is known.
        used_at: when it proved a webhook, or was accepted, to within an hour; None: never.
        refused_at: when a provider refused it last; None: never.
    """

    seen_at: datetime
    used_at: datetime | None
    refused_at: datetime | None

    @property
    def refused(self) -> bool:
        """True if it was refused, and not accepted since."""
        return self.refused_at is not None and (self.used_at is None or self.used_at < self.refused_at)


def fingerprint(ledger: Runs, account: str, secret: str) -> bytes:
    """Return the fingerprint of a secret in this ledger.

    Args:
        ledger: its identity is the salt.
        account: whose secret.
        secret: the secret itself.
    """
    (row,) = ledger.run("ledger_identity")
    return _fingerprint(f"{row.id}/{account}", secret)


@lru_cache(maxsize=256)
def _fingerprint(salt: str, secret: str) -> bytes:
    return hashlib.scrypt(secret.encode("utf-8", "surrogatepass"), salt=salt.encode(), **_COST)


def note(ledger: Runs, notes: Iterable[SecretNote]) -> None:
    """Note uses and refusals of secrets.

    Raises:
        LedgerUnavailableError: the database cannot be reached; nothing was noted.
    """
    # one row each: the last word on a secret counts
    each = {(item.account, item.fingerprint): item for item in notes}
    if not each:
        return
    ledger.run(
        "note_secrets",
        {
            "accounts": arrays.texts(account for account, _ in each),
            "fingerprints": arrays.binaries(fingerprint for _, fingerprint in each),
            "used": arrays.booleans(item.used for item in each.values()),
            "refused": arrays.booleans(item.refused for item in each.values()),
        },
    )


def known(ledger: Runs, accounts: Sequence[str]) -> Mapping[tuple[str, bytes], SecretUse]:
    """Return what is known of accounts' secrets, by account and fingerprint."""
    rows = ledger.run("list_secrets", {"accounts": arrays.texts(accounts)})
    return {(row.account, bytes(row.fingerprint)): SecretUse(row.seen_at, row.used_at, row.refused_at) for row in rows}
