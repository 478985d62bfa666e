"""Suppression lists kept in step: against the lab over HTTP, and against scripted lists that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailglass.errors import ConfigError, LedgerUnavailableError, ProviderCallError
from mailglass.ids import uuid7
from mailglass.ledger import suppression_sync as ledger_sync
from mailglass.ledger.database import Database
from mailglass.ledger.suppression_sync import RANKS, SyncState, mirror, unmirrored
from mailglass.ledger.suppressions import Suppression, suppress, suppressions_of, unsuppress
from mailglass.mail.addresses import Address
from mailglass.providers.registry import Accounts
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import AccountSettings, Route, Settings, SyncMode
from mailglass.suppressions import sync
from mailglass.suppressions.from_providers import entries_of
from mailglass.suppressions.sync import SyncReport, SyncStatus
from mailglass.testing.provider import FixedAccounts, ScriptedProvider
from tests.listed import ENVIRON, LISTING, lab_of_lists

MAIN = AccountSettings("main", "scripted", tenant="acme", suppressions=SyncMode.BOTH)
SETTINGS = Settings(accounts={"main": MAIN}, routes=(Route(("main",)),))
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SUMMARY = (
    "SELECT tenant_id, scope, value, stream, reason, account, expires_at FROM mailglass.suppressions ORDER BY 3, 4"
)


@dataclass
class Pages:
    """A provider's list of given pages, the cursor being the next one's number; remembers what it was offered."""

    pages: list[list[ListedAddress]] = field(default_factory=list)
    pulled: list[str | None] = field(default_factory=list)
    offered: list[list[str]] = field(default_factory=list)
    on_pull: Callable[[str | None], object] = lambda cursor: None
    on_push: Callable[[Sequence[ListedAddress]], object] = lambda entries: None
    refuses: frozenset[str] = frozenset()

    def pull(self, cursor: str | None) -> tuple[list[ListedAddress], str | None]:
        self.pulled.append(cursor)
        self.on_pull(cursor)
        number = int(cursor or 0)
        following = str(number + 1) if number + 1 < len(self.pages) else None
        return (self.pages[number] if self.pages else []), following

    def push(self, entries: Sequence[ListedAddress]) -> list[bool]:
        self.on_push(entries)
        self.offered.append([entry.address for entry in entries])
        return [entry.address not in self.refuses for entry in entries]

    def remove(self, addresses: Sequence[str]) -> list[bool]:
        raise AssertionError("the sync takes nobody off a provider's list")


class Listing(ScriptedProvider):
    def __init__(self, listed: Pages | None) -> None:
        super().__init__(account="main")
        self.listed = listed
        self.keeps_suppressions = listed is not None

    def suppression_list(self) -> Any:
        return self.listed


def listed(name: str, reason: str = "hard_bounce", at: datetime | None = NOON) -> ListedAddress:
    return ListedAddress(f"{name}@example.com", reason, at)


@dataclass
class Desk:
    """A ledger, and one account whose list is scripted."""

    ledger: Database
    pages: Pages = field(default_factory=Pages)
    pauses: list[float] = field(default_factory=list)

    def run(self, account: AccountSettings = MAIN, **options: Any) -> SyncReport:
        chosen = replace(SETTINGS, accounts={"main": account})
        accounts = FixedAccounts(chosen, {"main": Listing(self.pages)})
        return sync.run(chosen, self.ledger, accounts, "main", sleep=self.pauses.append, **options)

    def rows(self, sql: str = SUMMARY) -> list[Any]:
        return self.ledger.query(sqlalchemy.text(sql))

    def reasons(self, name: str, tenant: str = "acme") -> list[tuple[str, str, str]]:
        found = suppressions_of(self.ledger, tenant, Address(f"{name}@example.com"))
        return [(entry.stream, entry.reason, entry.source) for entry in found]

    def state(self) -> SyncState:
        return ledger_sync.load(self.ledger, "main")

    def settle(self) -> None:
        """Let what stands have been entered some minutes ago."""
        for row in self.rows("SELECT id FROM mailglass.suppressions"):
            earlier = str(replace_time(row.id))
            self.rows(f"UPDATE mailglass.suppressions SET id = '{earlier}' WHERE id = '{row.id}'")


def replace_time(identity: Any) -> Any:
    return type(identity)(int=identity.int - (600_000 << 80))


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    database = Database(database_url)
    yield Desk(database)
    database.dispose()


def test_a_list_is_read_to_its_end_and_mirrored(desk: Desk) -> None:
    desk.pages.pages = [[listed("a"), listed("b", "complaint")], [listed("c", "manual"), listed("d", "newcomer")]]
    report = desk.run()
    assert (report.status, report.pulled, report.new) == (SyncStatus.COMPLETE, 4, 4)
    assert [desk.reasons(name) for name in "abcd"] == [
        [("", reason, "sync")] for reason in ("hard_bounce", "complaint", "manual", "provider")
    ]
    assert desk.reasons("a", "globex") == []
    assert desk.state().synced_at is not None and desk.state().pull is None


def test_reading_twice_is_reading_once(desk: Desk) -> None:
    desk.pages.pages = [[listed("a"), listed("b", "unsubscribe")], [listed("c", at=None)]]
    desk.run(period=timedelta(0))
    before = desk.rows("SELECT * FROM mailglass.suppressions ORDER BY id")
    report = desk.run(period=timedelta(0))
    assert (report.pulled, report.new) == (3, 0)
    assert desk.rows("SELECT * FROM mailglass.suppressions ORDER BY id") == before


@pytest.mark.parametrize(
    ("routes", "streams"),
    [
        ((Route(("main",)),), ["bulk", "operational"]),
        ((Route(("main",), stream="bulk"), Route(("other",))), ["bulk"]),
        ((Route(("main",), stream="transactional"),), ["transactional"]),
        ((), ["bulk", "operational"]),
    ],
)
def test_an_unsubscription_concerns_the_accounts_streams_and_no_receipt(
    routes: tuple[Route, ...], streams: list[str]
) -> None:
    entries = entries_of([listed("a", "unsubscribe")], MAIN, replace(SETTINGS, routes=routes))
    assert [(entry.scope.value, entry.stream) for entry in entries] == [("address_stream", name) for name in streams]


def test_the_list_of_an_account_that_several_share_binds_them_all(desk: Desk) -> None:
    desk.pages.pages = [[listed("a")]]
    desk.run(replace(MAIN, tenant=None, suppressions=SyncMode.PULL))
    assert desk.reasons("a", "acme") == desk.reasons("a", "globex") == [("", "hard_bounce", "sync")]


def test_an_address_that_cannot_be_read_sinks_no_other(desk: Desk) -> None:
    desk.pages.pages = [[ListedAddress("@@", "complaint"), ListedAddress("a b@x.y\n", "manual"), listed("a")]]
    report = desk.run()
    assert (report.status, report.new) == (SyncStatus.COMPLETE, 1)


def test_a_complaint_never_ends_and_is_not_taken_back_by_reading(desk: Desk) -> None:
    suppress(desk.ledger, [Suppression("acme", "a@example.com", "complaint", "webhook", account="main")])
    desk.pages.pages = [[listed("a", "manual"), listed("a", "hard_bounce")]]
    desk.run(period=timedelta(0))
    desk.pages.pages = [[]]
    desk.run(period=timedelta(0))
    assert desk.reasons("a") == [("", "complaint", "webhook")]
    assert desk.rows()[0].expires_at is None


def test_address_off_the_providers_list_stays_on_ours(desk: Desk) -> None:
    desk.pages.pages = [[listed("a")]]
    desk.run(period=timedelta(0))
    desk.pages.pages = [[]]
    desk.run(period=timedelta(0))
    assert desk.reasons("a") == [("", "hard_bounce", "sync")]


def test_an_operators_entry_gives_way_to_a_stronger_reason_only(desk: Desk) -> None:
    suppress(desk.ledger, [Suppression("acme", f"{name}@example.com", "manual", "manual") for name in "ab"])
    desk.pages.pages = [[listed("a", "provider"), listed("b", "hard_bounce")]]
    desk.run()
    assert desk.reasons("a") == [("", "manual", "manual")]
    assert desk.reasons("b") == [("", "hard_bounce", "sync")]


def test_an_entry_that_ends_becomes_one_that_lasts(desk: Desk) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    suppress(desk.ledger, [Suppression("acme", "a@example.com", "provider", "attempt", expires_at=soon)])
    desk.pages.pages = [[listed("a", "provider")]]
    assert desk.run().new == 1
    assert desk.rows()[0].expires_at is None


def test_a_list_that_was_read_a_short_while_ago_is_left_alone(desk: Desk) -> None:
    desk.pages.pages = [[listed("a")]]
    desk.run()
    assert desk.run().status is SyncStatus.IDLE
    assert desk.pages.pulled == [None]


def test_a_run_whose_time_is_up_goes_on_where_it_stopped(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.pages.pages = [[listed(name)] for name in "abc"]
    seconds = iter(range(0, 1000, 15))
    monkeypatch.setattr("mailglass.suppressions.sync.clock.monotonic", lambda: float(next(seconds)))
    reports = [desk.run(budget=20) for _ in range(3)]
    assert [report.status for report in reports] == [SyncStatus.MORE, SyncStatus.MORE, SyncStatus.COMPLETE]
    assert desk.pages.pulled == [None, "1", "2"]
    assert [row.value[0] for row in desk.rows()] == ["a", "b", "c"]


def test_a_worker_that_dies_between_pages_loses_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.pages.pages = [[listed("a")], [listed("b")]]

    def dying(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger_sync, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            desk.run()
    assert desk.run().status is SyncStatus.COMPLETE
    assert [row.value[0] for row in desk.rows()] == ["a", "b"]


def test_single_worker_at_a_time_is_at_an_accounts_list(desk: Desk) -> None:
    inner: list[SyncStatus] = []
    desk.pages.pages = [[listed("a")]]
    desk.pages.on_pull = lambda cursor: inner.append(desk.run().status) if not inner else None
    assert desk.run().status is SyncStatus.COMPLETE
    assert inner == [SyncStatus.BUSY]
    assert desk.run(period=timedelta(0)).status is SyncStatus.COMPLETE


def test_a_provider_that_asks_for_a_wait_is_not_asked_before_its_end(desk: Desk) -> None:
    answers = [ProviderCallError("main: list", status=429, retryable=True)] * 2

    def busy(cursor: str | None) -> None:
        if answers:
            raise answers.pop()

    desk.pages.pages, desk.pages.on_pull = [[listed("a")]], busy
    report = desk.run()
    assert (report.status, report.new, desk.pauses) == (SyncStatus.COMPLETE, 1, [1.0, 2.0])


def test_a_failure_is_kept_and_forgotten_when_it_is_over(desk: Desk) -> None:
    def refused(cursor: str | None) -> None:
        raise ProviderCallError("main: list", status=401)

    desk.pages.on_pull = refused
    report = desk.run()
    assert (report.status, desk.pauses) == (SyncStatus.FAILED, [])
    assert report.error == desk.state().last_error
    assert "answered 401" in str(report.error)
    desk.pages.on_pull = lambda cursor: None
    assert desk.run().status is SyncStatus.COMPLETE
    assert desk.state().last_error is None


@pytest.mark.parametrize(
    "error", [ProviderCallError("main: list", status=400), ValueError("about ada@example.com"), KeyError("x")]
)
def test_a_cursor_that_is_refused_for_good_is_forgotten(desk: Desk, error: Exception) -> None:
    desk.pages.pages = [[listed("a")], [listed("b")]]
    ledger_sync.save(desk.ledger, "main", SyncState(pull="1"))

    def stale(cursor: str | None) -> None:
        if cursor == "1" and desk.pages.pulled == ["1"]:
            raise error

    desk.pages.on_pull = stale
    report = desk.run()
    assert report.status is SyncStatus.FAILED
    assert "ada" not in f"{report.error}{desk.state().last_error}"
    assert desk.run().status is SyncStatus.COMPLETE
    assert desk.pages.pulled == ["1", None, "1"]


def test_a_run_that_breaks_after_some_pages_is_continued(desk: Desk) -> None:
    desk.pages.pages = [[listed("a")], [listed("b")], [listed("c")]]
    broken = [RuntimeError("a time limit")]

    def breaking(cursor: str | None) -> None:
        if cursor == "2" and broken:
            raise broken.pop()

    desk.pages.on_pull = breaking
    assert (desk.run().status, desk.state().pull) == (SyncStatus.FAILED, "2")
    assert desk.run().status is SyncStatus.COMPLETE
    assert desk.pages.pulled == [None, "1", "2", "2"]


def test_a_failure_that_may_pass_keeps_the_cursor(desk: Desk) -> None:
    desk.pages.pages = [[listed("a")], [listed("b")]]

    def away(cursor: str | None) -> None:
        if cursor == "1":
            raise ProviderCallError("main: list", retryable=True)

    desk.pages.on_pull = away
    assert (desk.run().status, desk.state().pull) == (SyncStatus.MORE, "1")
    assert (desk.run().status, desk.state().pull) == (SyncStatus.FAILED, "1")


def test_our_entries_are_offered_once_and_those_the_account_told_of_are_not(desk: Desk) -> None:
    suppress(
        desk.ledger,
        [
            Suppression("acme", "ours@example.com", "manual", "manual"),
            Suppression("*", "everybodys@example.com", "complaint", "webhook", account="other"),
            Suppression("acme", "theirs@example.com", "hard_bounce", "webhook", account="main"),
            Suppression("globex", "anothers@example.com", "manual", "manual"),
            Suppression("acme", "passing@example.com", "manual", "manual", expires_at=NOON + timedelta(days=9999)),
        ],
    )
    assert desk.run().pushed == 0, "what was entered just now may be followed by what was entered before it"
    desk.settle()
    desk.pages.refuses = frozenset({"ours@example.com"})
    report = desk.run()
    assert (report.pushed, report.refused) == (1, 1)
    assert sorted(desk.pages.offered[0]) == ["everybodys@example.com", "ours@example.com"]
    assert (desk.run().status, len(desk.pages.offered)) == (SyncStatus.IDLE, 1)


def test_pulled_entry_is_not_pushed_back_to_its_account(desk: Desk) -> None:
    desk.pages.pages = [[listed("a"), listed("b", "complaint")]]
    desk.run()
    desk.settle()
    desk.run(period=timedelta(0))
    assert desk.pages.offered == []


def test_refused_batch_is_offered_entry_by_entry(desk: Desk) -> None:
    suppress(desk.ledger, [Suppression("acme", f"n{number}@example.com", "manual", "manual") for number in range(7)])
    desk.settle()

    def narrow(entries: Sequence[ListedAddress]) -> None:
        if len(entries) > 1:
            raise ProviderCallError("main: add", status=429, retryable=True)

    desk.pages.on_push = narrow
    report = desk.run()
    assert (report.status, report.pushed) == (SyncStatus.COMPLETE, 7)
    assert [len(batch) for batch in desk.pages.offered] == [1] * 7


@pytest.mark.parametrize("error", [ProviderCallError("main: add", status=500, retryable=True), KeyError("added")])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_an_entry_whose_offer_always_fails_keeps_no_other_from_being_offered(
    desk: Desk, place: int, error: Exception
) -> None:
    suppress(desk.ledger, [Suppression("acme", f"n{number}@example.com", "manual", "manual") for number in range(7)])
    desk.settle()
    (poison,) = desk.rows(f"SELECT value FROM mailglass.suppressions ORDER BY id OFFSET {place} LIMIT 1")

    def fails(entries: Sequence[ListedAddress]) -> None:
        if poison.value in [entry.address for entry in entries]:
            raise error

    desk.pages.on_push = fails
    reports = [desk.run(), desk.run()]
    assert sum(report.pushed for report in reports) == 6
    # the last one may be taken yet: nothing tells it from a provider that is away
    refused = 0 if place == 6 else 1
    assert sum(report.refused for report in reports) == refused
    assert reports[-1].status is (SyncStatus.FAILED if place == 6 else SyncStatus.IDLE)


def test_a_provider_that_comes_back_between_two_offers_gets_both(desk: Desk) -> None:
    suppress(desk.ledger, [Suppression("acme", f"n{number}@example.com", "manual", "manual") for number in range(3)])
    desk.settle()
    calls: list[int] = []

    def away_at_first(entries: Sequence[ListedAddress]) -> None:
        calls.append(len(entries))
        # the batch, and one entry with its repetitions
        if len(calls) <= 1 + 1 + len(sync.PAUSES):
            raise ProviderCallError("main: add", retryable=True)

    desk.pages.on_push = away_at_first
    report = desk.run()
    assert (report.status, report.pushed, report.refused) == (SyncStatus.COMPLETE, 3, 0)


@pytest.mark.parametrize("mode", [SyncMode.PULL, SyncMode.PUSH, SyncMode.OFF])
def test_an_account_goes_the_ways_it_is_told_to(desk: Desk, mode: SyncMode) -> None:
    suppress(desk.ledger, [Suppression("acme", "ours@example.com", "manual", "manual")])
    desk.settle()
    desk.run(replace(MAIN, suppressions=mode))
    assert bool(desk.pages.pulled) is (mode is SyncMode.PULL)
    assert bool(desk.pages.offered) is (mode is SyncMode.PUSH)


def test_a_provider_without_a_list_is_no_failure(desk: Desk) -> None:
    accounts = FixedAccounts(SETTINGS, {"main": Listing(None)})
    assert sync.run(SETTINGS, desk.ledger, accounts, "main").status is SyncStatus.NO_LIST


def test_a_dry_run_says_what_would_be_done_and_does_nothing(desk: Desk) -> None:
    suppress(desk.ledger, [Suppression("acme", f"{name}@example.com", "manual", "manual") for name in "xya"])
    desk.settle()
    ledger_sync.save(desk.ledger, "main", SyncState(pull="1"))
    desk.pages.pages = [[listed("a"), listed("b")], [listed("b"), listed("x", "provider")]]
    before, state = desk.rows(), desk.state()
    report = desk.run(dry_run=True)
    assert (report.status, report.pulled, report.new, report.pushed) == (SyncStatus.COMPLETE, 4, 3, 3)
    assert (desk.rows(), desk.state(), desk.pages.offered) == (before, state, [])


def test_an_unknown_account_is_named(desk: Desk) -> None:
    with pytest.raises(ConfigError):
        sync.run(SETTINGS, desk.ledger, Accounts(SETTINGS), "nobody")


def test_no_lock_stays_behind_when_the_database_goes_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: Any) -> None:
        raise LedgerUnavailableError("the database cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(ledger_sync, "mirror", gone)
        desk.pages.pages = [[listed("a")]]
        with pytest.raises(LedgerUnavailableError):
            desk.run()
    assert desk.run().status is SyncStatus.COMPLETE


# --- properties ---


@pytest.fixture(scope="module")
def ledger(postgres: Any, migrated_template: str) -> Iterator[Database]:
    """One database for all examples, each of which has a tenant of its own."""
    name = f"lists_{uuid4().hex}"
    database = Database(postgres.create_database(name, template=migrated_template))
    yield database
    database.dispose()
    postgres.drop_database(name)


items = st.tuples(st.sampled_from("abc"), st.sampled_from(RANKS), st.integers(0, 3))


@st.composite
def arrangements(draw: st.DrawFn) -> tuple[list[Any], list[list[Any]]]:
    """A list's items, and the same cut into pages in another order, some of them read twice."""
    found = draw(st.lists(items, min_size=1, max_size=8))
    order = draw(st.permutations([*found, *draw(st.lists(st.sampled_from(found), max_size=4))]))
    size = draw(st.integers(1, 4))
    return found, [list(order[start : start + size]) for start in range(0, len(order), size)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=arrangements())
