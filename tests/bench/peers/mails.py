"""The mails everybody sends: a receipt of some 8 KB as text and HTML, each with content of its own.

Read by the peers' Python too: the standard library only. A mail's number stands in its recipient's address, by which
the receivers know it again.
"""

from __future__ import annotations

from dataclasses import dataclass

SENDER = "shop@example.com"
_ITEMS = (
    "Linen shirt",
    "Enamel kettle",
    "Walnut board",
    "Wool blanket",
    "Brass lamp",
    "Notebook, ruled",
    "Café cups, set",
    "Garden shears",
    "Oak stool",
    "Bread tin",
    "Copper pan",
    "Canvas bag",
    "Rain jacket",
    "Bicycle bell",
)
_CELL = 'style="padding:6px 12px;border-bottom:1px solid #e4e4e0;font:14px/20px Helvetica,Arial,sans-serif"'
_PARAGRAPH = 'style="margin:0 0 16px;font:15px/24px Helvetica,Arial,sans-serif;color:#2b2b28"'
_LINES = 18


@dataclass(frozen=True)
class Mail:
    """One mail, as an application would hand it over."""

    number: int
    recipient: str
    subject: str
    text: str
    html: str


def receipt(number: int) -> Mail:
    """The mail of this number: always the same, and unlike all others."""
    lines = [_line(number, position) for position in range(_LINES)]
    total = _euros(sum(cents * count for _, count, cents in lines))
    rows = "\n".join(f"{name:<24} {count:>3} x {_euros(cents):>10}" for name, count, cents in lines)
    text = (
        f"Hello customer {number},\n\nthank you for your order {number:07d}. We are packing it now.\n\n{rows}\n\n"
        f"Total: {total}\n\nYou may send anything back within 30 days.\nYour shop\n"
    )
    return Mail(number, f"customer{number}@example.com", f"Receipt {number:07d} – {total}", text, _html(number, total))


def _html(number: int, total: str) -> str:
    rows = "\n".join(
        f"<tr><td {_CELL}>{name}</td><td {_CELL}>{count}</td><td {_CELL}>{_euros(cents)}</td></tr>"
        for name, count, cents in (_line(number, position) for position in range(_LINES))
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Receipt {number:07d}</title></head>\n'
        f'<body style="margin:0;background:#f6f6f2">\n<p {_PARAGRAPH}>Hello customer {number},</p>\n'
        f"<p {_PARAGRAPH}>thank you for your order {number:07d}. We are packing it now.</p>\n"
        f'<table role="presentation" width="100%">\n{rows}\n</table>\n<p {_PARAGRAPH}>Total: {total}</p>\n'
        f'<p {_PARAGRAPH}><a href="https://shop.example.com/orders/{number:07d}">See your order</a></p>\n'
        f"<p {_PARAGRAPH}>You may send anything back within 30 days.</p>\n</body></html>\n"
    )


def _line(number: int, position: int) -> tuple[str, int, int]:
    """Name, count and cents apiece of one line of the order."""
    seed = number * 31 + position * 17
    return _ITEMS[(number + position) % len(_ITEMS)], seed % 4 + 1, seed % 9000 + 250


def _euros(cents: int) -> str:
    return f"{cents // 100},{cents % 100:02d} €"
