"""Proofs: what makes a mail that comes back more than somebody's word.

Anybody can write a mail that looks like a bounce. So a mail that goes out carries a token that only we can make, in
its envelope sender and in a header, and a report counts only if it brings the token back:

    <delivery id, 32 hex digits>.<proof, 16 characters><tag, 6 characters>

The proof is an HMAC-SHA256 over id and tag, cut to 80 bits (RFC 2104 5 asks for no fewer); a guess costs a mail. The
tag, 30 bits of another HMAC, tells whether an address is the one the delivery went to, without containing it: reports
about a member of a group address, or about where somebody forwards to, must not suppress the address we mail to.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from mailglass.mail.outgoing import Outgoing

HEADER: Final = "X-Mailglass-Proof"
_PREFIX: Final = "bounces+"
_PROOF: Final = 16
_TAG: Final = 6
_TOKEN = re.compile(
    rf"(?<![0-9a-z])([0-9a-f]{{32}})\.([a-z2-7]{{{_PROOF}}})([a-z2-7]{{{_TAG}}})(?![0-9a-z])", re.IGNORECASE | re.ASCII
)
_MAX_TOKENS: Final = 20


@dataclass(frozen=True, slots=True)
class Proof:
    """A token that holds.

    Attributes:
        delivery_id: whose it is.
        tag: of the recipient it went to.
        secret: that it was made with.
    """

    delivery_id: UUID
    tag: str
    secret: bytes = field(repr=False)

    def names(self, address: str) -> bool:
        """Return whether this is the address that the delivery went to."""
        return hmac.compare_digest(_recipient_tag(self.secret, self.delivery_id, address), self.tag)


class Proofs:
    """Makes and checks one account's tokens.

    Args:
        secrets: the first one makes tokens, all of them are accepted; none: nothing is made and nothing holds.
        domain: where reports come back to; None: the envelope sender stays the mail's own.
    """

    def __init__(self, secrets: Sequence[str], domain: str | None = None) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._domain = domain

    def token(self, mail: Outgoing) -> str | None:
        """Return the mail's token, or None without a secret or for mail with copies.

        Whoever gets a copy could forge a report about the recipient.
        """
        if not self._secrets or mail.cc or mail.bcc:
            return None
        secret = self._secrets[0]
        tag = _recipient_tag(secret, mail.delivery_id, mail.recipient.key)
        return f"{mail.delivery_id.hex}.{_proof(secret, mail.delivery_id, tag)}{tag}"

    def envelope_sender(self, mail: Outgoing) -> str:
        """Return path for the mail's reports: an address of its own (VERP) where the account has a domain."""
        if self._domain is None:
            return mail.sender.email
        return f"{_PREFIX}{self.token(mail) or mail.delivery_id.hex}@{self._domain}"

    def find(self, texts: Iterable[str]) -> Proof | None:
        """Return the first token in these texts that holds."""
        tried = 0
        for text in texts:
            for found in _TOKEN.finditer(text):
                tried += 1
                if tried > _MAX_TOKENS:
                    return None
                # some systems change the case of a local part on the way
                if proof := self._check(found[1], found[2].lower(), found[3].lower()):
                    return proof
        return None

    @property
    def can_check(self) -> bool:
        """True if there is a secret to check with."""
        return bool(self._secrets)

    def _check(self, identity: str, claimed: str, tag: str) -> Proof | None:
        delivery_id = UUID(hex=identity)
        for secret in self._secrets:
            if hmac.compare_digest(_proof(secret, delivery_id, tag), claimed):
                return Proof(delivery_id, tag, secret)
        return None


def _proof(secret: bytes, delivery_id: UUID, tag: str) -> str:
    return _digest(secret, b"mailglass bounce proof", delivery_id.bytes, tag.encode())[:_PROOF]


def _recipient_tag(secret: bytes, delivery_id: UUID, address: str) -> str:
    key = address.lower().encode("utf-8", "replace")
    return _digest(secret, b"mailglass bounce recipient", delivery_id.bytes, key)[:_TAG]


def _digest(secret: bytes, *parts: bytes) -> str:
    digest = hmac.new(secret, b"\x00".join(parts), hashlib.sha256).digest()
    return base64.b32encode(digest).decode("ascii").lower()