def test_pages_in_any_order_and_read_any_number_of_times_come_to_the_same(
    ledger: Database, case: tuple[list[Any], list[list[Any]]]
) -> None:
    found, pages = case
    straight, rearranged = f"t{uuid7().hex}", f"t{uuid7().hex}"
    mirror(ledger, told(found, straight))
    for page in pages:
        mirror(ledger, told(page, rearranged))
        assert unmirrored(ledger, told(page, rearranged)) == 0
    assert standing(ledger, rearranged) == standing(ledger, straight)
    assert mirror(ledger, told(found, straight)) == 0
    for name in {who for who, _, _ in found}:
        ranks = [RANKS.index(reason) for who, reason, _ in found if who == name and reason != "unsubscribe"]
        stands = [
            RANKS.index(reason)
            for value, stream, reason, _ in standing(ledger, straight)
            if value[0] == name and not stream
        ]
        assert stands == ([max(ranks)] if ranks else [])


def told(found: Sequence[Any], tenant: str) -> list[Suppression]:
    account = replace(MAIN, tenant=tenant)
    return entries_of(
        [listed(name, reason, NOON + timedelta(hours=hour)) for name, reason, hour in found], account, SETTINGS
    )


def standing(ledger: Database, tenant: str) -> list[Any]:
    sql = "SELECT value, stream, reason, created_at FROM mailglass.suppressions WHERE tenant_id = :tenant ORDER BY 1, 2"
    return [tuple(row) for row in ledger.query(sqlalchemy.text(sql).bindparams(tenant=tenant))]


