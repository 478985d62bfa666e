"""`import_csv`: read a file of suppressed addresses into the list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from os import PathLike
from typing import TYPE_CHECKING, Final, TextIO

from mailglass import clock
from mailglass.errors import MessageError, SuppressionType
from mailglass.ledger import audit
from mailglass.ledger.session import NOT_GIVEN, Ledger, NotGiven
from mailglass.ledger.suppressions import Suppression, suppress, suppressed_already
from mailglass.mail.streams import Stream
from mailglass.suppressions.csv_columns import Columns, columns_of, moment_of, reason_of
from mailglass.suppressions.csv_records import Record, records
from mailglass.suppressions.editing import APPLICATION, BATCH
from mailglass.suppressions.listing import REASONS
from mailglass.suppressions.values import audited, owner, parse_value, stream_name

if TYPE_CHECKING:
    from mailglass.ledger.session import SessionLike

# what a person who unsubscribes does not want, where the file says no stream; receipts still go
UNSUBSCRIBED_FROM: Final = (Stream.BULK.value, Stream.OPERATIONAL.value)
_REFUSED_LINES: Final = 1000
_OPTIONS: Final = ("value", "reason", "created_at", "expires_at", "scope", "stream", "tenant")


@dataclass(slots=True)
class ImportReport:
    """Counts of one import.

    Attributes:
        line: the number of the last line that was dealt with; to go on later, import from the next one.
        read: number of records.
        added: number of entries that were written; of a dry run, that would be.
        refused: number of refused records by reason.
        refused_lines: the first 1,000 of them, as line number and reason. No content.
    """

    line: int = 0
    read: int = 0
    added: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    refused_lines: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, line: int, reason: str) -> None:
        """Count one refused record."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
        if len(self.refused_lines) < _REFUSED_LINES:
            self.refused_lines.append((line, reason))


def import_csv(
    source: str | PathLike[str] | TextIO,
    *,
    tenant: str | None = None,
    reason: str | None = None,
    stream: str | None = None,
    columns: Mapping[str, str] | None = None,
    from_line: int = 1,
    dry_run: bool = False,
    actor: str = APPLICATION,
    on_refused: Callable[[int, str], None] | None = None,
    progress: Callable[[ImportReport], None] | None = None,
    session: SessionLike | NotGiven = NOT_GIVEN,
) -> ImportReport:
    r"""Import suppressed addresses and domains from a CSV file, in flat memory.

    >>> import io
    >>> from mailglass import suppressions
    >>> file = io.StringIO("EmailAddress,SuppressionReason\nada@example.com,HardBounce\nnobody,HardBounce\n")
    >>> report = suppressions.import_csv(file, tenant="acme")
    >>> report.added, report.refused_lines
    (1, [(3, 'not_an_address')])

    The columns of mailglass's own export, and those of SendGrid, Mailgun, Postmark, SES and Brevo, are known by their
    headings. A file whose first line is an address has no heading and one column. Every 5,000 entries are one
    statement. If the import is interrupted, import again: what stands already stays. `from_line` saves the time.

    Args:
        source: a path, or a text file that was opened with newline="".
        tenant: whose mail the entries stop; `*` for everybody's; by default the tenant in scope. A column `tenant` does
            not choose it, so that a file cannot write into another tenant's list.
        reason: for records that say none: hard_bounce, complaint, unsubscribe, manual or provider.
        stream: for unsubscriptions that say none; by default bulk and operational.
        columns: headings of yours by our names: value, reason, created_at, expires_at, scope, stream.
        from_line: the first line to import; the heading is read all the same.
        dry_run: count, and write nothing.
        actor: for the audit, which holds no address.
        on_refused: called with line number and reason of each refused record.
        progress: called with the report after each statement.
        session: writes in your transaction, as for `deliver_later.delay`.

    Returns:
        The counts, and the refused records.

    Raises:
        MessageError: an argument is invalid, or the file has no column of addresses, or says no reason.
        OSError: the file cannot be read.
        TenantError: no tenant is in scope.
        LedgerUnavailableError: the database cannot be reached. What was written stays.
    """
    reader = _Reader(owner(tenant), _check_reason(reason), stream_name(stream), _check_columns(columns), from_line)
    ledger, report = Ledger(session), ImportReport()
    with _opened(source) as file:
        for entries, line in _batches(file, reader, report, on_refused):
            if entries:
                _write(ledger, entries, reader.tenant, report, dry_run, actor)
            report.line = line
            if progress is not None:
                progress(report)
    return report


