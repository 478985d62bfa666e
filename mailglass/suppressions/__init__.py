"""The suppression list: whom not to mail, for a tenant or for everybody.

    from mailglass import suppressions, tenant

    with tenant("acme"):
        suppressions.add("ada@example.com")
        for entry in suppressions.search(reason="complaint"):
            print(entry.value, entry.created_at)

Entries come from webhooks, from attempts, from the providers' lists and by hand. Names load when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailglass.errors import SuppressionType
    from mailglass.ledger.suppressions import Suppression
    from mailglass.suppressions.bulk import RemovalCounts, remove_many
    from mailglass.suppressions.csv_export import export_csv
    from mailglass.suppressions.csv_import import ImportReport, import_csv
    from mailglass.suppressions.editing import add, remove
    from mailglass.suppressions.listing import check, count, get, search
    from mailglass.suppressions.removal import Removal

_HOME_OF = {
    "ImportReport": "mailglass.suppressions.csv_import",
    "Removal": "mailglass.suppressions.removal",
    "RemovalCounts": "mailglass.suppressions.bulk",
    "Suppression": "mailglass.ledger.suppressions",
    "SuppressionType": "mailglass.errors",
    "add": "mailglass.suppressions.editing",
    "check": "mailglass.suppressions.listing",
    "count": "mailglass.suppressions.listing",
    "export_csv": "mailglass.suppressions.csv_export",
    "get": "mailglass.suppressions.listing",
    "import_csv": "mailglass.suppressions.csv_import",
    "remove": "mailglass.suppressions.editing",
    "remove_many": "mailglass.suppressions.bulk",
    "search": "mailglass.suppressions.listing",
}

__all__ = [
    "ImportReport",
    "Removal",
    "RemovalCounts",
    "Suppression",
    "SuppressionType",
    "add",
    "check",
    "count",
    "export_csv",
    "get",
    "import_csv",
    "remove",
    "remove_many",
    "search",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'mailglass.suppressions' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
