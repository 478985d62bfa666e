"""Whom a mail goes to, each once: for APIs that would mail somebody twice who is named twice."""

from __future__ import annotations

from collections.abc import Iterable

from mailglass.addresses import Address
from mailglass.mail.outgoing import Outgoing


def distinct_copies(mail: Outgoing) -> tuple[list[Address], list[Address]]:
    """The mail's cc and bcc without the recipient and without repetitions; who is in cc is not in bcc."""
    seen = {mail.recipient.key}

    def unseen(addresses: Iterable[Address]) -> list[Address]:
        found = []
        for address in addresses:
            if address.key not in seen:
                seen.add(address.key)
                found.append(address)
        return found

    return unseen(mail.cc), unseen(mail.bcc)
