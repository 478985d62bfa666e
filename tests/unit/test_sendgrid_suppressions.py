"""SendGrid's suppression lists: what is asked over the wire, and what untrusted answers become."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ProviderCallError
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.sendgrid import SendGridOptions, SendGridProvider
from mailglass.providers.sendgrid.suppressions import BATCH, PAGE, SendGridSuppressions
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import Secret
from mailglass.testing.provider_suite.wire import HTTPWire, Reply, Seen, closed_port

LISTS = ["bounces", "invalid_emails", "spam_reports", "unsubscribes"]
GLOBAL = "/v3/asm/suppressions/global"
MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


class Account:
    """A SendGrid account that keeps its lists, by their names in the API; `blocks` among them."""

    def __init__(self) -> None:
        self.lists: dict[str, list[str]] = {name: [] for name in (*LISTS, "blocks")}

    def __call__(self, request: Seen) -> Reply:
        parts = urlsplit(request.path)
        if request.method == "GET":
            query = {key: int(value) for key, (value,) in parse_qs(parts.query).items()}
            addresses = self.lists[parts.path.removeprefix("/v3/suppression/")]
            page = addresses[query["offset"] : query["offset"] + min(query["limit"], 500)]
            return Reply.json([{"email": address, "created": int(MOMENT.timestamp())} for address in page])
        if request.method == "POST" and parts.path == GLOBAL:
            self.lists["unsubscribes"] += request.json()["recipient_emails"]
            return Reply.json(request.json(), 201)
        base, _, address = parts.path.rpartition("/")
        assert request.method == "DELETE" and "@" in address and request.body == b""
        found = self.lists["unsubscribes" if base == GLOBAL else base.removeprefix("/v3/suppression/")]
        if unquote(address) not in found:
            return Reply.json({"errors": [{"message": "not found"}]}, 404)
        found.remove(unquote(address))
        return Reply(204)


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def wire(account: Account) -> Iterator[HTTPWire]:
    with HTTPWire(account) as server:
        yield server


@pytest.fixture
def lists(wire: HTTPWire) -> Iterator[SendGridSuppressions]:
    provider = opened(wire.url)
    yield provider.suppression_list()
    provider.close()


def opened(url: str, subuser: str | None = None) -> SendGridProvider:
    options = SendGridOptions(api_key=Secret("SG.key"), base_url=url, subuser=subuser)
    return SendGridProvider("acme-sg", options)


def everything(lists: SendGridSuppressions) -> tuple[list[ListedAddress], list[str | None]]:
    """All pages together, and the cursors on the way."""
    found: list[ListedAddress] = []
    cursors: list[str | None] = [None]
    while True:
        entries, cursor = lists.pull(cursors[-1])
        found += entries
        if cursor is None:
            return found, cursors
        cursors.append(cursor)


def listed(*addresses: str, reason: str = "hard_bounce") -> list[ListedAddress]:
    return [ListedAddress(address, reason) for address in addresses]


def test_the_four_lists_are_read_as_one_and_blocks_are_left_out(
    account: Account, wire: HTTPWire, lists: SendGridSuppressions
) -> None:
    for name, addresses in account.lists.items():
        addresses.append(f"{name}@x.y")
    entries, cursors = everything(lists)
    assert entries == [
        ListedAddress("bounces@x.y", "hard_bounce", MOMENT, "bounces"),
        ListedAddress("invalid_emails@x.y", "hard_bounce", MOMENT, "invalid_emails"),
        ListedAddress("spam_reports@x.y", "complaint", MOMENT, "spam_reports"),
        ListedAddress("unsubscribes@x.y", "unsubscribe", MOMENT, "unsubscribes"),
    ]
    assert cursors == [None, "invalid_emails:0", "spam_reports:0", "unsubscribes:0"]
    assert [request.path for request in wire.seen] == [f"/v3/suppression/{name}?limit=500&offset=0" for name in LISTS]
    assert {request.headers["authorization"] for request in wire.seen} == {"Bearer SG.key"}


@pytest.mark.parametrize(
    ("count", "pages"),
    [(0, 1), (1, 1), (PAGE - 1, 1), (PAGE, 2), (PAGE + 1, 2), (2 * PAGE, 3), (2 * PAGE + 3, 3)],
)
def test_a_full_page_is_followed_by_the_next_and_nothing_is_left_out(
    account: Account, lists: SendGridSuppressions, count: int, pages: int
) -> None:
    account.lists["spam_reports"] = [f"n{number}@x.y" for number in range(count)]
    entries, cursors = everything(lists)
    assert [entry.address for entry in entries] == account.lists["spam_reports"]
    assert [cursor for cursor in cursors if cursor and cursor.startswith("spam_reports")] == [
        f"spam_reports:{PAGE * page}" for page in range(pages)
    ]


@pytest.mark.parametrize(
    "cursor",
    ["", ":", "blocks:0", "bounces", "bounces:", "bounces:-5", "bounces:x", "../x:0", "bounces:²", "x" * 99],
)
def test_a_cursor_that_is_none_of_ours_begins_at_the_beginning(
    wire: HTTPWire, lists: SendGridSuppressions, cursor: str
) -> None:
    lists.pull(cursor)
    assert wire.seen[0].path == "/v3/suppression/bounces?limit=500&offset=0"


def test_a_subusers_lists_are_asked_for_on_its_behalf(wire: HTTPWire) -> None:
    provider = opened(wire.url, "brand")
    found = provider.suppression_list()
    found.pull(None)
    found.push(listed("a@x.y"))
    found.remove(["a@x.y"])
    provider.close()
    assert {request.headers["on-behalf-of"] for request in wire.seen} == {"brand"}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("5.1.1", "hard_bounce"),
        ("550", "hard_bounce"),
        ("", "hard_bounce"),
        (None, "hard_bounce"),
        ("4.2.2", "provider"),
    ],
)
def test_a_bounce_with_a_passing_status_does_not_prove_a_dead_mailbox(
    wire: HTTPWire, lists: SendGridSuppressions, status: object, reason: str
) -> None:
    item = {"email": "a@x.y", "created": 1, "status": status, "reason": "text"}
    wire.behaviour = lambda request: Reply.json([item])
    assert [entry.reason for entry in lists.pull("bounces:0")[0]] == [reason]
    assert [entry.reason for entry in lists.pull("spam_reports:0")[0]] == ["complaint"]


def test_an_entry_that_cannot_be_read_sinks_no_other(wire: HTTPWire, lists: SendGridSuppressions) -> None:
    broken: list[object] = [None, 7, [], {}, {"email": 7}, {"email": "none"}]
    wire.behaviour = lambda request: Reply.json([*broken, {"email": "a@x.y", "created": "soon"}, {"email": "b@x.y"}])
    entries, _ = lists.pull(None)
    assert [(entry.address, entry.created_at) for entry in entries] == [("a@x.y", None), ("b@x.y", None)]


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"null", b'{"recipient_emails": 7}'])
def test_an_answer_that_cannot_be_read_is_never_an_empty_list(
    wire: HTTPWire, lists: SendGridSuppressions, body: bytes
) -> None:
    wire.behaviour = lambda request: Reply(200, body)
    with pytest.raises(ProviderCallError):
        lists.pull(None)
    with pytest.raises(ProviderCallError):
        lists.push(listed("a@x.y"))


@pytest.mark.parametrize("reason", ["hard_bounce", "complaint", "unsubscribe", "manual", "provider"])
def test_added_entry_becomes_a_global_unsubscribe(
    account: Account, wire: HTTPWire, lists: SendGridSuppressions, reason: str
) -> None:
    assert lists.push(listed("Ada@x.y", "b@x.y", reason=reason)) == [True, True]
    (request,) = wire.seen
    assert (request.method, request.path, request.json()) == (
        "POST",
        GLOBAL,
        {"recipient_emails": ["Ada@x.y", "b@x.y"]},
    )
    assert account.lists["unsubscribes"] == ["Ada@x.y", "b@x.y"]


def test_only_what_the_answer_names_was_added(wire: HTTPWire, lists: SendGridSuppressions) -> None:
    wire.behaviour = lambda request: Reply.json({"recipient_emails": ["ada@x.y", None]}, 201)
    assert lists.push(listed("Ada@X.y", "b@x.y")) == [True, False]


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (BATCH, [BATCH]), (BATCH + 1, [BATCH, 1])])
def test_additions_go_in_batches(wire: HTTPWire, lists: SendGridSuppressions, count: int, sizes: list[int]) -> None:
    assert lists.push(listed(*[f"n{number}@x.y" for number in range(count)])) == [True] * count
    assert [len(request.json()["recipient_emails"]) for request in wire.seen] == sizes


def test_a_call_refused_for_one_address_is_asked_again_by_halves(
    account: Account, wire: HTTPWire, lists: SendGridSuppressions
) -> None:
    def behaviour(request: Seen) -> Reply:
        if "poison@x.y" in request.json()["recipient_emails"]:
            return Reply.json({"errors": [{"message": "invalid email"}]}, 400)
        return account(request)

    wire.behaviour = behaviour
    assert lists.push(listed("a@x.y", "poison@x.y", "b@x.y", "c@x.y")) == [True, False, True, True]


def test_an_address_is_taken_off_every_list_and_no_other_address_is(
    account: Account, wire: HTTPWire, lists: SendGridSuppressions
) -> None:
    for addresses in account.lists.values():
        addresses += ["ada+a/b?c#d@x.y", "other@x.y"]
    account.lists["bounces"].remove("ada+a/b?c#d@x.y")
    assert lists.remove(["ada+a/b?c#d@x.y", "nowhere@x.y"]) == [True, True]
    assert {name: account.lists[name] for name in LISTS} == {name: ["other@x.y"] for name in LISTS}
    assert account.lists["blocks"] == ["ada+a/b?c#d@x.y", "other@x.y"]
    assert [request.path for request in wire.seen[:4]] == [
        *(f"/v3/suppression/{name}/ada%2Ba%2Fb%3Fc%23d@x.y" for name in LISTS[:3]),
        f"{GLOBAL}/ada%2Ba%2Fb%3Fc%23d@x.y",
    ]


def test_list_that_keeps_an_address_does_not_spare_the_others(
    account: Account, wire: HTTPWire, lists: SendGridSuppressions
) -> None:
    for addresses in account.lists.values():
        addresses.append("a@x.y")
    wire.behaviour = lambda request: Reply(400) if "/bounces/" in request.path else account(request)
    assert lists.remove(["a@x.y"]) == [False]
    assert [account.lists[name] for name in LISTS] == [["a@x.y"], [], [], []]


@pytest.mark.parametrize("address", ["", "none", "..", "half \ud83d@x.y", "a@x.y\n"])
def test_invalid_address_is_not_asked_about(wire: HTTPWire, lists: SendGridSuppressions, address: str) -> None:
    assert lists.push(listed(address)) == [False]
    assert lists.remove([address]) == [False]
    assert wire.seen == []


@pytest.mark.parametrize(
    ("status", "retryable"), [(302, False), (401, False), (403, False), (429, True), (500, True), (503, True)]
)
def test_a_call_that_is_refused_says_whether_to_try_again(
    wire: HTTPWire, lists: SendGridSuppressions, status: int, retryable: bool
) -> None:
    wire.behaviour = lambda request: Reply.json({"errors": [{"message": "about ada@x.y"}]}, status)
    for ask in (lambda: lists.pull(None), lambda: lists.push(listed("ada@x.y")), lambda: lists.remove(["ada@x.y"])):
        wire.seen.clear()
        with pytest.raises(ProviderCallError) as error:
            ask()
        assert (error.value.status, error.value.retryable) == (status, retryable)
        assert "ada" not in str(error.value) and "acme-sg" in str(error.value)
        assert len(wire.seen) == 1


def test_a_lost_answer_may_be_asked_for_again(wire: HTTPWire, lists: SendGridSuppressions) -> None:
    wire.behaviour = lambda request: None
    unreachable = opened(f"http://127.0.0.1:{closed_port()}").suppression_list()
    for found in (lists, unreachable):
        with pytest.raises(ProviderCallError) as error:
            found.pull(None)
        assert (error.value.status, error.value.retryable) == (None, True)


class Prepared:
    """Stands where the connection is, for answers by the hundred."""

    def __init__(self, status: int, value: Any) -> None:
        self.answer = HTTPAnswer(status, {}, json.dumps(value).encode())

    def exchange(self, request: HTTPRequest, *, deadline: float) -> HTTPAnswer:
        return self.answer


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("a@x.y"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["email", "created", "status", "recipient_emails"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.sampled_from([200, 400, 404]), JSON, st.none() | st.text(max_size=20), st.integers(0, 20))
def test_any_answer_is_a_result_for_each_or_an_error(status: int, value: Any, cursor: str | None, count: int) -> None:
    found = SendGridSuppressions(Prepared(status, value), "sg")  # type: ignore[arg-type]
    with contextlib.suppress(ProviderCallError):
        entries, _ = found.pull(cursor)
        assert all("@" in entry.address for entry in entries)
    with contextlib.suppress(ProviderCallError):
        assert len(found.push(listed(*["a@x.y"] * count))) == count
    with contextlib.suppress(ProviderCallError):
        assert len(found.remove(["a@x.y"] * count)) == count
