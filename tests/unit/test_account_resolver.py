"""Accounts of an application: resolved by its hook, kept for seconds, told to nobody."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import clock, telemetry
from mailglass.errors import AccountUnavailableError, ConfigError
from mailglass.providers.postmark import PostmarkProvider
from mailglass.providers.registry import Accounts
from mailglass.routing import Account, AccountResolver, Router, Tenancy
from mailglass.routing import accounts as resolving
from mailglass.settings import NAME, AccountSettings, Settings

TOKEN = "s3cret-token-91"


class Time:
    """The clock, moved on by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0.0
        monotonic = clock.monotonic
        monkeypatch.setattr(clock, "monotonic", lambda: monotonic() + self.passed)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.fixture
def told() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    end = telemetry.subscribe(lambda event, fields: found.append((event, dict(fields))))
    yield found
    end()


class Shop(Tenancy):
    """An application with a table of accounts."""

    def __init__(self) -> None:
        self.rows: dict[str, Account] = {"acme": Account("postmark", {"server_token": TOKEN}, tenant="acme")}
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda name: None

    def resolve_account(self, name: str) -> Account | None:
        self.asked.append(name)
        self.before(name)
        return self.rows.get(name)

    def list_accounts(self) -> list[str]:
        return sorted(self.rows)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def resolver(shop: Shop) -> AccountResolver:
    return AccountResolver(shop.resolve_account, shop.list_accounts)


@pytest.fixture
def accounts(shop: Shop) -> Accounts:
    settings = Settings(accounts={"fixed": AccountSettings("fixed", "null")})
    return Accounts(settings, {}, Router(settings, shop))


def unavailable(work: Callable[[], object]) -> AccountUnavailableError:
    with pytest.raises(AccountUnavailableError) as raised:
        work()
    return raised.value


def test_an_account_is_asked_for_again_after_seconds(resolver: AccountResolver, shop: Shop, time: Time) -> None:
    for _ in range(100):
        assert resolver.resolve("acme").provider == "postmark"
    assert shop.asked == ["acme"]
    time.passed += resolving.FRESH
    resolver.resolve("acme")
    assert shop.asked == ["acme", "acme"]


def test_a_revoked_account_is_refused_once_its_answer_is_old(accounts: Accounts, shop: Shop, time: Time) -> None:
    provider = accounts.open("acme")
    closed: list[bool] = []
    provider.close = lambda: closed.append(True)  # type: ignore[method-assign]
    del shop.rows["acme"]
    time.passed += resolving.FRESH
    assert unavailable(lambda: accounts.open("acme")).missing
    # a batch that is under way goes on with it
    assert closed == []
    accounts.close()
    assert closed == [True]


def test_a_changed_account_is_opened_anew_and_an_equal_one_is_kept(accounts: Accounts, shop: Shop, time: Time) -> None:
    first = accounts.open("acme")
    shop.rows["acme"] = Account("postmark", {"server_token": TOKEN}, tenant="acme")
    time.passed += resolving.FRESH
    assert accounts.open("acme") is first
    shop.rows["acme"] = Account("postmark", {"server_token": "another"}, tenant="acme")
    time.passed += resolving.FRESH
    second = accounts.open("acme")
    assert isinstance(second, PostmarkProvider)
    assert second.credentials() == {"x-postmark-server-token": "another"}
    assert accounts.other(second) is None


def test_a_batch_begun_before_a_token_changed_has_the_one_in_use_as_other(
    accounts: Accounts, shop: Shop, time: Time
) -> None:
    begun = accounts.open("acme")
    assert accounts.other(begun) is None
    shop.rows["acme"] = Account("postmark", {"server_token": "another-token"}, tenant="acme")
    time.passed += resolving.FRESH
    assert accounts.open("acme") is not begun
    assert accounts.other(begun) is accounts.open("acme")
    assert accounts.other(accounts.open("acme")) is None


def test_accounts_of_the_settings_go_first(accounts: Accounts, shop: Shop) -> None:
    assert accounts.open("fixed").name == "null"
    assert shop.asked == []
    assert accounts.names() == ["fixed", "acme"]