class _Refused(Exception):
    """A record that cannot be imported."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Reader:
    """Reads entries from records: from the first one what the columns are."""

    def __init__(
        self, tenant: str, reason: str | None, stream: str | None, renamed: Mapping[str, str], from_line: int
    ) -> None:
        self.tenant = tenant
        self.started = False
        self._reason = reason
        self._streams = (stream,) if stream else UNSUBSCRIBED_FROM
        self._renamed = renamed
        self._from_line = from_line
        self._columns = Columns({})
        self._now = clock.now()

    def entries(self, record: Record, report: ImportReport) -> list[Suppression]:
        """Return the entries of one record.

        Raises:
            _Refused: it cannot be imported.
            MessageError: it is the first, and says of no column that it holds addresses.
        """
        if not self.started:
            self.started = True
            if self._is_heading(record):
                return []
        if record.line < self._from_line:
            return []
        report.read += 1
        if record.refusal is not None:
            raise _Refused(record.refusal)
        return self._entries(record.cells)

    def _is_heading(self, record: Record) -> bool:
        found = columns_of(record.cells, self._renamed)
        if found is not None:
            if "reason" not in found.positions and found.reason is None and self._reason is None:
                raise MessageError("reason", "the file says no reason: give one for all its addresses")
            self._columns = found
            return True
        if len(record.cells) != 1 or _parsed(record.cells[0]) is None:
            raise MessageError(
                "columns",
                "no heading of the first line stands for addresses: name it, as in columns={'value': 'Email'}",
            )
        if self._reason is None:
            raise MessageError("reason", "the file says no reason: give one for all its addresses")
        self._columns = Columns({"value": 0})
        return False

    def _entries(self, row: tuple[str, ...]) -> list[Suppression]:
        columns = self._columns
        whole_domain = columns.cell(row, "scope") == SuppressionType.DOMAIN
        parsed = _parsed(columns.cell(row, "value"), whole_domain)
        if parsed is None:
            raise _Refused("not_a_domain" if whole_domain else "not_an_address")
        value, scope = parsed
        reason = self._reason_of(columns.cell(row, "reason"))
        since, ends = self._moment(row, "created_at"), self._moment(row, "expires_at")
        if since is not None and since > self._now:
            raise _Refused("created_in_the_future")
        if ends is not None and (ends <= self._now or reason == "complaint"):
            raise _Refused("has_ended" if ends <= self._now else "complaint_that_ends")
        return [
            Suppression(self.tenant, value, reason, "import", kind, stream, None, ends, since)
            for kind, stream in self._places(row, scope, reason)
        ]

    def _reason_of(self, cell: str) -> str:
        reason = reason_of(cell) if cell else None
        reason = reason or (cell if cell in REASONS else None) or self._columns.reason or self._reason
        if reason is None:
            raise _Refused("unknown_reason" if cell else "no_reason")
        return reason

    def _moment(self, row: tuple[str, ...], name: str) -> datetime | None:
        cell = self._columns.cell(row, name)
        if not cell:
            return None
        moment = moment_of(cell)
        if moment is None:
            raise _Refused(f"unreadable_{name}")
        return moment

    def _places(self, row: tuple[str, ...], scope: SuppressionType, reason: str) -> list[tuple[SuppressionType, str]]:
        if scope is SuppressionType.DOMAIN:
            return [(scope, "")]
        if named := self._columns.cell(row, "stream"):
            if named not in tuple(Stream):
                raise _Refused("unknown_stream")
            return [(SuppressionType.ADDRESS_STREAM, named)]
        # our own export says where an unsubscription binds, and an address without a stream is meant whole
        if reason == "unsubscribe" and not self._columns.cell(row, "scope"):
            return [(SuppressionType.ADDRESS_STREAM, stream) for stream in self._streams]
        return [(SuppressionType.ADDRESS, "")]


def _batches(
    file: TextIO, reader: _Reader, report: ImportReport, on_refused: Callable[[int, str], None] | None
) -> Iterator[tuple[list[Suppression], int]]:
    """Yield the entries of a statement, with the last line that was read for them; the last ones may be none."""
    entries: list[Suppression] = []
    line = 0
    for record in records(file):
        line = record.line
        try:
            entries += reader.entries(record, report)
        except _Refused as refused:
            report.refuse(line, refused.reason)
            if on_refused is not None:
                on_refused(line, refused.reason)
        if len(entries) >= BATCH:
            yield entries, line
            entries = []
    if reader.started:
        yield entries, line


def _parsed(text: str, whole_domain: bool = False) -> tuple[str, SuppressionType] | None:
    """Return an address, or a domain where the record says that it is one: a slip must not suppress a whole domain."""
    if whole_domain == ("@" in text):
        return None
    try:
        return parse_value(text)
    except MessageError:
        return None


def _write(
    ledger: Ledger, entries: list[Suppression], tenant: str, report: ImportReport, dry_run: bool, actor: str
) -> None:
    if dry_run:
        report.added += len(entries) - suppressed_already(ledger, entries)
        return
    subject = {"entries": len(entries)}
    audit.record(ledger, actor, "suppressions.import", audited(tenant), subject)
    written = suppress(ledger, entries)
    audit.record(ledger, actor, "suppressions.import", audited(tenant), subject, written)
    report.added += written


@contextmanager
def _opened(source: str | PathLike[str] | TextIO) -> Iterator[TextIO]:
    if not isinstance(source, str | PathLike):
        yield source
        return
    # bytes that are no UTF-8 make their own line invalid, and no other
    with open(source, encoding="utf-8", errors="replace", newline="") as file:
        yield file


def _check_reason(reason: str | None) -> str | None:
    if reason is not None and reason not in REASONS:
        raise MessageError("reason", f"must be one of {', '.join(REASONS)}")
    return reason


def _check_columns(columns: Mapping[str, str] | None) -> Mapping[str, str]:
    for name in columns or {}:
        if name not in _OPTIONS:
            raise MessageError("columns", f"is no column of ours: use {', '.join(_OPTIONS)}")
    return columns or {}
