"""How mails become requests: bundles, refusals asked again one by one, waits. No room does it otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailglass.clock import monotonic
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.http import HTTPAnswer, HTTPOptions, HTTPRequest, refusal, retry_after
from mailglass.providers.http_provider import HTTPProvider, Unsendable


def mail(subject: str = "S") -> Outgoing:
    return Outgoing(
        uuid4(),
        "t",
        "transactional",
        Address("ada@example.com"),
        Address("s@example.org"),
        subject,
        datetime(2026, 1, 1, tzinfo=UTC),
        text="x",
    )


@dataclass
class Wire:
    """Stands where the connection is: keeps what was asked and answers by the subjects."""

    asked: list[list[bytes]] = field(default_factory=list)

    def each(self, work, items):  # type: ignore[no-untyped-def]
        return [work(item) for item in items]

    def exchange(self, request: HTTPRequest, *, deadline: float) -> HTTPAnswer | Outcome:
        parts = request.body.split(b"|")
        self.asked.append(parts)
        if b"lost" in parts:
            return Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
        if b"poison" in parts:
            return HTTPAnswer(422, {}, b"")
        return HTTPAnswer(200, {}, request.body)

    def close(self) -> None:
        pass


class Room(HTTPProvider):
    name = "room"
    Options = HTTPOptions
    mails_per_request = 3
    max_request = 30

    def credentials(self) -> Mapping[str, str]:
        return {}

    def encode(self, mail: Outgoing) -> bytes:
        if mail.subject == "unsendable":
            raise Unsendable("unsupported_thing")
        if mail.subject == "fault":
            raise RuntimeError
        return mail.subject.encode()

    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        return HTTPRequest("/", b"|".join(parts))

    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        if b"unreadable" in answer.body:
            raise KeyError
        outcome = Outcome(OutcomeClass.ACCEPTED) if answer.ok else refusal(answer, self.name)
        return [outcome] * len(mails)


def sent(*subjects: str) -> tuple[list[OutcomeClass], list[list[bytes]]]:
    room = Room("r", HTTPOptions(base_url="https://example.com"))
    room.http = wire = Wire()  # type: ignore[assignment]
    outcomes = room.send([mail(subject) for subject in subjects], deadline=monotonic() + 60)
    return [outcome.kind for outcome in outcomes], wire.asked


A, R, U, T = OutcomeClass.ACCEPTED, OutcomeClass.REJECTED, OutcomeClass.UNCERTAIN, OutcomeClass.TRANSIENT


def test_mails_are_bundled_by_count_and_by_size() -> None:
    assert sent("a", "b", "c", "d") == ([A] * 4, [[b"a", b"b", b"c"], [b"d"]])
    long = "x" * 20
    assert sent(long, long, "y") == ([A] * 3, [[long.encode()], [long.encode(), b"y"]])


def test_a_mail_larger_than_a_request_may_be_goes_alone() -> None:
    huge = "x" * 50
    assert sent("a", huge, "b")[1] == [[b"a"], [huge.encode()], [b"b"]]


def test_a_request_refused_for_one_mail_is_asked_again_mail_by_mail() -> None:
    kinds, asked = sent("a", "poison", "b", "c")
    assert kinds == [A, R, A, A]
    assert asked == [[b"a", b"poison", b"b"], [b"c"], [b"a"], [b"poison"], [b"b"]]


def test_a_lost_answer_is_never_asked_again() -> None:
    kinds, asked = sent("a", "lost", "b")
    assert (kinds, len(asked)) == ([U] * 3, 1)


def test_a_mail_that_cannot_be_said_or_encoded_leaves_the_others_alone() -> None:
    kinds, asked = sent("a", "unsendable", "fault", "b")
    assert (kinds, asked) == ([A, R, T, A], [[b"a", b"b"]])


def test_an_answer_that_cannot_be_read_is_uncertain() -> None:
    assert sent("unreadable", "a")[0] == [U, U]


@example(["a", "a", "lost", "a", "a", "lost", "a", "a", "lost", "a"])
@example(["lost"] * 12)
@given(st.lists(st.sampled_from(["a", "bb", "poison", "lost", "unsendable", "fault", "x" * 40]), max_size=12))
def test_every_mail_has_one_outcome_in_its_place(subjects: list[str]) -> None:
    kinds, _ = sent(*subjects)
    assert len(kinds) == len(subjects)
    # after three requests without an answer the rest is not begun, and so certainly not sent
    unasked = {T} if subjects.count("lost") >= 3 else set()
    for subject, kind in zip(subjects, kinds, strict=True):
        if subject in ("a", "bb"):
            # its neighbours' fate may be shared only where the answer was lost
            assert kind in {A, U} | unasked
        else:
            assert kind in {{"unsendable": R, "fault": T, "lost": U}.get(subject, kind)} | unasked


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e9"}, 86400.0),
        ({"retry-after": "inf"}, None),
        ({"ratelimit-reset": "9"}, 9.0),
        ({"retry-after": "3", "ratelimit-reset": "9"}, 3.0),
        ({"ratelimit-reset": "x"}, None),
    ],
)
def test_the_wait_a_provider_asks_for_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, ("ratelimit-reset", "seconds")) == seconds


def test_a_wait_may_be_given_as_a_date() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=40)
    found = retry_after({"retry-after": format_datetime(moment, usegmt=True)})
    assert found is not None and 35 < found <= 40
    assert retry_after({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}) == 0.0


@given(st.text(max_size=40))
def test_any_retry_after_header_is_a_wait_or_none(value: str) -> None:
    found = retry_after({"retry-after": value}, ("retry-after", "epoch"))
    assert found is None or 0 <= found <= 86400
