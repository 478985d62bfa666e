"""`export_csv`: write the suppression list to a file."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from mailglass.ledger import suppression_list
from mailglass.ledger.session import NOT_GIVEN, Ledger, NotGiven
from mailglass.ledger.suppressions import Suppression
from mailglass.routing.scope import AnyTenant
from mailglass.suppressions.listing import make_filter

if TYPE_CHECKING:
    from mailglass.ledger.session import SessionLike

COLUMNS: Final = (
    "value",
    "scope",
    "stream",
    "tenant",
    "reason",
    "source",
    "account",
    "created_at",
    "expires_at",
    "id",
)
_PAGE: Final = 5000


def export_csv(
    target: str | PathLike[str] | TextIO,
    *,
    tenant: str | AnyTenant | None = None,
    progress: Callable[[int], None] | None = None,
    session: SessionLike | NotGiven = NOT_GIVEN,
    **filters: Any,
) -> int:
    """Export the entries that match all filters to a CSV file, in flat memory.

    >>> import sys
    >>> from mailglass import suppressions
    >>> suppressions.export_csv(sys.stdout, tenant="acme", reason="complaint")
    value,scope,stream,tenant,reason,source,account,created_at,expires_at,id
    0

    `import_csv` reads the file again. A path holds the whole list or what it held before: the file is written beside
    it first, readable by its owner only.

    Args:
        target: a path, or a text file that was opened with newline="".
        tenant: as for `search`.
        progress: called with the number of entries written, after each page.
        session: reads in your transaction.
        filters: as for `search`.

    Returns:
        The number of entries.

    Raises:
        MessageError: a filter is unknown or invalid.
        OSError: the file cannot be written.
        TenantError: no tenant is in scope.
        LedgerUnavailableError: the database cannot be reached.
    """
    entries = suppression_list.walk(Ledger(session), make_filter(tenant, filters), size=_PAGE)
    with _opened(target) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        count = 0
        for entry in entries:
            writer.writerow(_row(entry))
            count += 1
            if progress is not None and count % _PAGE == 0:
                progress(count)
    return count


def _row(entry: Suppression) -> tuple[str, ...]:
    return (
        entry.value,
        entry.scope.value,
        entry.stream,
        entry.tenant,
        entry.reason,
        entry.source,
        entry.account or "",
        entry.created_at.isoformat() if entry.created_at else "",
        entry.expires_at.isoformat() if entry.expires_at else "",
        str(entry.id),
    )


@contextmanager
def _opened(target: str | PathLike[str] | TextIO) -> Iterator[TextIO]:
    if not isinstance(target, str | PathLike):
        yield target
        return
    path = Path(target)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