class BadError(Exception):
    """An error whose text holds a secret."""


def _raises(error: BaseException) -> Callable[[str], None]:
    def work(name: str) -> None:
        raise error

    return work


@pytest.mark.parametrize("error", [BadError(TOKEN), SystemExit(TOKEN), ConfigError("key", TOKEN, TOKEN)])
def test_a_hook_that_fails_closes_its_account_and_tells_no_secret(
    resolver: AccountResolver, shop: Shop, time: Time, told: list[tuple[str, dict[str, Any]]], error: BaseException
) -> None:
    resolver.resolve("acme")
    time.passed += resolving.FRESH
    shop.before = _raises(error)
    found = unavailable(lambda: resolver.resolve("acme"))
    assert not found.missing
    chain: BaseException | None = found
    while chain is not None:
        assert TOKEN not in str(chain)
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    assert TOKEN not in str(told)
    assert ("mailglass.account.unresolved", "acme") in [(event, fields.get("account")) for event, fields in told]
    # its failure is kept for seconds too
    asked = len(shop.asked)
    unavailable(lambda: resolver.resolve("acme"))
    assert len(shop.asked) == asked
    shop.before = lambda name: None
    time.passed += resolving.FRESH
    assert resolver.resolve("acme").provider == "postmark"


def test_a_hook_that_hangs_is_given_up_and_others_go_on(
    resolver: AccountResolver, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "TIMEOUT", 0.1)
    go_on = threading.Event()
    shop.before = lambda name: None if name != "hangs" else _wait(go_on)
    try:
        assert "too long" in unavailable(lambda: resolver.resolve("hangs")).problem
        assert resolver.resolve("acme").provider == "postmark"
        for _ in range(50):
            unavailable(lambda: resolver.resolve("hangs"))
        assert shop.asked.count("hangs") == 1
    finally:
        go_on.set()


def _wait(event: threading.Event) -> None:
    assert event.wait(60)


