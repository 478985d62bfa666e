"""Whom a mail goes to, each once: for APIs that would mail somebody twice who is named twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from unicodedata import normalize

from mailglass.mail.addresses import Address
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.uris import a_labels


def with_distinct_copies(mail: Outgoing) -> Outgoing:
    """Return the mail with each person named once, the first time; the mail itself where that is so."""
    if not mail.cc and not mail.bcc:
        return mail
    cc, bcc = distinct_copies(mail)
    if len(cc) == len(mail.cc) and len(bcc) == len(mail.bcc):
        return mail
    return replace(mail, cc=tuple(cc), bcc=tuple(bcc))


def distinct_copies(mail: Outgoing) -> tuple[list[Address], list[Address]]:
    """Return the mail's cc and bcc without the recipient and without repetitions; who is in cc is not in bcc."""
    seen = {_person(mail.recipient)}

    def unseen(people: Iterable[Address]) -> list[Address]:
        addresses = []
        for address in people:
            if (person := _person(address)) not in seen:
                seen.add(person)
                addresses.append(address)
        return addresses

    return unseen(mail.cc), unseen(mail.bcc)


def _person(address: Address) -> str:
    """Return the key of an address, the same however its case and its domain are spelled."""
    local, _, domain = address.email.rpartition("@")
    return f"{normalize('NFC', local).lower()}@{a_labels(domain).lower()}"
