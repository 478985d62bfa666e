"""Keep one account's suppression list in step: read the provider's page by page into ours, offer ours to the provider.

Reading only ever adds. An address that the provider has taken off its list stays on ours until somebody removes it
here, since nobody can tell whether its mailbox is well again or only the list was cleared; a complaint stays for good.

Every step may be done again without harm. Where the process dies the kept cursor is a page behind, and that page is
read again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypeVar

from mailglass import clock, telemetry
from mailglass.errors import MailglassError, ProviderCallError
from mailglass.ledger import suppression_sync as ledger
from mailglass.ledger.database import Database
from mailglass.ledger.suppression_sync import Pushable, SyncState
from mailglass.providers.registry import Accounts
from mailglass.providers.suppression_list import ListedAddress, SuppressionList
from mailglass.settings import AccountSettings, Settings, SyncMode
from mailglass.suppressions.from_providers import entries_of

T = TypeVar("T")

BUDGET: Final = 20.0
"""Seconds after which a run asks for no further page."""

PERIOD: Final = timedelta(hours=1)
"""A list that was read to its end is read again after this long."""

BATCH: Final = 50
"""Entries that are offered at once."""

PAUSES: Final = (1.0, 2.0, 4.0)
"""Seconds to wait before the same is asked again, where the provider says that it may be."""

_MAX_ERROR: Final = 300
_PULLS: Final = frozenset({SyncMode.PULL, SyncMode.BOTH})
_PUSHES: Final = frozenset({SyncMode.PUSH, SyncMode.BOTH})


class SyncStatus(StrEnum):
    """How a run ended."""

    COMPLETE = "complete"
    MORE = "more"
    FAILED = "failed"
    BUSY = "busy"
    OFF = "off"
    NO_LIST = "no_list"
    IDLE = "idle"


@dataclass(slots=True)
class SyncReport:
    """What one run came to. Holds no address.

    Attributes:
        status: `more`: another run goes on where this one stopped; `busy`: another worker is at it; `no_list`: the
            provider has none that can be read; `idle`: it was read a short while ago, and there is nothing to offer.
        pulled: entries read.
        new: entries of ours that were made or got a stronger reason by it; in a dry run those that would.
        pushed: entries offered that stand at the provider now; in a dry run those that would be offered.
        refused: entries offered that the provider does not take.
        error: what stopped it.
    """

    account: str
    status: SyncStatus = SyncStatus.COMPLETE
    pulled: int = 0
    new: int = 0
    pushed: int = 0
    refused: int = 0
    error: str | None = None


def accounts_to_sync(settings: Settings) -> list[str]:
    """The accounts whose lists are kept in step at all."""
    return [name for name, account in settings.accounts.items() if account.suppressions is not SyncMode.OFF]


def run(
    settings: Settings,
    database: Database,
    accounts: Accounts,
    name: str,
    *,
    budget: float = BUDGET,
    period: timedelta = PERIOD,
    dry_run: bool = False,
    progress: Callable[[SyncReport], object] | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> SyncReport:
    """Go on with one account's list for a while.

    Args:
        name: the account's.
        budget: seconds after which no further page is begun.
        period: how long after the list was read to its end nothing is read again.
        dry_run: say what would be done, for the whole list; neither the ledger nor the provider is changed.
        progress: called after each page with the report so far.
        sleep: waits between tries.

    Raises:
        ConfigError: no such account, or one that cannot be opened.
        LedgerUnavailableError: the database cannot be reached; what is done is done.
    """
    started = clock.monotonic()
    account = accounts.settings(name)
    report = SyncReport(name)
    if account.suppressions is SyncMode.OFF:
        report.status = SyncStatus.OFF
        return report
    provider = accounts.open(name)
    listed = provider.suppression_list()
    if listed is None:
        report.status = SyncStatus.NO_LIST
        return report
    with database.locked(f"mailglass.suppressions.sync.{name}") as held:
        if not held:
            report.status = SyncStatus.BUSY
            return report
        state = ledger.load(database, name)
        if dry_run:
            state = replace(state, pull=None, synced_at=None)
        passed = _Pass(settings, database, account, listed, state, report, started + budget, dry_run, progress, sleep)
        passed.run(period)
    if report.status is not SyncStatus.IDLE:
        _tell(report, provider.name, started)
    return report


@dataclass(slots=True)
class _Pass:
    """One run over one account's list."""

    settings: Settings
    database: Database
    account: AccountSettings
    listed: SuppressionList
    state: SyncState
    report: SyncReport
    deadline: float
    dry_run: bool
    progress: Callable[[SyncReport], object] | None
    sleep: Callable[[float], object]
    together: int = BATCH

    def run(self, period: timedelta) -> None:
        mode, read = self.account.suppressions, self.state.synced_at
        due = self.state.pull is not None or read is None or clock.now() - read >= period
        try:
            if mode in _PULLS and due:
                self._pull()
            if mode in _PUSHES:
                self._push()
        except MailglassError as error:
            if not isinstance(error, ProviderCallError):
                raise
            self._fail(str(error), error.retryable)
        except Exception as error:  # its text may quote what the provider wrote
            self._fail(f"unexpected {type(error).__name__}", retryable=False)
        else:
            if not (mode in _PULLS and due) and not self._advanced():
                self.report.status = SyncStatus.IDLE
            elif self.state.last_error is not None:
                self._keep(replace(self.state, last_error=None))

    def _pull(self) -> None:
        while True:
            if clock.monotonic() >= self.deadline:
                self.report.status = SyncStatus.MORE
                return
            cursor = self.state.pull
            page, following = self._retried(lambda cursor=cursor: self.listed.pull(cursor))  # type: ignore[misc]
            if following == cursor:
                following = None
            self.report.pulled += len(page)
            self.report.new += self._mirror(page)
            self._keep(replace(self.state, pull=following), complete=following is None)
            self._show()
            if following is None:
                return

    def _mirror(self, page: list[ListedAddress]) -> int:
        entries = entries_of(page, self.account, self.settings)
        return ledger.unmirrored(self.database, entries) if self.dry_run else ledger.mirror(self.database, entries)

    def _push(self) -> None:
        # one more than is offered alone, to try the next one where it is not taken
        while batch := ledger.pushable(
            self.database, self.account.name, self.account.tenant or "", self.state.pushed, max(self.together, 2)
        ):
            if clock.monotonic() >= self.deadline:
                self.report.status = SyncStatus.MORE
                return
            stands = self._offer(batch)
            self.report.pushed += sum(stands)
            self.report.refused += len(stands) - sum(stands)
            self._keep(replace(self.state, pushed=batch[len(stands) - 1].id))
            self._show()

    def _offer(self, batch: list[Pushable]) -> list[bool]:
        """Offer a batch; where the provider cannot take it now, one entry at a time, so that each is a step forward.

        An entry that fails alone where the next one does not is refused: it must not keep all others waiting.
        """
        if self.dry_run:
            return [True] * len(batch)
        entries = [ListedAddress(entry.address, entry.reason, entry.created_at) for entry in batch]
        try:
            return self.listed.push(entries[: self.together])
        except Exception as error:
            if not _may_concern_one(error):
                raise
        self.together = 1
        try:
            return self._retried(lambda: self.listed.push(entries[:1]))
        except Exception as error:
            if len(entries) == 1 or not _may_concern_one(error):
                raise
        following = self._retried(lambda: self.listed.push(entries[1:2]))
        try:
            # the provider may only have been away
            return [*self.listed.push(entries[:1]), *following]
        except Exception as error:
            if not _may_concern_one(error):
                raise
            return [False, *following]

    def _retried(self, call: Callable[[], T]) -> T:
        """Ask, and ask again after a pause where the provider says that it may be."""
        for pause in PAUSES:
            try:
                return call()
            except ProviderCallError as error:
                if not error.retryable or clock.monotonic() + pause >= self.deadline:
                    raise
            self.sleep(pause)
        return call()

    def _fail(self, error: str, retryable: bool) -> None:
        self.report.status = SyncStatus.MORE if retryable and self._advanced() else SyncStatus.FAILED
        self.report.error = error
        # a cursor that is refused as soon as it is used, as one is that has grown too old, is of no use to later runs
        pull = self.state.pull if retryable or self._advanced() else None
        self._keep(replace(self.state, pull=pull, last_error=error[:_MAX_ERROR]))

    def _advanced(self) -> bool:
        return bool(self.report.pulled or self.report.pushed or self.report.refused)

    def _keep(self, state: SyncState, *, complete: bool = False) -> None:
        self.state = state
        if not self.dry_run:
            ledger.save(self.database, self.account.name, state, complete=complete)

    def _show(self) -> None:
        if self.progress is not None:
            self.progress(self.report)


def _may_concern_one(error: Exception) -> bool:
    """Whether another entry may be taken where this error came: not where the call itself or the ledger is refused."""
    return error.retryable if isinstance(error, ProviderCallError) else not isinstance(error, MailglassError)


def _tell(report: SyncReport, provider: str, started: float) -> None:
    telemetry.emit(
        "mailglass.suppressions.synced",
        level=logging.ERROR if report.status is SyncStatus.FAILED else logging.INFO,
        account=report.account,
        provider=provider,
        status=report.status.value,
        count=report.pulled,
        stored=report.new,
        sent=report.pushed,
        failed=report.refused,
        reason=report.error,
        duration_ms=round((clock.monotonic() - started) * 1000),
    )
