"""Mails that make a room say what it can carry: plain ones, and ones full of what APIs stumble over."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid5

from mailglass.mail.addresses import Address
from mailglass.mail.message import (
    MAX_HEADER_WORD,
    MAX_METADATA,
    MAX_METADATA_VALUE,
    MAX_SUBJECT,
    MAX_TAG,
    MAX_TAGS,
    Attachment,
)
from mailglass.mail.outgoing import Outgoing

DELIVERY: Final = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
"""The delivery id that sample webhooks carry."""

RECIPIENT: Final = "ada.lovelace@recipient.example"
_PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def plain(name: str = "plain", **changes: Any) -> Outgoing:
    """Return a mail that every room can carry; another name is another delivery."""
    mail = Outgoing(
        delivery_id=uuid5(DELIVERY, name),
        tenant="acme",
        stream="transactional",
        recipient=Address(RECIPIENT, "Ada"),
        sender=Address("orders@sender.example", "Acme"),
        subject=f"Your order {name}",
        created_at=datetime(2026, 3, 4, 12, 0, tzinfo=UTC),
        text="Thank you.\n",
        html="<p>Thank you.</p>\n",
    )
    return replace(mail, **changes)


HOSTILE: Final[Mapping[str, Mapping[str, Any]]] = {
    "text only": {"html": None},
    "html only": {"text": None},
    "an empty subject": {"subject": ""},
    "a subject in many scripts": {"subject": "Größe 世界 🎉 \u202eevil \u00ad"},
    "the longest subject": {"subject": "ü" * MAX_SUBJECT},
    "a subject that looks like a header": {"subject": "=?utf-8?b?SGk=?= Bcc: x@example.com"},
    "names to be quoted": {
        "recipient": Address(RECIPIENT, 'Ada "Ace" \\ <Lovelace>, Countess; (x)'),
        "sender": Address("orders@sender.example", "Acme, Inc."),
    },
    "names in many scripts": {
        "recipient": Address(RECIPIENT, "Ада Лавлейс 🎉"),
        "sender": Address("orders@sender.example", "Größe"),
    },
    "the longest name": {"recipient": Address(RECIPIENT, "é" * 256)},
    "a domain in A-labels": {"recipient": Address("ada@xn--bcher-kva.example")},
    "a local part that is not ASCII": {"recipient": Address("jürgen@recipient.example")},
    "a quoted local part": {"recipient": Address('"ada lovelace"@recipient.example')},
    "several reply-to": {"reply_to": (Address("a@sender.example", "A"), Address("b@sender.example"))},
    "copies": {
        "cc": (Address("cc@recipient.example", "Cé"), Address(RECIPIENT.upper())),
        "bcc": (Address("bcc@recipient.example"), Address("cc@recipient.example")),
    },
    "headers": {"headers": (("X-Order", "77"), ("List-Unsubscribe", "<https://sender.example/u?a=1&b=2>"))},
    "long headers": {"headers": (("X-Long", " ".join(["word"] * 1600)), ("X-Word", "w" * MAX_HEADER_WORD))},
    "headers in many scripts": {"headers": (("X-Größe".replace("ö", "oe").replace("ß", "ss"), "世界 🎉"),)},
    "repeated headers": {"headers": (("X-Order", "1"), ("x-order", "2"))},
    "header names that are hard to quote": {"headers": (("X-'\"\\{}", "v"),)},
    "tags": {"tags": ("receipt",)},
    "many tags": {"tags": tuple(f"tag {number} ü" for number in range(10))},
    "repeated tags": {"tags": ("a", "a")},
    "metadata": {"metadata": {"order": "77", "note.x-y_z": 'ü "quoted" \\ 世界 {}'}},
    "much metadata": {"metadata": {f"key{number}": "v" * 1024 for number in range(50)}},
    "an attachment": {"attachments": (Attachment("invoice.pdf", bytes(range(256)) * 40),)},
    "odd attachments": {
        "attachments": (
            Attachment("Größe 世界; \"x\" 'y'.txt", b"x"),
            Attachment("data", b"", "application/x-thing; charset=utf-8"),
            Attachment("a" * 251 + ".txt", b"y"),
        )
    },
    "an inline image": {
        "html": '<img src="cid:logo@sender">',
        "attachments": (Attachment("logo.png", _PNG, "image/png", "logo@sender"),),
    },
    "an inline file that is no image": {"attachments": (Attachment("a.pdf", b"%PDF", "application/pdf", "a.b"),)},
    "lines that end protocols": {"text": ".\r\n..\r\nQUIT\r\n.\r\n--boundary--\r\n\r\n" + "x" * 5000 + "\r"},
    "a text that looks like a template": {"text": "{{ name }} {% raw %} *|NAME|* %recipient% <% x %> [[data:x]]"},
    "a large body": {"text": "Zeile ü\n" * 60_000},
}
"""By what is hostile in it: what differs from a plain mail."""


_LETTERS: Final = ("a", "Z", "7", "_", "-", " ", ".", "/", '"', "\\", "<", "ü", "世", "🎉", "{{", "%", "=?")


def labels() -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """Tags and metadata of all lengths and letters that a message may have, the same at each run."""
    draw = random.Random(7)  # noqa: S311 - drawn anew in the same way, not secret

    def text(name: str, longest: int) -> str:
        # the name makes it one that stands nowhere else in a request
        letters = "".join(draw.choices(_LETTERS, k=draw.choice((0, 3, 40, longest))))
        return (name + letters)[:longest] if draw.random() < 0.9 else ("_" + name + letters)[:longest]

    for round_ in range(30):
        tags = tuple(text(f"tag{round_}x{number}q", MAX_TAG) for number in range(draw.choice((0, 1, 2, MAX_TAGS))))
        keys = [f"key{round_}x{number}q" for number in range(draw.choice((0, 1, 5, MAX_METADATA)))]
        yield tags, {key: text("value", MAX_METADATA_VALUE) for key in keys}


def hostile(kind: str) -> Outgoing:
    """Return the mail of this kind."""
    return plain(kind, **HOSTILE[kind])
