"""Settle what may have been sent: ask accounts again that remember a delivery, search at the providers of the others.

Where the process may die, and what follows: after deliveries were taken to be searched for, they have their next turn
later, and their hold is not over before; after a result was appended, the next run finds it again, which is the same
event, and projects it. A result is evidence like a webhook's, so a webhook that comes at the same moment changes
nothing, and a delivery that was queued again meanwhile is settled where nobody has claimed it yet.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from mailglass import clock, telemetry
from mailglass.engine.verdicts import memory
from mailglass.errors import ConfigError, failure
from mailglass.ledger import leases, searches
from mailglass.ledger.database import Database
from mailglass.ledger.deliveries import Delivery
from mailglass.ledger.low_water import by_moment
from mailglass.ledger.searches import Search
from mailglass.ledger.webhooks import IncomingEvent, StoredWebhook
from mailglass.mail.events import EventKind, ProviderEvent
from mailglass.mail.recipients import RecipientPolicy
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts
from mailglass.providers.search import UNKNOWN, SearchResult, SearchResultKind, SearchTarget
from mailglass.routing import Lane
from mailglass.settings import Settings
from mailglass.webhooks.applying import apply, retryable_ledger_errors
from mailglass.webhooks.incoming_events import incoming_event

# deliveries of one account that one run looks for
SIZE: Final = 20
# seconds that the provider of one account is asked for; their hold is not over before
BUDGET: Final = 10.0
# seconds after which a run begins with no further account
RUN: Final = 20.0
# seconds for which an account is not searched after a batch of which nothing was answered
PAUSE: Final = 5.0
# what clocks may differ by, theirs and ours
_SKEW: Final = timedelta(minutes=5)
_KNOWN_FOR: Final = 60.0
# seconds over which deliveries are due that were in several claims without a verdict
_SPREAD: Final = 2.0


@dataclass(frozen=True, slots=True)
class SettlingReport:
    """Counts of one settling run.

    Attributes:
        claimed: deliveries that were looked for.
        found: of these, those that a provider has.
        settled: of these, those that were settled as sent by it.
        resumed: those that were proved never taken and are queued again.
        more: others have their turn.
    """

    claimed: int = 0
    found: int = 0
    settled: int = 0
    resumed: int = 0
    more: bool = False

    def __add__(self, other: SettlingReport) -> SettlingReport:
        return SettlingReport(
            self.claimed + other.claimed,
            self.found + other.found,
            self.settled + other.settled,
            self.resumed + other.resumed,
            self.more or other.more,
        )


class Settler:
    """Settler of uncertain deliveries. One per process; safe to use from several threads.

    Args:
        settings: accounts, and the streams' policies.
        ledger: where the deliveries are.
        accounts: the opened providers.
    """

    def __init__(self, settings: Settings, ledger: Database, accounts: Accounts) -> None:
        self._settings = settings
        self._ledger = ledger
        self._accounts = accounts
        self._swept = by_moment()
        self._known: tuple[float, list[str]] | None = None
        self._paused: dict[str, float] = {}
        self._lock = threading.Lock()

    def sweep(self) -> list[tuple[Lane, str]]:
        """Take expired leases back and settle the uncertain whose hold is over.

        What was being sent at an account that takes the same delivery twice as once, and still remembers it, is queued
        to be asked about there again; other sendings are uncertain.

        Returns:
            For each delivery moved its lane and the event recorded.
        """
        remembering = {provider.account: memory(provider) for provider in self._providers() if provider.idempotent}
        spread = min(_SPREAD, self._settings.engine.lease / 20)
        return leases.sweep(self._ledger, self._settings.streams, remembering, spread=spread, mark=self._swept)

    def waiting(self) -> bool:
        """Return whether deliveries have their turn to be searched for."""
        return bool(self._due())

    def run(self, ring: Callable[[Iterable[Lane]], object] = lambda lanes: None) -> SettlingReport:
        """Search for uncertain deliveries, a batch of each account, and settle those that are found.

        Args:
            ring: told the lanes of those that are queued again.

        Raises:
            LedgerUnavailableError: the database cannot be reached; what was written stands.
        """
        started = clock.monotonic()
        report = SettlingReport()
        due = self._due()
        # no account waits for ever behind another one whose provider is slow
        random.shuffle(due)
        for provider in due:
            if clock.monotonic() - started > RUN:
                report += SettlingReport(more=True)
                break
            report += self._settle(provider, ring)
        if report.claimed:
            telemetry.emit(
                "mailglass.settle",
                claimed=report.claimed,
                matched=report.found,
                settled=report.settled,
                queued=report.resumed,
                duration_ms=round((clock.monotonic() - started) * 1000),
            )
        return report

    def _due(self) -> list[Provider]:
        now = clock.monotonic()
        searchable = {
            provider.account: provider
            for provider in self._providers()
            if provider.searchable and self._paused.get(provider.account, 0.0) <= now
        }
        lags = {name: provider.search_lag for name, provider in searchable.items()}
        return [searchable[name] for name in searches.due(self._ledger, lags)]

    def _settle(self, provider: Provider, ring: Callable[[Iterable[Lane]], object]) -> SettlingReport:
        """Search for a batch of one account's deliveries, and settle those that are found."""
        # the ledger's clock ends the hold a little later than ours ends the search
        taken = searches.claim(self._ledger, provider.account, lag=provider.search_lag, size=SIZE, budget=BUDGET * 1.5)
        if not taken:
            return SettlingReport()
        results = _find(provider, [self._target(item) for item in taken])
        unknown = all(result.kind is SearchResultKind.UNKNOWN for result in results)
        if unknown:
            # it is slow, or refuses; neither is mended by asking at once about the next ones
            self._paused[provider.account] = clock.monotonic() + PAUSE
        pairs = list(zip(taken, results, strict=True))
        facts = [fact for item, result in pairs for fact in self._facts(provider, item, result)]
        with retryable_ledger_errors():
            settled = apply(self._ledger, facts).settled
            resumed = searches.resume(
                self._ledger,
                [item for item, result in pairs if _never_taken(provider, item, result)],
                {stream.value: policy.max_attempts for stream, policy in self._settings.streams.items()},
            )
        if resumed:
            ring(set(resumed.values()))
        return SettlingReport(
            claimed=len(taken),
            found=sum(result.kind is SearchResultKind.FOUND for result in results),
            settled=settled,
            resumed=len(resumed),
            more=not unknown and len(taken) >= SIZE,
        )

    def _target(self, item: Search) -> SearchTarget:
        # an attempt whose answer was lost began within its lease; that of a worker that died was noticed at any time
        # later, and began after the delivery was to leave
        lease = timedelta(seconds=self._settings.engine.lease)
        after = min(item.first - lease, item.scheduled_at) - _SKEW
        recipient = _search_recipient(self._settings.recipients, item.recipient)
        return SearchTarget(item.id, recipient, after, item.taken_at + _SKEW, item.provider_message_id)

    def _facts(self, provider: Provider, item: Search, result: SearchResult) -> list[IncomingEvent]:
        """Return as events of a webhook that the provider has the mail, and what else it told of it."""
        if result.kind is not SearchResultKind.FOUND:
            return []
        taken = ProviderEvent(
            EventKind.QUEUED,
            f"search/{item.id}",
            occurred_at=item.first,
            delivery_id=item.id,
            provider_message_id=result.provider_message_id,
            recipient=item.recipient,
        )
        told = [event for event in result.events if event.delivery_id == item.id]
        # as if a webhook had come just now
        source = StoredWebhook(
            item.id, provider.account, provider.name, None, {}, 0, item.taken_at, self._tenant(provider.account)
        )
        facts = (_fact(event, source) for event in (taken, *told))
        return [fact for fact in facts if fact is not None]

    def _tenant(self, account: str) -> str | None:
        try:
            return self._accounts.settings(account).tenant
        except ConfigError:
            return None

    def _providers(self) -> list[Provider]:
        """Return accounts that can be asked again or searched. What cannot be opened is tried again after a minute."""
        with self._lock:
            moment = clock.monotonic()
            if self._known is None or moment - self._known[0] > _KNOWN_FOR:
                self._known = (moment, list(self._settings.accounts))
            opened = [provider for name in self._known[1] if (provider := self._open(name)) is not None]
            useful = [provider for provider in opened if provider.idempotent or provider.searchable]
            self._known = (self._known[0], [provider.account for provider in useful])
        return useful + self._resolved_in_doubt()

    def _resolved_in_doubt(self) -> list[Provider]:
        """Return those of the application's accounts that something is to be asked of: there may be very many."""
        if not self._accounts.has_resolver:
            return []
        names = [name for name in searches.accounts_in_doubt(self._ledger) if name not in self._settings.accounts]
        return [provider for name in names if (provider := self._open(name)) is not None]

    def _open(self, account: str) -> Provider | None:
        try:
            return self._accounts.open(account)
        except ConfigError:
            # where it is to send, the engine says so
            return None
        except BaseException as error:
            # a room that fails as it is opened must not keep expired leases from being taken back
            telemetry.emit("mailglass.account.failed", level=logging.ERROR, account=account, error_type=failure(error))
            return None


