"""Synchronisation of suppression lists: pull an account's list page by page, push ours to its provider.

Pulling only adds entries. An address that the provider has removed stays on our list until somebody removes it here,
because the mailbox may still be dead and only the provider's list was cleared. A complaint stays for good.

Every step may be repeated. If the process dies, the stored cursor is one page behind, and that page is read again.
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
"""Seconds after which a run requests no further page."""

PERIOD: Final = timedelta(hours=1)
"""Time after which a complete list is read again."""

BATCH: Final = 50
"""Entries in one push."""

PAUSES: Final = (1.0, 2.0, 4.0)
"""Seconds before each retry of a retryable request."""

_MAX_ERROR: Final = 300
_PULLS: Final = frozenset({SyncMode.PULL, SyncMode.BOTH})
_PUSHES: Final = frozenset({SyncMode.PUSH, SyncMode.BOTH})


class SyncStatus(StrEnum):
    """Result of a run."""

    COMPLETE = "complete"
    MORE = "more"
    FAILED = "failed"
    BUSY = "busy"
    OFF = "off"
    NO_LIST = "no_list"
    IDLE = "idle"


@dataclass(slots=True)
class SyncReport:
    """Counts of one run. Holds no address.

    Attributes:
        account: the account's name.
        status: `more` if another run continues; `busy` if another worker syncs the list; `no_list` if the provider has
            none that can be read; `idle` if it was read recently and there is nothing to push.
        pulled: entries read.
        new: entries that were added, or got a stronger reason; in a dry run those that would be.
        pushed: entries that the provider accepted; in a dry run those that would be pushed.
        refused: entries that the provider refused.
        error: the error that ended the run.
    """

    account: str
    status: SyncStatus = SyncStatus.COMPLETE
    pulled: int = 0
    new: int = 0
    pushed: int = 0
    refused: int = 0
    error: str | None = None


def accounts_to_sync(settings: Settings, accounts: Accounts) -> list[str]:
    """Return the accounts whose lists may have to be synchronised. Those of the application tell so when it is done."""
    off = {name for name, account in settings.accounts.items() if account.suppressions is SyncMode.OFF}
    return [name for name in accounts.names() if name not in off]


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
    """Continue the synchronisation of one account's list.

    Args:
        settings: name the account.
        database: the ledger.
        accounts: the opened accounts.
        name: of the account.
        budget: seconds after which no further page is requested.
        period: time after which a complete list is read again.
        dry_run: report what would be done for the whole list; change neither the ledger nor the provider.
        progress: called after each page with the report so far.
        sleep: waits between retries.

    Returns:
        The counts and the status of the run.

    Raises:
        ConfigError: there is no such account, or it cannot be opened.
        LedgerUnavailableError: the database cannot be reached; finished pages stand.
    """
    started = clock.monotonic()
    account = accounts.settings(name)
    report = SyncReport(name)
    if account.suppressions is SyncMode.OFF:
        report.status = SyncStatus.OFF
        return report
    provider = accounts.open(name)
    if not provider.keeps_suppressions:
        report.status = SyncStatus.NO_LIST
        return report
    listed = provider.suppression_list()
    with database.locked(f"mailglass.suppressions.sync.{name}") as held:
        if not held:
            report.status = SyncStatus.BUSY
            return report
        state = ledger.load(database, name)
        if dry_run:
            state = replace(state, pull=None, synced_at=None)
        _Run(settings, database, account, listed, state, report, started + budget, dry_run, progress, sleep).execute(
            period
        )
    if report.status is not SyncStatus.IDLE:
        _emit(report, provider.name, started)
    return report


@dataclass(slots=True)
class _Run:
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

    def execute(self, period: timedelta) -> None:
        mode, read = self.account.suppressions, self.state.synced_at
        due = self.state.pull is not None or read is None or clock.now() - read >= period
        try:
            if mode in _PULLS and due:
                self._pull()
            # outside production the account, or its list, may be that of production
            if mode in _PUSHES and self.settings.recipients is None:
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
                self._save(replace(self.state, last_error=None))

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
            self._save(replace(self.state, pull=following), complete=following is None)
            self._show_progress()
            if following is None:
                return

    def _mirror(self, page: list[ListedAddress]) -> int:
        entries = entries_of(page, self.account, self.settings)
        return ledger.unmirrored(self.database, entries) if self.dry_run else ledger.mirror(self.database, entries)

    def _push(self) -> None:
        # at least two, to try the next entry if one is refused
        while batch := ledger.pushable(
            self.database, self.account.name, self.account.tenant or "", self.state.pushed, max(self.together, 2)
        ):
            if clock.monotonic() >= self.deadline:
                self.report.status = SyncStatus.MORE
                return
            accepted = self._push_batch(batch)
            self.report.pushed += sum(accepted)
            self.report.refused += len(accepted) - sum(accepted)
            self._save(replace(self.state, pushed=batch[len(accepted) - 1].id))
            self._show_progress()

    def _push_batch(self, batch: list[Pushable]) -> list[bool]:
        """Push a batch; if that fails, push one entry at a time, so that each run makes progress.

        An entry that fails while the next one succeeds counts as refused, so that it does not block all others.

        Returns:
            For each pushed entry, whether the provider accepted it.
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
        """Call a provider, and retry after pauses if its error is retryable."""
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
        # a cursor that is refused at its first use has expired, so later runs begin anew
        pull = self.state.pull if retryable or self._advanced() else None
        self._save(replace(self.state, pull=pull, last_error=error[:_MAX_ERROR]))

    def _advanced(self) -> bool:
        return bool(self.report.pulled or self.report.pushed or self.report.refused)

    def _save(self, state: SyncState, *, complete: bool = False) -> None:
        self.state = state
        if not self.dry_run:
            ledger.save(self.database, self.account.name, state, complete=complete)

    def _show_progress(self) -> None:
        if self.progress is not None:
            self.progress(self.report)


def _may_concern_one(error: Exception) -> bool:
    """Return whether an error may concern one entry only: not if the whole call, or the ledger, is refused."""
    return error.retryable if isinstance(error, ProviderCallError) else not isinstance(error, MailglassError)


def _emit(report: SyncReport, provider: str, started: float) -> None:
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
