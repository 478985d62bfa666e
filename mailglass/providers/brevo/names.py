"""The names under which Brevo carries what is ours, and the form of its message ids."""

from __future__ import annotations

from typing import Final

from mailglass.providers import parsing

NAME: Final = "brevo"

CUSTOM: Final = "X-Mailin-custom"
"""The header whose text comes back in webhooks."""
DELIVERY: Final = "mailglass_id"
METADATA: Final = "mailglass_metadata"


def bracketed(value: object) -> str | None:
    """Return a message id with its angle brackets, which answers have and some webhooks lack."""
    name = parsing.text(value, parsing.MAX_ID - 2)
    if name is None or name.startswith("<"):
        return name
    return f"<{name}>"
