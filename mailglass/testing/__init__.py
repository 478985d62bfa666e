"""Support for tests: an outbox and a mailbox for applications, and a lab of providers that behave like real ones.

Names load when first used, so that pytest starts no slower for the plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailglass.errors import OutboxError
    from mailglass.testing.engine_mailbox import Mailbox, mailbox
    from mailglass.testing.memory_outbox import Outbox, outbox
    from mailglass.testing.sent import SentMail

_HOME_OF = {
    "Mailbox": "mailglass.testing.engine_mailbox",
    "Outbox": "mailglass.testing.memory_outbox",
    "OutboxError": "mailglass.errors",
    "SentMail": "mailglass.testing.sent",
    "mailbox": "mailglass.testing.engine_mailbox",
    "outbox": "mailglass.testing.memory_outbox",
}

__all__ = ["Mailbox", "Outbox", "OutboxError", "SentMail", "mailbox", "outbox"]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'mailglass.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value
