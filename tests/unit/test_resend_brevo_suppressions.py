"""The suppression lists of Resend and Brevo: what is asked, what an answer means, and when the call itself failed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ProviderCallError
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers.brevo.suppressions import REASONS as BREVO_REASONS
from mailglass.providers.brevo.suppressions import BrevoSuppressions
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.resend.suppressions import REASONS as RESEND_REASONS
from mailglass.providers.resend.suppressions import ResendSuppressions
from mailglass.providers.suppression_list import ListedAddress

SENDERS = ("shop@example.org",)


@dataclass
class Wire:
    """Stands where the connection is: keeps what was asked and gives one answer after the other, the last for ever."""

    answers: list[HTTPAnswer | Outcome]
    asked: list[HTTPRequest] = field(default_factory=list)

    def exchange(self, request: HTTPRequest, *, deadline: float) -> HTTPAnswer | Outcome:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def answer(status: int, body: object = None) -> HTTPAnswer:
    return HTTPAnswer(status, {}, b"" if body is None else json.dumps(body).encode())


def resend(*answers: HTTPAnswer | Outcome) -> tuple[ResendSuppressions, Wire]:
    wire = Wire(list(answers))
    return ResendSuppressions(wire, "acme-re"), wire  # type: ignore[arg-type]


def brevo(*answers: HTTPAnswer | Outcome) -> tuple[BrevoSuppressions, Wire]:
    wire = Wire(list(answers))
    return BrevoSuppressions(wire, "acme-br", SENDERS), wire  # type: ignore[arg-type]


def entries(*addresses: str) -> list[ListedAddress]:
    return [ListedAddress(address, "manual") for address in addresses]


def suppression(number: int, origin: object = "bounce", **more: Any) -> dict[str, Any]:
    return {
        "object": "suppression",
        "id": f"s-{number}",
        "email": f"p{number}@example.com",
        "origin": origin,
        "created_at": "2026-10-06T23:47:56.678Z",
        **more,
    }


def test_a_page_of_resends_list_is_read_and_its_last_id_leads_on() -> None:
    items = [suppression(1), suppression(2, "complaint"), suppression(3, "manual"), suppression(4, "new")]
    page = {"object": "list", "has_more": True, "data": items}
    listed, wire = resend(answer(200, page))
    found, cursor = listed.pull(None)
    moment = datetime(2026, 10, 6, 23, 47, 56, 678000, UTC)
    assert found == [
        ListedAddress("p1@example.com", "hard_bounce", moment, "bounce"),
        ListedAddress("p2@example.com", "complaint", moment, "complaint"),
        ListedAddress("p3@example.com", "manual", moment, "manual"),
        ListedAddress("p4@example.com", "provider", moment, "new"),
    ]
    assert cursor == "s-4"
    listed.pull("s 4&x=1")
    assert [(request.method, request.path) for request in wire.asked] == [
        ("GET", "/suppressions?limit=100"),
        ("GET", "/suppressions?limit=100&after=s+4%26x%3D1"),
    ]


def test_every_reason_of_resend_is_one_of_ours() -> None:
    assert set(RESEND_REASONS.values()) | set(BREVO_REASONS.values()) <= {
        "hard_bounce",
        "complaint",
        "unsubscribe",
        "manual",
        "provider",
    }


@pytest.mark.parametrize("has_more", [False, None, "true", 1])
def test_resends_last_page_leads_nowhere(has_more: object) -> None:
    assert resend(answer(200, {"data": [suppression(1)], "has_more": has_more}))[0].pull("s-0")[1] is None


def test_a_page_that_leads_to_itself_ends_the_list() -> None:
    assert resend(answer(200, {"data": [suppression(1)], "has_more": True}))[0].pull("s-1")[1] is None


def test_an_entry_without_an_address_is_left_out() -> None:
    page = {"data": [7, {}, suppression(1, email=None), suppression(2, created_at=7, origin=None)], "has_more": False}
    assert resend(answer(200, page))[0].pull(None) == ([ListedAddress("p2@example.com", "provider")], None)


def test_resend_takes_a_hundred_addresses_in_a_call() -> None:
    many = [f"p{number}@example.com" for number in range(250)]
    listed, wire = resend(answer(201, {"data": []}))
    assert listed.push(entries(*many)) == [True] * 250
    assert listed.remove(many[:3]) == [True] * 3
    assert [request.path for request in wire.asked] == ["/suppressions/batch/add"] * 3 + ["/suppressions/batch/remove"]
    assert [len(json.loads(request.body)["emails"]) for request in wire.asked] == [100, 100, 50, 3]


def test_of_a_call_that_resend_refuses_each_address_is_asked_about_alone() -> None:
    listed, wire = resend(answer(422), answer(201), answer(422), answer(200))
    assert listed.push(entries("a@example.com", "b@example.com", "c@example.com")) == [True, False, True]
    assert [request.path for request in wire.asked[1:]] == ["/suppressions"] * 3
    listed, wire = resend(answer(422), answer(200), answer(404), answer(400))
    assert listed.remove(["a@example.com", "b/c@example.com", "d@example.com"]) == [True, True, False]
    assert [(request.method, request.path) for request in wire.asked[1:3]] == [
        ("DELETE", "/suppressions/a@example.com"),
        ("DELETE", "/suppressions/b%2Fc@example.com"),
    ]


def blocked(number: int, code: object = "hardBounce", **more: Any) -> dict[str, Any]:
    reason = {"code": code, "message": "said by Brevo"}
    return {"email": f"p{number}@example.com", "reason": reason, "blockedAt": "2017-05-01T12:30:00Z", **more}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("hardBounce", "hard_bounce"),
        ("contactFlaggedAsSpam", "complaint"),
        ("unsubscribedViaMA", "unsubscribe"),
        ("unsubscribedViaEmail", "unsubscribe"),
        ("unsubscribedViaApi", "unsubscribe"),
        ("adminBlocked", "manual"),
        ("new", "provider"),
        (None, "provider"),
    ],
)
def test_a_blocked_contacts_reason_is_read(code: str | None, reason: str) -> None:
    (found,), cursor = brevo(answer(200, {"count": 1, "contacts": [blocked(1, code)]}))[0].pull(None)
    assert found == ListedAddress("p1@example.com", reason, datetime(2017, 5, 1, 12, 30, tzinfo=UTC), code or "")
    assert cursor is None


def test_brevos_list_is_read_from_the_oldest_entry_on_by_counting() -> None:
    page = {"contacts": [blocked(number) for number in range(100)]}
    listed, wire = brevo(answer(200, page), answer(200, {"count": 100}))
    assert listed.pull(None)[1] == "100"
    assert listed.pull("100") == ([], None)
    assert [request.path for request in wire.asked] == [
        f"/v3/smtp/blockedContacts?limit=100&offset={offset}&sort=asc" for offset in (0, 100)
    ]


def test_a_push_to_brevo_forbids_the_accounts_senders() -> None:
    listed, wire = brevo(answer(201), answer(204), answer(400))
    assert listed.push(entries("a@example.com", "b@example.com", "c")) == [True, True, False]
    assert json.loads(wire.asked[0].body) == {
        "email": "a@example.com",
        "smtpBlacklistSender": ["shop@example.org"],
        "updateEnabled": True,
    }
    assert wire.asked[0].path == "/v3/contacts"


def test_unblocked_address_counts_as_removed() -> None:
    listed, wire = brevo(answer(204), answer(404), answer(400))
    assert listed.remove(["a+b@example.com", "c@example.com", "d"]) == [True, True, False]
    assert (wire.asked[0].method, wire.asked[0].path) == ("DELETE", "/v3/smtp/blockedContacts/a%2Bb%40example.com")


@pytest.mark.parametrize("make", [resend, brevo])
@pytest.mark.parametrize(
    ("status", "retryable"), [(401, False), (403, False), (302, False), (429, True), (500, True), (503, True)]
)
def test_a_failed_call_says_whether_to_try_again_and_names_nobody(make: Any, status: int, retryable: bool) -> None:
    listed, _ = make(answer(status, {"message": "ada@example.com"}))
    one = entries("ada@example.com")
    for ask in (lambda: listed.pull(None), lambda: listed.push(one), lambda: listed.remove(["ada@example.com"])):
        with pytest.raises(ProviderCallError) as caught:
            ask()
        assert (caught.value.status, caught.value.retryable) == (status, retryable)
        assert "ada" not in str(caught.value) and "acme-" in str(caught.value)


@pytest.mark.parametrize("make", [resend, brevo])
def test_no_answer_is_worth_another_try(make: Any) -> None:
    listed, _ = make(Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost"))
    with pytest.raises(ProviderCallError) as caught:
        listed.pull(None)
    assert caught.value.retryable and caught.value.status is None


@pytest.mark.parametrize("make", [resend, brevo])
@pytest.mark.parametrize("body", [[], 7, "x", {"data": 7, "contacts": 7}])
def test_a_page_that_is_none_fails_the_call(make: Any, body: object) -> None:
    with pytest.raises(ProviderCallError):
        make(answer(200, body))[0].pull(None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from("email origin created_at id reason blockedAt".split())
pages = st.lists(json_values | st.dictionaries(names, json_values), max_size=5)


@given(pages)
def test_any_page_is_entries_with_addresses(items: list[Any]) -> None:
    for make in (resend, brevo):
        found, _ = make(answer(200, {"data": items, "contacts": items, "has_more": True}))[0].pull(None)
        assert all("@" in entry.address and "@" not in repr(entry).split("origin")[0] for entry in found)
