"""Searching a provider for mails whose answer was lost: exact requests, and only our own id makes a mail ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import telemetry
from mailglass.clock import monotonic
from mailglass.errors import ConfigError
from mailglass.mail.addresses import Address
from mailglass.mail.events import EventKind
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider
from mailglass.providers.brevo import BrevoOptions, BrevoProvider
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.mailgun import MailgunOptions, MailgunProvider
from mailglass.providers.mailjet import MailjetOptions, MailjetProvider
from mailglass.providers.mandrill import MandrillOptions, MandrillProvider
from mailglass.providers.null import NullOptions, NullProvider
from mailglass.providers.postmark import PostmarkOptions, PostmarkProvider
from mailglass.providers.search import UNKNOWN, SearchResult, SearchResultKind, SearchTarget
from mailglass.providers.sendgrid import SendGridOptions, SendGridProvider
from mailglass.providers.sparkpost import SparkPostOptions, SparkPostProvider
from mailglass.settings import Secret

OURS = UUID("01934d2a-0000-7000-8000-000000000001")
OTHER = UUID("01934d2a-0000-7000-8000-000000000002")
ADA = "ada@example.com"
SOUGHT = SearchTarget(OURS, ADA, datetime(2026, 11, 20, 12, 0, tzinfo=UTC), datetime(2026, 11, 20, 12, 30, tzinfo=UTC))
KEY = Secret("key-0815-geheim")


@dataclass
class Wire:
    """Stands where the connection is: keeps what was asked and answers in turn."""

    answers: list[Any]
    asked: list[HTTPRequest] = field(default_factory=list)

    def exchange(self, request: HTTPRequest, *, deadline: float) -> HTTPAnswer | Outcome:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, HTTPAnswer | Outcome):
            return answer
        return HTTPAnswer(200, {}, json.dumps(answer).encode())

    def each(self, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return [work(item) for item in items]

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Room:
    """One provider: how its account is opened, how it words mails that it has, and what a search of it is.

    Attributes:
        tells: the answers of a search, given the mails' ids and recipients.
        message_id: of the mails in those answers, as it is kept.
    """

    open: Callable[[], Any]
    method: str
    path: str
    fields: Mapping[str, Any]
    tells: Callable[[list[tuple[str, str]]], list[Any]]
    message_id: str


ROOMS = {
    "postmark": Room(
        lambda: PostmarkProvider("acme", PostmarkOptions(server_token=KEY, message_stream="receipts")),
        "GET",
        "/messages/outbound",
        {"count": "50", "offset": "0", "messagestream": "receipts", "metadata_mailglass_id": str(OURS)},
        lambda mails: [
            {"Messages": [{"MessageID": "pm-1", "Metadata": {"mailglass_id": ours}, "To": to} for ours, to in mails]}
        ],
        "pm-1",
    ),
    "mailgun": Room(
        lambda: MailgunProvider("acme", MailgunOptions(api_key=KEY, domain="mg.example.com")),
        "GET",
        "/v3/mg.example.com/events",
        {"begin": "1795176000", "end": "1795177800", "ascending": "yes", "limit": "300", "recipient": ADA},
        lambda mails: [
            {
                "items": [
                    {
                        "event": "accepted",
                        "id": "evt",
                        "timestamp": 1795176100.5,
                        "recipient": to,
                        "user-variables": {"mailglass_id": ours},
                        "message": {"headers": {"message-id": "mg-1@mg.example.com"}},
                    }
                    for ours, to in mails
                ]
            }
        ],
        "<mg-1@mg.example.com>",
    ),
    "mailjet": Room(
        lambda: MailjetProvider("acme", MailjetOptions(api_key=KEY, secret_key=KEY)),
        "GET",
        "/v3/REST/message",
        {"CustomID": str(OURS), "ShowCustomID": "true", "ShowContactAlt": "true", "Limit": "100"},
        lambda mails: [{"Data": [{"ID": 77, "CustomID": ours, "ContactAlt": to} for ours, to in mails]}],
        "77",
    ),
    "sparkpost": Room(
        lambda: SparkPostProvider("acme", SparkPostOptions(api_key=KEY)),
        "GET",
        "/api/v1/events/message",
        {
            "events": "injection,delivery,delay,bounce,out_of_band,policy_rejection,generation_failure,"
            "generation_rejection",
            "recipients": ADA,
            "from": "2026-11-20T12:00:00Z",
            "to": "2026-11-20T12:30:00Z",
            "per_page": "10000",
        },
        lambda mails: [
            {
                "results": [
                    {
                        "type": "delivery",
                        "event_id": "1",
                        "timestamp": "2026-11-20T12:01:00.000Z",
                        "transmission_id": "9",
                        "raw_rcpt_to": to,
                        "rcpt_meta": {"mailglass_id": ours},
                    }
                    for ours, to in mails
                ]
            }
        ],
        "9",
    ),
    "mandrill": Room(
        lambda: MandrillProvider("acme", MandrillOptions(api_key=KEY)),
        "POST",
        "/messages/search.json",
        {
            "key": KEY.reveal(),
            "query": f'full_email:"{ADA}"',
            "date_from": "2026-11-19",
            "date_to": "2026-11-21",
            "limit": 1000,
        },
        lambda mails: [
            [{"_id": "md-1", "email": to, "state": "sent", "metadata": {"mailglass_id": ours}} for ours, to in mails]
        ],
        "md-1",
    ),
    "brevo": Room(
        lambda: BrevoProvider("acme", BrevoOptions(api_key=KEY, search=True)),
        "GET",
        "/v3/smtp/emails",
        {
            "email": ADA,
            "startDate": "2026-11-19",
            "endDate": "2026-11-21",
            "sort": "desc",
            "limit": "500",
            "offset": "0",
        },
        lambda mails: [
            {
                "count": len(mails),
                "transactionalEmails": [
                    {"email": to, "messageId": "<b-1@smtp>", "tags": ["news", f"mailglass:{ours}"]}
                    for ours, to in mails
                ],
            }
        ],
        "<b-1@smtp>",
    ),
    "sendgrid": Room(
        lambda: SendGridProvider("acme", SendGridOptions(api_key=KEY, search=True)),
        "GET",
        "/v3/messages",
        {"limit": "3", "query": f"(unique_args['mailglass_id']=\"{OURS}\")"},
        lambda mails: [
            {"messages": [{"msg_id": "sg-1.filter.0"} for _ in mails]},
            *[{"msg_id": "sg-1.filter.0", "unique_args": json.dumps({"mailglass_id": ours})} for ours, _ in mails],
        ],
        "sg-1",
    ),
}
EACH = pytest.mark.parametrize("name", ROOMS)


def find(
    provider: Any, *answers: Any, targets: tuple[SearchTarget, ...] = (SOUGHT,)
) -> tuple[list[SearchResult], Wire]:
    provider.http = wire = Wire(list(answers))
    return provider.find(targets, deadline=monotonic() + 60), wire


@EACH
def test_a_search_asks_one_exact_question(name: str) -> None:
    room = ROOMS[name]
    _, wire = find(room.open(), *room.tells([]))
    (request,) = wire.asked
    parts = urlsplit(request.path)
    assert (request.method, parts.path) == (room.method, room.path)
    assert (json.loads(request.body) if request.body else dict(parse_qsl(parts.query))) == room.fields


@EACH
def test_a_mail_that_carries_our_id_is_found_with_the_providers_own(name: str) -> None:
    room = ROOMS[name]
    ((result,), _) = find(room.open(), *room.tells([(str(OTHER), ADA), (str(OURS), ADA)]))
    assert (result.kind, result.delivery_id) == (SearchResultKind.FOUND, OURS)
    assert result.provider_message_id == (room.message_id if name != "mailjet" else "77")
    assert all(event.delivery_id == OURS for event in result.events)


@EACH
@pytest.mark.parametrize("ours", [str(OTHER), "", str(OURS).replace("-", ""), f"{OURS}0", "null"])
def test_a_mail_that_does_not_carry_our_id_exactly_is_not_ours(name: str, ours: str) -> None:
    room = ROOMS[name]
    ((result,), _) = find(room.open(), *room.tells([(ours, ADA)]))
    # what SendGrid lists without telling whose it is leaves it open
    assert result.kind is (SearchResultKind.UNKNOWN if name == "sendgrid" else SearchResultKind.ABSENT)


@EACH
def test_nothing_found_is_absent_and_proves_nothing_unless_the_account_says_so(name: str) -> None:
    room = ROOMS[name]
    provider = room.open()
    ((result,), _) = find(provider, *room.tells([]))
    assert result.kind is SearchResultKind.ABSENT
    assert provider.absence_proves_after is None


@EACH
@pytest.mark.parametrize(
    "answer",
    [
        HTTPAnswer(401, {}, b"{}"),
        HTTPAnswer(429, {}, b"slow down"),
        HTTPAnswer(503, {}, b""),
        HTTPAnswer(200, {}, b"Mailgun Magnificent API"),
        HTTPAnswer(200, {}, b'"ada@example.com"'),
        HTTPAnswer(200, {}, b"{}"),
        HTTPAnswer(200, {}, b"null"),
        HTTPAnswer(302, {}, b""),
        Outcome(OutcomeClass.TRANSIENT, reason="connect_failed"),
        Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost"),
    ],
)
def test_a_search_that_goes_wrong_leaves_it_open_and_says_so_without_address(name: str, answer: Any) -> None:
    said: list[tuple[str, Mapping[str, Any]]] = []
    end = telemetry.subscribe(lambda event, fields: said.append((event, fields)))
    try:
        results, _ = find(ROOMS[name].open(), answer)
    finally:
        end()
    assert results == [UNKNOWN]
    ((event, fields),) = said
    assert event == "mailglass.search.failed"
    assert fields["account"] == "acme"
    assert ADA not in str(said) and KEY.reveal() not in str(said) and str(OURS) not in str(said)


@EACH
def test_after_a_question_that_goes_wrong_only_those_beside_it_are_asked(name: str) -> None:
    many = tuple(replace(SOUGHT, delivery_id=UUID(int=number + 1)) for number in range(200))
    results, wire = find(ROOMS[name].open(), *[HTTPAnswer(429, {}, b"")] * 4, targets=many)
    assert (results, len(wire.asked)) == ([UNKNOWN] * 200, 4)


@EACH
def test_search_beyond_its_time_is_open(name: str) -> None:
    provider = ROOMS[name].open()
    provider.http = wire = Wire([])
    assert provider.find([SOUGHT], deadline=monotonic()) == [UNKNOWN]
    assert wire.asked == []


@EACH
def test_several_deliveries_are_found_each_by_its_own_id(name: str) -> None:
    room = ROOMS[name]
    second = replace(SOUGHT, delivery_id=OTHER, recipient="bob@example.com")
    both = [(str(OTHER), "bob@example.com"), (str(OURS), ADA)]
    at_once = room.open().targets_per_search > 1
    answers = room.tells(both) if at_once else [answer for mail in reversed(both) for answer in room.tells([mail])]
    results, wire = find(room.open(), *answers, targets=(SOUGHT, second))
    assert [result.delivery_id for result in results] == [OURS, OTHER]
    assert at_once is (len(wire.asked) == 1)


@EACH
@given(
    answer=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "Messages",
                        "items",
                        "Data",
                        "results",
                        "transactionalEmails",
                        "messages",
                        "Metadata",
                        "CustomID",
                        "tags",
                        "msg_id",
                        "rcpt_meta",
                        "user-variables",
                        "metadata",
                        "email",
                        "state",
                        "count",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_answer_makes_a_search_fail_or_find_what_is_not_ours(name: str, answer: Any) -> None:
    results, _ = find(ROOMS[name].open(), *[answer] * 5)
    assert results[0].kind in (SearchResultKind.UNKNOWN, SearchResultKind.ABSENT)


@pytest.mark.parametrize(
    ("name", "page"),
    [("postmark", 50), ("mailgun", 300), ("mailjet", 100), ("brevo", 500), ("mandrill", 1000), ("sparkpost", 10_000)],
)
def test_a_full_page_without_ours_is_open(name: str, page: int) -> None:
    room = ROOMS[name]
    ((result,), _) = find(room.open(), *room.tells([(str(OTHER), ADA)] * page))
    assert result is UNKNOWN


def test_events_that_a_search_tells_are_those_that_webhooks_bring() -> None:
    provider = ROOMS["mailgun"].open()
    (answer,) = ROOMS["mailgun"].tells([(str(OURS), ADA)])
    ((result,), _) = find(provider, answer)
    (event,) = result.events
    body = json.dumps({"signature": {}, "event-data": answer["items"][0]}).encode()
    assert provider.normalise(body, {}) == [event]
    ((result,), _) = find(ROOMS["sparkpost"].open(), *ROOMS["sparkpost"].tells([(str(OURS), ADA)]))
    assert [event.kind for event in result.events] == [EventKind.DELIVERED]


def test_of_a_message_with_copies_mailjet_tells_the_recipients_own_id() -> None:
    copies = [{"ID": 1, "CustomID": str(OURS), "ContactAlt": "boss@example.com"}]
    own = {"ID": 2, "CustomID": str(OURS), "ContactAlt": "Ada@Example.com"}
    ((result,), _) = find(ROOMS["mailjet"].open(), {"Data": [*copies, own]})
    assert result.provider_message_id == "2"
    ((result,), _) = find(ROOMS["mailjet"].open(), {"Data": [*copies, {"ID": 3, "CustomID": str(OURS)}]})
    assert (result.kind, result.provider_message_id) == (SearchResultKind.FOUND, None)


def test_an_answer_that_cannot_be_read_leaves_what_the_others_found(monkeypatch: pytest.MonkeyPatch) -> None:
    room = ROOMS["postmark"]
    provider = room.open()
    search, second = provider.search, replace(SOUGHT, delivery_id=OTHER)

    def stumbling(targets: Sequence[SearchTarget], *, deadline: float) -> Any:
        if targets[0].delivery_id == OTHER:
            raise TypeError(ADA)
        return search(targets, deadline=deadline)

    monkeypatch.setattr(provider, "search", stumbling)
    said: list[str] = []
    end = telemetry.subscribe(lambda event, fields: said.append(f"{event} {fields}"))
    try:
        results, _ = find(provider, *room.tells([(str(OURS), ADA)]), targets=(SOUGHT, second))
    finally:
        end()
    assert [result.kind for result in results] == [SearchResultKind.FOUND, SearchResultKind.UNKNOWN]
    assert len(said) == 1 and ADA not in said[0]


@pytest.mark.parametrize("state", [["sent"], {}, None, 1])
def test_a_state_that_mandrill_does_not_have_makes_no_search_fail(state: Any) -> None:
    message = {"_id": "1", "email": ADA, "state": state, "metadata": {"mailglass_id": str(OURS)}}
    assert find(ROOMS["mandrill"].open(), [message])[0][0].kind is SearchResultKind.FOUND


@pytest.mark.parametrize("state", ["rejected", "invalid", "unsigned", "rule"])
def test_a_mail_that_mandrill_refused_was_not_taken(state: str) -> None:
    message = {"_id": "1", "email": ADA, "state": state, "metadata": {"mailglass_id": str(OURS)}}
    assert find(ROOMS["mandrill"].open(), [message])[0] == [UNKNOWN]


def test_a_copy_at_mandrill_is_not_the_recipients_mail() -> None:
    message = {"_id": "1", "email": "boss@example.com", "state": "sent", "metadata": {"mailglass_id": str(OURS)}}
    ((result,), _) = find(ROOMS["mandrill"].open(), [message])
    assert result.kind is not SearchResultKind.FOUND


def test_an_address_cannot_widen_mandrills_query() -> None:
    odd = replace(SOUGHT, recipient='"a\\" OR *"@example.com')
    _, wire = find(ROOMS["mandrill"].open(), [], targets=(odd,))
    assert json.loads(wire.asked[0].body)["query"] == 'full_email:"\\"a\\\\\\" or *\\"@example.com"'


def test_brevo_tags_each_mail_only_where_it_is_to_be_searched() -> None:
    mail = Outgoing(
        OURS,
        "acme",
        "transactional",
        Address(ADA),
        Address("s@example.org"),
        "S",
        SOUGHT.sent_after,
        text="x",
        tags=("news",),
    )
    assert json.loads(ROOMS["brevo"].open().encode(mail))["tags"] == ["news", f"mailglass:{OURS}"]
    plain = BrevoProvider("acme", BrevoOptions(api_key=KEY))
    assert json.loads(plain.encode(mail))["tags"] == ["news"]
    assert not plain.searchable


def test_search_that_costs_or_changes_the_mail_is_made_on_request_only() -> None:
    assert not SendGridProvider("acme", SendGridOptions(api_key=KEY)).searchable
    assert not PostmarkProvider("acme", PostmarkOptions(server_token=KEY, search=False)).searchable
    assert PostmarkProvider("acme", PostmarkOptions(server_token=KEY)).searchable


def test_a_provider_without_a_search_leaves_everything_open() -> None:
    provider: Provider = NullProvider("nowhere", NullOptions())
    assert not provider.searchable
    assert provider.find([SOUGHT, SOUGHT], deadline=0.0) == [UNKNOWN, UNKNOWN]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"search_lag": -1.0}, "search_lag"),
        ({"search_lag": float("inf")}, "search_lag"),
        ({"search_complete_after": 10.0}, "search_complete_after"),
        ({"search_complete_after": float("nan")}, "search_complete_after"),
    ],
)
def test_durations_that_contradict_each_other_are_refused(options: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        PostmarkOptions(server_token=KEY, **options)  # type: ignore[arg-type]
    assert error.value.key == key


def test_search_target_shows_no_address() -> None:
    assert ADA not in repr(SOUGHT)