def test_hanging_calls_are_bounded(
    resolver: AccountResolver, shop: Shop, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    monkeypatch.setattr(resolving, "TIMEOUT", 0.01)
    go_on = threading.Event()
    shop.before = lambda name: _wait(go_on)
    try:
        for number in range(100):
            unavailable(partial(resolver.resolve, f"name-{number}"))
        assert len(shop.asked) == resolving._CALLS
    finally:
        go_on.set()
    time.passed += resolving.FRESH


def test_many_threads_that_want_one_account_ask_once(resolver: AccountResolver, shop: Shop) -> None:
    go_on, results = threading.Event(), []
    shop.before = lambda name: _wait(go_on)
    threads = [threading.Thread(target=lambda: results.append(resolver.resolve("acme"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert len(results) == 20
    assert shop.asked == ["acme"]


def test_strangers_have_few_names_looked_up_and_keep_no_known_account_out(
    resolver: AccountResolver, shop: Shop, time: Time
) -> None:
    resolver.resolve("acme")
    time.passed += resolving.FRESH
    for number in range(1000):
        unavailable(partial(resolver.resolve, f"made-up-{number}", stranger=True))
    assert len(shop.asked) < 50
    assert resolver.resolve("acme", stranger=True).name == "acme"
    # what the application itself names is looked up
    assert unavailable(lambda: resolver.resolve("new")).missing
    assert len(resolver._failed) <= resolving._MOST_FAILURES


def test_strangers_whose_calls_hang_leave_calls_to_the_accounts_of_mails(
    resolver: AccountResolver, shop: Shop, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    monkeypatch.setattr(resolving, "TIMEOUT", 0.01)
    go_on = threading.Event()
    shop.before = lambda name: name == "acme" or _wait(go_on)
    try:
        for number in range(4 * resolving._CALLS):
            time.passed += 0.2
            unavailable(partial(resolver.resolve, f"made-up-{number}", stranger=True))
        monkeypatch.setattr(resolving, "TIMEOUT", 60.0)
        assert resolver.resolve("acme").name == "acme"
    finally:
        go_on.set()


@given(st.text())
def test_a_name_that_is_none_is_not_looked_up(name: str) -> None:
    asked: list[str] = []
    resolver = AccountResolver(lambda name: asked.append(name))
    unavailable(lambda: resolver.resolve(name))
    assert all(NAME.match(one) for one in asked)


@pytest.mark.parametrize(
    "answer",
    [
        "postmark",
        Account("postmark", {}, tenant="Not A Tenant"),
        Account("postmark", {}, suppressions="always"),
        Account("postmark", {}, suppressions="push"),
        Account("postmark", {}, sender="nobody"),
    ],
)
def test_an_answer_that_cannot_be_used_is_an_error_of_its_account(answer: Any) -> None:
    resolver = AccountResolver(lambda name: answer)
    with pytest.raises(ConfigError) as raised:
        resolver.resolve("acme")
    assert raised.value.key.startswith("accounts.acme")


@pytest.mark.parametrize("value", ["env:HOME", "file:/etc/hostname"])
def test_a_value_that_looks_like_a_reference_is_a_value(accounts: Accounts, shop: Shop, value: str) -> None:
    shop.rows["acme"] = Account("postmark", {"server_token": value})
    provider = accounts.open("acme")
    assert isinstance(provider, PostmarkProvider)
    assert provider.credentials() == {"x-postmark-server-token": value}


def test_an_account_shows_no_secret_and_does_not_pickle(accounts: Accounts, shop: Shop) -> None:
    account = shop.rows["acme"]
    shown = [account, account.options, accounts.settings("acme"), accounts.open("acme"), accounts.open("acme").options]
    for value in shown:
        assert TOKEN not in repr(value) + str(value)
    for value in (account, account.options, accounts.settings("acme")):
        with pytest.raises(TypeError):
            pickle.dumps(value)
    with pytest.raises(TypeError):
        copy.deepcopy(accounts.settings("acme"))


def test_wrong_options_are_told_without_their_values(accounts: Accounts, shop: Shop) -> None:
    shop.rows["acme"] = Account("postmark", {"server_token": TOKEN, "webhook_passwords": [TOKEN], "batch": TOKEN})
    with pytest.raises(ConfigError) as raised:
        accounts.open("acme")
    assert TOKEN not in str(raised.value)
    assert "accounts.acme" in raised.value.key


def test_open_accounts_are_bounded(accounts: Accounts, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from mailglass.providers import registry

    monkeypatch.setattr(registry, "_MOST_RESOLVED", 3)
    for number in range(10):
        shop.rows[f"t{number}"] = Account("postmark", {"server_token": f"token-{number}"})
        accounts.open(f"t{number}")
    assert len(accounts._resolved) == 3


def test_a_list_that_fails_leaves_the_names_of_the_last_time(
    resolver: AccountResolver, shop: Shop, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    assert resolver.names() == ("acme",)
    monkeypatch.setattr(resolver, "_listing", lambda: 1 / 0)
    assert resolver.names() == ("acme",)
    time.passed += resolving.LISTED_FOR
    assert resolver.names() == ("acme",)
    monkeypatch.setattr(resolver, "_listing", lambda: ["b", "Not A Name", 7, "b"])
    time.passed += resolving.LISTED_FOR
    assert resolver.names() == ("b",)


def test_a_tenancy_that_cannot_be_imported_closes_unknown_accounts_and_no_others() -> None:
    accounts = Accounts(Settings(accounts={"fixed": AccountSettings("fixed", "null")}, tenancy="nowhere:Nothing"), {})
    assert accounts.open("fixed").name == "null"
    assert not unavailable(lambda: accounts.open("acme")).missing


def test_without_a_hook_an_unknown_account_is_an_error_of_the_settings() -> None:
    with pytest.raises(ConfigError) as raised:
        Accounts(Settings(), {}).open("acme")
    assert not isinstance(raised.value, AccountUnavailableError)
