"""SparkPost's suppression list: what is asked, and what untrusted answers become."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ProviderCallError
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.sparkpost.suppressions import BATCH, REASONS, SparkPostSuppressions
from mailglass.providers.suppression_list import ListedAddress

A = {
    "recipient": "a@example.com",
    "type": "transactional",
    "source": "Bounce Rule",
    "description": "550: no such user",
    "created": "2026-03-04T05:06:07+00:00",
    "updated": "2026-03-05T05:06:07+00:00",
    "transactional": True,
}


@dataclass
class Wire:
    """Stands where the connection is: keeps what was asked and gives prepared answers, the last one for ever."""

    answers: list[HTTPAnswer | Outcome | Callable[[HTTPRequest], HTTPAnswer]] = field(default_factory=list)
    asked: list[HTTPRequest] = field(default_factory=list)

    def exchange(self, request: HTTPRequest, *, deadline: float) -> HTTPAnswer | Outcome:
        self.asked.append(request)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return found(request) if callable(found) else found


def answer(value: object, status: int = 200) -> HTTPAnswer:
    return HTTPAnswer(status, {}, json.dumps(value).encode())


def lists(*answers: Any, subaccount: int | None = None) -> tuple[SparkPostSuppressions, Wire]:
    wire = Wire(list(answers))
    return SparkPostSuppressions(wire, "sp", subaccount), wire  # type: ignore[arg-type]


def page(*items: object, following: str | None = None) -> HTTPAnswer:
    links = [{"href": f"https://elsewhere.example/x?cursor={following}&limit=5", "rel": "next"}] if following else []
    return answer({"results": items, "links": links, "total_count": 3})


def test_pages_follow_one_another_by_their_cursor_and_end() -> None:
    found, wire = lists(page(A, following="WyJh%2BIl0%3D"), page(A), page())
    first, cursor = found.pull(None)
    assert first == [
        ListedAddress("a@example.com", "hard_bounce", datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC), "transactional")
    ]
    assert cursor == "WyJh+Il0="
    assert found.pull(cursor) == (first, None)
    assert [(request.method, request.path) for request in wire.asked] == [
        ("GET", "/api/v1/suppression-list?cursor=initial&limit=1000"),
        ("GET", "/api/v1/suppression-list?cursor=WyJh%2BIl0%3D&limit=1000"),
    ]


def test_a_cursor_that_does_not_move_ends_the_list() -> None:
    found, _ = lists(page(A, following="c1"))
    assert found.pull("c1")[1] is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("Spam Complaint", "complaint"),
        ("List Unsubscribe", "unsubscribe"),
        ("Unsubscribe Link", "unsubscribe"),
        ("Bounce Rule", "hard_bounce"),
        ("Manually Added", "manual"),
        ("Compliance", "provider"),
        ("New", "provider"),
        (None, "provider"),
        (["Compliance"], "provider"),
    ],
)
def test_an_entrys_reason_is_its_source(source: object, reason: str) -> None:
    found, _ = lists(page(A | {"source": source}))
    assert [entry.reason for entry in found.pull(None)[0]] == [reason]


def test_every_source_that_is_mapped_is_tested() -> None:
    assert set(REASONS) == {
        "spam complaint",
        "list unsubscribe",
        "unsubscribe link",
        "bounce rule",
        "manually added",
        "compliance",
    }


def test_an_entry_that_came_from_here_comes_back_with_its_reason() -> None:
    ours = A | {"source": "Manually Added", "description": "suppressed: complaint"}
    unmarked = A | {"source": "Manually Added", "description": "complaint"}
    forged = A | {"source": "Manually Added", "description": "suppressed: nonsense"}
    # only what is added by hand has a description that is somebody's word
    bounced = A | {"description": "suppressed: complaint"}
    found, _ = lists(page(ours, unmarked, forged, bounced))
    assert [entry.reason for entry in found.pull(None)[0]] == ["complaint", "manual", "manual", "hard_bounce"]


@pytest.mark.parametrize(
    ("subaccount", "expected"), [(None, ["m", "s5", "s6"]), (0, ["m"]), (5, ["m", "s5"]), (6, ["m", "s6"])]
)
def test_entries_of_another_subaccount_are_left_out(subaccount: int | None, expected: list[str]) -> None:
    rows = [
        A | {"recipient": "m@x.example"},
        A | {"recipient": "s5@x.example", "subaccount_id": "5"},
        A | {"recipient": "s6@x.example", "subaccount_id": 6},
    ]
    found, _ = lists(page(*rows), subaccount=subaccount)
    assert [entry.address.partition("@")[0] for entry in found.pull(None)[0]] == expected


def test_an_entry_that_cannot_be_read_sinks_no_other() -> None:
    broken = [None, 7, [], {}, A | {"recipient": 7}, A | {"recipient": "none"}]
    odd = [A | {"created": "yesterday"}, A | {"type": ["x"]}, A | {"created": None, "type": "new"}]
    found, _ = lists(page(*broken, A, *odd))
    entries, _ = found.pull(None)
    assert [entry.address for entry in entries] == ["a@example.com"] * 4
    assert [entry.origin for entry in entries] == ["transactional", "transactional", "", ""]


def test_entries_are_added_for_the_kinds_of_mail_they_stand_against() -> None:
    found, wire = lists(answer({"results": {"message": "updated"}}))
    entries = [
        ListedAddress("a@example.com", "hard_bounce"),
        ListedAddress("b@example.com", "unsubscribe"),
        ListedAddress("c@example.com", "unsubscribe", origin="transactional"),
        ListedAddress("d@example.com", "manual", origin="some other list"),
    ]
    assert found.push(entries) == [True] * 4
    (request,) = wire.asked
    assert (request.method, request.path) == ("PUT", "/api/v1/suppression-list/")
    rows = json.loads(request.body)["recipients"]
    assert [(row["recipient"][0], row["type"]) for row in rows] == [
        ("a", "transactional"),
        ("a", "non_transactional"),
        ("b", "non_transactional"),
        ("c", "transactional"),
        ("d", "transactional"),
        ("d", "non_transactional"),
    ]
    assert rows[0]["description"] == "suppressed: hard_bounce"


def test_a_call_carries_a_thousand_addresses_at_most() -> None:
    found, wire = lists(answer({}))
    assert found.push([ListedAddress(f"a{number}@x.example", "manual") for number in range(2 * BATCH + 1)]) == [
        True
    ] * (2 * BATCH + 1)
    assert [len(json.loads(request.body)["recipients"]) for request in wire.asked] == [2000, 2000, 2]
    assert found.push([]) == []


def test_refused_address_sinks_no_other_entry() -> None:
    def judge(request: HTTPRequest) -> HTTPAnswer:
        rows = json.loads(request.body)["recipients"]
        return answer({}, 400 if any("bad" in row["recipient"] for row in rows) else 200)

    found, wire = lists(judge)
    entries = [ListedAddress(f"{'bad' if number == 4 else 'a'}{number}@x.example", "manual") for number in range(9)]
    assert found.push(entries) == [True] * 4 + [False] + [True] * 4
    assert len(wire.asked) < 10


def test_addresses_are_removed_one_by_one_whether_or_not_they_stood_there() -> None:
    found, wire = lists(
        HTTPAnswer(204, {}, b""),
        answer({"errors": [{"message": "Recipient could not be found"}]}, 404),
        answer({"errors": [{"message": "Recipient could not be removed - Compliance"}]}, 403),
        answer({}, 400),
    )
    assert found.remove(["a+b@example.com", "c/d?@example.com", "e@example.com", "none"]) == [True, True, False, False]
    assert [(request.method, request.path) for request in wire.asked[:2]] == [
        ("DELETE", "/api/v1/suppression-list/a%2Bb@example.com"),
        ("DELETE", "/api/v1/suppression-list/c%2Fd%3F@example.com"),
    ]


@pytest.mark.parametrize(
    ("given_", "status", "retryable"),
    [
        (answer({}, 401), 401, False),
        (answer({"errors": [{"message": "Forbidden."}]}, 403), 403, False),
        (answer({}, 429), 429, True),
        (answer({"errors": [{"message": "Compliance"}]}, 500), 500, True),
        (Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost"), None, True),
    ],
)
def test_a_call_that_fails_says_what_was_asked_and_names_no_address(
    given_: HTTPAnswer | Outcome, status: int | None, retryable: bool
) -> None:
    calls: list[Callable[[SparkPostSuppressions], object]] = [
        lambda found: found.pull(None),
        lambda found: found.push([ListedAddress("ada@example.com", "manual")]),
        lambda found: found.remove(["ada@example.com"]),
    ]
    for call in calls:
        with pytest.raises(ProviderCallError, match=r"sp: (list|add|delete) suppressions") as caught:
            call(lists(given_)[0])
        assert (caught.value.status, caught.value.retryable) == (status, retryable)
        assert "ada" not in str(caught.value)


@pytest.mark.parametrize("value", [None, [], {}, {"results": None}, {"results": "none"}])
def test_a_page_that_cannot_be_read_is_an_error_and_no_end(value: object) -> None:
    with pytest.raises(ProviderCallError):
        lists(answer(value))[0].pull(None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
words = st.sampled_from("results links href rel next recipient type source created subaccount_id".split())
pages = st.dictionaries(words, st.lists(st.dictionaries(words, words | json_values), max_size=3) | json_values)


@given(pages)
def test_any_answer_is_a_page_or_a_call_error(value: dict[str, Any]) -> None:
    with contextlib.suppress(ProviderCallError):
        entries, cursor = lists(answer(value))[0].pull("c")
        assert all("@" in entry.address for entry in entries)
        assert cursor is None or (cursor and cursor != "c")