# --- the lab ---


@pytest.fixture(scope="module")
def lab() -> Iterator[dict[str, AccountSettings]]:
    with lab_of_lists() as accounts:
        yield accounts


@pytest.mark.parametrize("name", sorted(LISTING))
def test_two_lists_come_into_step_over_http(desk: Desk, lab: dict[str, AccountSettings], name: str) -> None:
    account = replace(lab[name], tenant="acme", suppressions=SyncMode.BOTH)
    chosen = Settings(accounts={name: account}, routes=(Route((name,)),))
    accounts = Accounts(chosen, ENVIRON)
    try:
        provider_list = accounts.open(name).suppression_list()
        assert provider_list is not None
        theirs = [f"theirs{number}@{name}.example" for number in range(130)]
        assert all(provider_list.push([ListedAddress(address, "hard_bounce") for address in theirs]))
        ours = [f"ours{number}@{name}.example" for number in range(60)]
        suppress(desk.ledger, [Suppression("acme", address, "hard_bounce", "webhook", account="x") for address in ours])
        desk.settle()
        report = sync.run(chosen, desk.ledger, accounts, name)
        assert (report.status, report.pushed, report.refused) == (SyncStatus.COMPLETE, 60, 0)
        assert {row.value for row in desk.rows()} == {*theirs, *ours}
        assert {address.address for address in _all(provider_list)} == {*theirs, *ours}
        again = sync.run(chosen, desk.ledger, accounts, name, period=timedelta(0))
        assert (again.status, again.pushed) == (SyncStatus.COMPLETE, 0)
        assert unsuppress(desk.ledger, "acme", ours[0])
    finally:
        accounts.close()


def _all(provider_list: Any) -> list[ListedAddress]:
    entries, cursor = provider_list.pull(None)
    while cursor is not None:
        page, cursor = provider_list.pull(cursor)
        entries += page
    return entries
