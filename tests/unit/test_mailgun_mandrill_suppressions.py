"""Suppression lists of Mailgun and Mandrill: what is asked, and what untrusted answers become."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ProviderCallError
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.mailgun.suppressions import MailgunSuppressions
from mailglass.providers.mandrill import MandrillOptions
from mailglass.providers.mandrill.suppressions import MandrillSuppressions
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import Secret


@dataclass
class Wire:
    """Stands where the connection is: keeps what was asked and gives prepared answers, the last one for ever."""

    answers: list[HTTPAnswer | Outcome] = field(default_factory=list)
    asked: list[HTTPRequest] = field(default_factory=list)

    def exchange(self, request: HTTPRequest, *, deadline: float) -> HTTPAnswer | Outcome:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def answer(value: object, status: int = 200) -> HTTPAnswer:
    return HTTPAnswer(status, {}, json.dumps(value).encode())


def mailgun(*answers: HTTPAnswer | Outcome) -> tuple[MailgunSuppressions, Wire]:
    wire = Wire(list(answers))
    return MailgunSuppressions(wire, "mg", "mg.example.org"), wire  # type: ignore[arg-type]


def mandrill(*answers: HTTPAnswer | Outcome, **more: Any) -> tuple[MandrillSuppressions, Wire]:
    wire = Wire(list(answers))
    return MandrillSuppressions(wire, "md", MandrillOptions(api_key=Secret("k"), **more)), wire  # type: ignore[arg-type]


def page(*items: object, query: str = "page=next&address=z%40x.y&limit=1000") -> HTTPAnswer:
    paging = {"next": f"https://api.mailgun.net/v3/mg.example.org/bounces?{query}"}
    return answer({"items": items, "paging": paging})


A = {"address": "a@example.com", "code": "550", "created_at": "Wed, 04 Mar 2026 05:06:07 UTC"}


def test_mailgun_is_asked_for_a_thousand_and_then_for_what_follows() -> None:
    lists, wire = mailgun(page(A), page())
    entries, cursor = lists.pull(None)
    moment = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert entries == [ListedAddress("a@example.com", "hard_bounce", moment, "bounces")]
    assert lists.pull(cursor) == ([], "unsubscribes")
    assert [(request.method, request.path) for request in wire.asked] == [
        ("GET", "/v3/mg.example.org/bounces?limit=1000"),
        ("GET", "/v3/mg.example.org/bounces?page=next&address=z%40x.y&limit=1000"),
    ]


def test_the_lists_follow_one_another_and_end() -> None:
    lists, wire = mailgun(page())
    cursor: str | None = None
    cursors = []
    for _ in range(3):
        _, cursor = lists.pull(cursor)
        cursors.append(cursor)
    assert cursors == ["unsubscribes", "complaints", None]
    assert [request.path.rpartition("/")[2] for request in wire.asked] == [
        "bounces?limit=1000",
        "unsubscribes?limit=1000",
        "complaints?limit=1000",
    ]


@pytest.mark.parametrize("cursor", ["", "?x", "elsewhere", "../other?limit=1", "messages?x=1"])
def test_a_cursor_that_is_none_of_ours_begins_at_the_beginning(cursor: str) -> None:
    lists, wire = mailgun(page())
    lists.pull(cursor)
    assert wire.asked[0].path == "/v3/mg.example.org/bounces?limit=1000"


def test_a_next_page_elsewhere_is_asked_for_at_home() -> None:
    lists, wire = mailgun(answer({"items": [A], "paging": {"next": "https://evil.example/steal?page=2"}}))
    _, cursor = lists.pull(None)
    lists.pull(cursor)
    assert wire.asked[1].path == "/v3/mg.example.org/bounces?page=2"


@pytest.mark.parametrize("following", ["https://x/?limit=1000", "https://[::/?a=1", "", "x y", None, 5, "https://x/?ü"])
def test_a_page_that_leads_nowhere_ends_its_list(following: object) -> None:
    lists, _ = mailgun(answer({"items": [A], "paging": {"next": following}}))
    assert lists.pull(None)[1] == "unsubscribes"


def test_unsubscription_from_single_tags_suppresses_no_one() -> None:
    items = [
        {"address": "all@x.y", "tags": ["*"]},
        {"address": "some@x.y", "tags": ["news"]},
        {"address": "none@x.y"},
        {"address": "both@x.y", "tags": ["news", "*"]},
    ]
    lists, _ = mailgun(answer({"items": items}))
    entries, _ = lists.pull("unsubscribes")
    assert [entry.address for entry in entries] == ["all@x.y", "none@x.y", "both@x.y"]
    assert {entry.reason for entry in entries} == {"unsubscribe"}


def test_entry_pushed_to_mailgun_says_why_and_since_when() -> None:
    lists, wire = mailgun(answer({"message": "added"}))
    moment = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    entries = [
        ListedAddress("u@x.y", "unsubscribe", moment),
        ListedAddress("h@x.y", "hard_bounce"),
        ListedAddress("o@x.y", "manual", origin="complaints"),
    ]
    assert lists.push(entries) == [True, True, True]
    assert [(request.path.rpartition("/")[2], json.loads(request.body)) for request in wire.asked] == [
        ("bounces", [{"address": "h@x.y", "code": "550", "error": "suppressed: hard_bounce"}]),
        ("unsubscribes", [{"address": "u@x.y", "tags": ["*"], "created_at": "Wed, 04 Mar 2026 05:06:07 GMT"}]),
        ("complaints", [{"address": "o@x.y"}]),
    ]


@pytest.mark.parametrize("text", ["suppressed: everything", "suppressed: complaint", "550 no such user", "", None, 5])
def test_a_bounce_with_another_text_is_a_hard_bounce(text: object) -> None:
    lists, _ = mailgun(answer({"items": [A | {"error": text}]}))
    assert [entry.reason for entry in lists.pull(None)[0]] == ["hard_bounce"]


@pytest.mark.parametrize("text", ["suppressed: everything", "complaint", "", None, 5])
def test_an_entry_that_somebody_made_at_mandrill_is_manual(text: object) -> None:
    lists, _ = mandrill(answer([{"email": "a@x.y", "reason": "custom", "detail": text}]))
    assert [entry.reason for entry in lists.pull(None)[0]] == ["manual"]


def test_an_address_is_quoted_into_the_path() -> None:
    lists, wire = mailgun(answer({}, 404))
    assert lists.remove(["a/../b?c#d@x.y"]) == [True]
    assert [request.path for request in wire.asked] == [
        f"/v3/mg.example.org/{name}/a%2F..%2Fb%3Fc%23d@x.y" for name in ("bounces", "unsubscribes", "complaints")
    ]


def test_an_address_that_mailgun_takes_for_none_is_not_called_removed() -> None:
    lists, _ = mailgun(answer({}, 400))
    assert lists.remove(["none", "also none"]) == [False, False]


def test_mandrill_is_asked_for_the_subaccount_that_is_configured() -> None:
    lists, wire = mandrill(answer([]), subaccount="brand")
    assert lists.pull(None) == ([], None)
    assert wire.asked[0].path == "/rejects/list.json"
    assert json.loads(wire.asked[0].body) == {"key": "k", "include_expired": False, "subaccount": "brand"}


def test_mandrills_reasons_become_ours_and_what_passes_is_left_out() -> None:
    reasons = ["hard-bounce", "soft-bounce", "spam", "unsub", "custom", "something-new", 7]
    items = [
        {"email": f"a{number}@x.y", "reason": reason, "created_at": "2026-03-04 05:06:07.12", "expired": False}
        for number, reason in enumerate(reasons)
    ]
    lists, _ = mandrill(answer([*items, {"email": "gone@x.y", "reason": "spam", "expired": True}]))
    entries, _ = lists.pull(None)
    assert [(entry.address, entry.reason) for entry in entries] == [
        ("a0@x.y", "hard_bounce"),
        ("a2@x.y", "complaint"),
        ("a3@x.y", "unsubscribe"),
        ("a4@x.y", "manual"),
        ("a5@x.y", "provider"),
        ("a6@x.y", "provider"),
    ]
    assert {entry.created_at for entry in entries} == {datetime(2026, 3, 4, 5, 6, 7, 120000, UTC)}


Calls = Sequence[tuple[str, Any]]
CALLS: Calls = [
    ("pull", None),
    ("push", [ListedAddress("ada@example.com", "manual")]),
    ("remove", ["ada@example.com"]),
]


@pytest.mark.parametrize("build", [mailgun, mandrill])
@pytest.mark.parametrize(("method", "argument"), CALLS)
@pytest.mark.parametrize(
    ("found", "status", "retryable"),
    [
        (answer({"message": "no"}, 401), 401, False),
        (answer({"message": "no"}, 403), 403, False),
        (answer({"name": "Something_New"}, 500), 500, True),
        (answer({}, 429), 429, True),
        (HTTPAnswer(502, {}, b"<html>"), 502, True),
        (Outcome(OutcomeClass.TRANSIENT, reason="connect_failed"), None, True),
        (Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost"), None, True),
    ],
)
def test_a_call_that_fails_says_so_without_naming_anybody(
    build: Any, method: str, argument: Any, found: Any, status: int | None, retryable: bool
) -> None:
    lists, _ = build(found)
    with pytest.raises(ProviderCallError) as caught:
        getattr(lists, method)(argument)
    assert (caught.value.status, caught.value.retryable) == (status, retryable)
    assert "ada" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "retryable"),
    [("Invalid_Key", False), ("PaymentRequired", False), ("Unknown_Subaccount", False), ("GeneralError", True)],
)
def test_mandrills_name_for_an_error_goes_before_the_status(name: str, retryable: bool) -> None:
    lists, _ = mandrill(answer({"status": "error", "name": name}, 500))
    with pytest.raises(ProviderCallError) as caught:
        lists.push([ListedAddress("ada@example.com", "manual")])
    assert caught.value.retryable is retryable


@pytest.mark.parametrize("value", [{}, {"items": None}, {"items": 7}, 7, None, "x"])
def test_an_answer_without_a_list_is_not_taken_for_an_empty_one(value: object) -> None:
    for build in (mailgun, mandrill):
        lists, _ = build(answer(value))
        with pytest.raises(ProviderCallError):
            lists.pull(None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
fields = st.sampled_from("items paging next address email reason tags created_at expired".split())
objects = st.recursive(
    json_values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=4), max_leaves=12
)


@given(objects)
def test_any_page_is_read_or_refused(value: Any) -> None:
    for build in (mailgun, mandrill):
        lists, _ = build(answer(value))
        with contextlib.suppress(ProviderCallError):
            entries, _ = lists.pull(None)
            assert all("@" in entry.address for entry in entries)
