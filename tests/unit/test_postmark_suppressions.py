"""Postmark's suppression list: what is asked over the wire, and what untrusted answers become."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ProviderCallError
from mailglass.providers import http
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.postmark import PostmarkOptions, PostmarkProvider
from mailglass.providers.postmark.suppressions import BATCH, PostmarkSuppressions
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import Secret
from mailglass.testing.provider_suite.wire import HTTPWire, Reply, Seen, closed_port

PATH = "/message-streams/outbound/suppressions"
A = {
    "EmailAddress": "a@example.com",
    "SuppressionReason": "HardBounce",
    "Origin": "Recipient",
    "CreatedAt": "2019-12-17T08:58:33-05:00",
}


@pytest.fixture
def wire() -> Iterator[HTTPWire]:
    with HTTPWire(lambda request: Reply.json({"Suppressions": []})) as server:
        yield server


@pytest.fixture
def lists(wire: HTTPWire) -> Iterator[PostmarkSuppressions]:
    provider = opened(wire.url)
    yield provider.suppression_list()
    provider.close()


def opened(url: str, stream: str = "outbound") -> PostmarkProvider:
    options = PostmarkOptions(server_token=Secret("token-1"), base_url=url, message_stream=stream)
    return PostmarkProvider("acme-pm", options)


def says(status: Callable[[str], str | None]) -> Callable[[Seen], Reply]:
    """Answers each address of a call with its status; None leaves it out."""

    def behaviour(request: Seen) -> Reply:
        told = [(address, status(address)) for address in asked(request)]
        return Reply.json(
            {"Suppressions": [{"EmailAddress": a, "Status": s, "Message": None} for a, s in reversed(told) if s]}
        )

    return behaviour


def asked(request: Seen) -> list[str]:
    return [item["EmailAddress"] for item in request.json()["Suppressions"]]


def listed(*addresses: str) -> list[ListedAddress]:
    return [ListedAddress(address, "hard_bounce") for address in addresses]


def test_the_streams_whole_list_is_one_page(wire: HTTPWire, lists: PostmarkSuppressions) -> None:
    wire.behaviour = lambda request: Reply.json({"Suppressions": [A]})
    moment = datetime(2019, 12, 17, 13, 58, 33, tzinfo=UTC)
    assert lists.pull(None) == ([ListedAddress("a@example.com", "hard_bounce", moment, "outbound")], None)
    (request,) = wire.seen
    assert (request.method, request.path) == ("GET", f"{PATH}/dump")
    assert request.headers["x-postmark-server-token"] == "token-1"


def keeps(days: list[date]) -> Callable[[Seen], Reply]:
    """A list with one entry for each of these days, filtered as Postmark filters it: both ends included."""

    def behaviour(request: Seen) -> Reply:
        wanted = dict(parse_qsl(urlsplit(request.path).query))
        since = date.fromisoformat(wanted.get("fromdate", "0001-01-01"))
        until = date.fromisoformat(wanted.get("todate", "9999-12-31"))
        return Reply.json(
            {
                "Suppressions": [
                    A | {"EmailAddress": f"n{number}@example.com", "CreatedAt": f"{day}T12:00:00-05:00"}
                    for number, day in enumerate(days)
                    if since <= day <= until
                ]
            }
        )

    return behaviour


def read_all(lists: PostmarkSuppressions) -> list[str]:
    entries, cursor = lists.pull(None)
    while cursor is not None:
        page, cursor = lists.pull(cursor)
        entries += page
    return [entry.address for entry in entries]


@pytest.mark.parametrize(
    "days",
    [
        [date(2021, 1, 1) + timedelta(7 * number) for number in range(60)],
        [date(2024, 2, 28)] * 4 + [date(2024, 2, 29)] * 4 + [date(2024, 3, 1)] * 4,
        [date(1999, 1, 1), date(2009, 1, 1), date(2016, 3, 3), datetime.now(UTC).date()] * 2,
    ],
    ids=["spread", "in a few days", "at the ends"],
)
def test_a_list_that_is_too_large_for_one_answer_is_read_by_days(
    wire: HTTPWire, lists: PostmarkSuppressions, days: list[date], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 700)
    wire.behaviour = keeps(days)
    assert sorted(read_all(lists)) == sorted(f"n{number}@example.com" for number in range(len(days)))


def test_a_single_day_that_is_too_large_is_an_error_that_says_so(
    wire: HTTPWire, lists: PostmarkSuppressions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 700)
    wire.behaviour = keeps([date(2024, 2, 28)] * 20)
    with pytest.raises(ProviderCallError) as error:
        read_all(lists)
    assert (error.value.too_large, error.value.retryable) == (True, False)
    assert "larger than mailglass reads" in str(error.value)


@pytest.mark.parametrize("cursor", ["", "x", "2024-01-01", "2024-13-01:4", "2024-01-01:-4", ":", "2024-01-01:99999"])
def test_a_cursor_that_is_none_of_ours_begins_at_the_beginning(
    wire: HTTPWire, lists: PostmarkSuppressions, cursor: str
) -> None:
    assert lists.pull(cursor) == ([], None)
    assert wire.seen[0].path == f"{PATH}/dump"


def test_each_account_has_the_list_of_its_own_stream(wire: HTTPWire) -> None:
    provider = opened(wire.url, "news/../outbound?x")
    provider.suppression_list().pull(None)
    provider.close()
    assert wire.seen[0].path == "/message-streams/news%2F..%2Foutbound%3Fx/suppressions/dump"


@pytest.mark.parametrize(
    ("why", "origin", "reason"),
    [
        ("HardBounce", "Recipient", "hard_bounce"),
        ("HardBounce", "Admin", "hard_bounce"),
        ("SpamComplaint", "Recipient", "complaint"),
        ("SpamComplaint", "Customer", "complaint"),
        ("ManualSuppression", "Recipient", "unsubscribe"),
        ("ManualSuppression", "Customer", "manual"),
        ("ManualSuppression", "Admin", "manual"),
        ("ManualSuppression", None, "manual"),
        ("Newcomer", "Recipient", "provider"),
        (None, None, "provider"),
        (["HardBounce"], {}, "provider"),
    ],
)
def test_an_entrys_reason_is_why_and_by_whom_it_was_listed(
    wire: HTTPWire, lists: PostmarkSuppressions, why: object, origin: object, reason: str
) -> None:
    wire.behaviour = lambda request: Reply.json({"Suppressions": [A | {"SuppressionReason": why, "Origin": origin}]})
    assert [entry.reason for entry in lists.pull(None)[0]] == [reason]


def test_an_entry_that_cannot_be_read_sinks_no_other(wire: HTTPWire, lists: PostmarkSuppressions) -> None:
    broken: list[object] = [None, 7, [], {}, A | {"EmailAddress": 7}, A | {"EmailAddress": "none"}]
    wire.behaviour = lambda request: Reply.json({"Suppressions": [*broken, A, A | {"CreatedAt": "yesterday"}]})
    entries, _ = lists.pull(None)
    assert [(entry.address, entry.created_at is None) for entry in entries] == [
        ("a@example.com", False),
        ("a@example.com", True),
    ]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"Suppressions": null}', b"7"])
def test_an_answer_that_is_no_list_is_never_an_empty_one(
    wire: HTTPWire, lists: PostmarkSuppressions, body: bytes
) -> None:
    wire.behaviour = lambda request: Reply(200, body)
    for ask in (lambda: lists.pull(None), lambda: lists.push(listed("a@x.y")), lambda: lists.remove(["a@x.y"])):
        with pytest.raises(ProviderCallError):
            ask()


def test_each_address_has_the_answer_that_names_it(wire: HTTPWire, lists: PostmarkSuppressions) -> None:
    known = {"Good@x.y": "Suppressed", "bad@x.y": "Failed", "odd@x.y": "Deleted", "left-out@x.y": None}
    wire.behaviour = says(known.get)
    assert lists.push(listed(*known)) == [True, False, False, False]
    (request,) = wire.seen
    assert (request.method, request.path) == ("POST", PATH)
    assert request.headers["content-type"] == "application/json"
    assert asked(request) == list(known)


def test_postmark_may_write_an_address_in_lower_case(wire: HTTPWire, lists: PostmarkSuppressions) -> None:
    wire.behaviour = lambda request: Reply.json({"Suppressions": [{"EmailAddress": "ada@x.y", "Status": "Suppressed"}]})
    assert lists.push(listed("Ada@X.y")) == [True]


def test_a_complaint_cannot_be_taken_off(wire: HTTPWire, lists: PostmarkSuppressions) -> None:
    wire.behaviour = says(lambda address: "Failed" if address == "complained@x.y" else "Deleted")
    assert lists.remove(["a@x.y", "complained@x.y", "b@x.y"]) == [True, False, True]
    assert [request.path for request in wire.seen] == [f"{PATH}/delete"]


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (50, [50]), (51, [50, 1]), (120, [50, 50, 20])])
def test_a_call_carries_at_most_fifty(
    wire: HTTPWire, lists: PostmarkSuppressions, count: int, sizes: list[int]
) -> None:
    addresses = [f"n{number}@x.y" for number in range(count)]
    wire.behaviour = says(lambda address: "Suppressed" if address != "n50@x.y" else "Failed")
    assert lists.push(listed(*addresses)) == [address != "n50@x.y" for address in addresses]
    wire.behaviour = says(lambda address: "Deleted" if address != "n3@x.y" else "Failed")
    assert lists.remove(addresses) == [address != "n3@x.y" for address in addresses]
    assert [len(asked(request)) for request in wire.seen] == sizes * 2


def test_a_call_refused_for_one_address_is_asked_again_by_halves(wire: HTTPWire, lists: PostmarkSuppressions) -> None:
    def behaviour(request: Seen) -> Reply:
        if "poison@x.y" in asked(request):
            return Reply.json({"ErrorCode": 300, "Message": "Invalid email request"}, 422)
        return says(lambda address: "Suppressed")(request)

    wire.behaviour = behaviour
    assert lists.push(listed("a@x.y", "poison@x.y", "b@x.y", "c@x.y")) == [True, False, True, True]


@pytest.mark.parametrize("address", ["", "none", "half \ud83d@x.y", "a@x.y\n"])
def test_invalid_address_is_not_asked_about(wire: HTTPWire, lists: PostmarkSuppressions, address: str) -> None:
    assert lists.push(listed(address)) == [False]
    assert lists.remove([address]) == [False]
    assert wire.seen == []


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [(401, 10, False), (422, 1235, False), (422, 402, False), (429, 0, True), (500, 300, True), (503, 100, True)],
)
def test_a_call_that_is_refused_says_whether_to_try_again(
    wire: HTTPWire, lists: PostmarkSuppressions, status: int, code: int, retryable: bool
) -> None:
    wire.behaviour = lambda request: Reply.json({"ErrorCode": code, "Message": "about ada@x.y"}, status)
    for ask in (lambda: lists.pull(None), lambda: lists.push(listed("ada@x.y")), lambda: lists.remove(["ada@x.y"])):
        wire.seen.clear()
        with pytest.raises(ProviderCallError) as error:
            ask()
        assert (error.value.status, error.value.retryable) == (status, retryable)
        assert "ada" not in str(error.value) and "acme-pm" in str(error.value)
        assert len(wire.seen) == 1


def test_a_lost_answer_may_be_asked_for_again(wire: HTTPWire, lists: PostmarkSuppressions) -> None:
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
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["a@x.y", "Suppressed"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Suppressions", "EmailAddress", "Status", *A]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.sampled_from([200, 422]), JSON, st.integers(0, BATCH + 2))
def test_any_answer_is_a_result_for_each_or_an_error(status: int, value: Any, count: int) -> None:
    found = PostmarkSuppressions(Prepared(status, value), "pm", "outbound")  # type: ignore[arg-type]
    with contextlib.suppress(ProviderCallError):
        entries, cursor = found.pull(None)
        assert cursor is None and all("@" in entry.address for entry in entries)
    with contextlib.suppress(ProviderCallError):
        assert len(found.push(listed(*["a@x.y"] * count))) == count