def search_for(
    provider: Provider, held: Sequence[Delivery], recipients: RecipientPolicy | None = None
) -> list[SearchResult]:
    """Return what an account's provider says of deliveries that may have been sent; at most `SIZE` of them.

    Args:
        provider: of an account that can be searched.
        held: deliveries that were handed over at any time since they were recorded, if at all.
        recipients: who may get mail in this environment; None for everybody.
    """
    until = clock.now() + _SKEW
    return _find(
        provider,
        [
            SearchTarget(
                item.id,
                _search_recipient(recipients, item.recipient),
                min(item.created_at, item.scheduled_at) - _SKEW,
                until,
                item.provider_message_id,
            )
            for item in held
        ],
    )


def _search_recipient(recipients: RecipientPolicy | None, recipient: str) -> str:
    """Return the address that a provider was given: another one where the mail was redirected."""
    return recipient if recipients is None else recipients.search_recipient(recipient)


def _find(provider: Provider, targets: Sequence[SearchTarget]) -> list[SearchResult]:
    """Return the provider's results; what escapes it, and what is about another delivery, is unknown."""
    try:
        results = list(provider.find(targets, deadline=clock.monotonic() + BUDGET))
    except BaseException as error:
        telemetry.emit(
            "mailglass.search.failed", account=provider.account, provider=provider.name, error_type=failure(error)
        )
        results = []
    padded: Mapping[int, SearchResult] = dict(enumerate(results))
    return [_checked(item, padded.get(index, UNKNOWN)) for index, item in enumerate(targets)]


def _checked(item: SearchTarget, result: object) -> SearchResult:
    if not isinstance(result, SearchResult) or (
        result.kind is SearchResultKind.FOUND and result.delivery_id != item.delivery_id
    ):
        return UNKNOWN
    return result


def _fact(event: ProviderEvent, source: StoredWebhook) -> IncomingEvent | None:
    try:
        return replace(incoming_event(event, source), webhook_id=None)
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        # a part of it that the ledger cannot keep; the other events stand by themselves
        return None


def _never_taken(provider: Provider, item: Search, result: SearchResult) -> bool:
    proves_after = provider.absence_proves_after
    return result.kind is SearchResultKind.ABSENT and proves_after is not None and item.age >= proves_after
