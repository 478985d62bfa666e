"""What the HTTP rooms share: interrupted calls, mails that cannot go together, mails that have expired."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from mailglass.clock import monotonic
from mailglass.ids import uuid7
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import EXPIRED, Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.http import HTTPAnswer, HTTPOptions, HTTPRequest
from mailglass.providers.http_provider import HTTPProvider
from mailglass.providers.sparkpost import SparkPostOptions, SparkPostProvider
from mailglass.settings import Secret


class Interrupted:
    """Answers the first request, and is interrupted while the others are waited for."""

    def each(self, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        work(items[0])
        raise SoftTimeLimitExceeded

    def exchange(self, request: object, *, deadline: float) -> HTTPAnswer:
        body = (
            b'{"results": {"total_accepted_recipients": 1, "total_rejected_recipients": 0, "id": "11668787484950529"}}'
        )
        return HTTPAnswer(200, {}, body)


class Answering:
    """Answers each request that it accepted a mail, and counts them."""

    def __init__(self) -> None:
        self.requests = 0

    def each(self, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return [work(item) for item in items]

    def exchange(self, request: object, *, deadline: float) -> HTTPAnswer:
        self.requests += 1
        return HTTPAnswer(200, {}, b"{}")


class Bundling(HTTPProvider):
    """Carries five mails in a request, and has no request for some of them."""

    name = "bundling"
    Options = HTTPOptions
    mails_per_request = 5
    refused: ClassVar[set[str]] = {"poison"}

    def credentials(self) -> Mapping[str, str]:
        return {}

    def encode(self, mail: Outgoing) -> bytes:
        return mail.subject.encode()

    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        if any(mail.subject in self.refused for mail in mails):
            raise RecursionError
        return HTTPRequest("/send")

    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        return [Outcome(OutcomeClass.ACCEPTED)] * len(mails)


def outgoing(subject: str = "Your order", **fields: Any) -> Outgoing:
    return Outgoing(
        delivery_id=uuid7(),
        tenant="acme",
        stream="transactional",
        recipient=Address("ada@example.com"),
        sender=Address("shop@example.org"),
        subject=subject,
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        text="Thank you.",
        **fields,
    )


def bundling(monkeypatch: pytest.MonkeyPatch) -> tuple[Bundling, Answering]:
    provider, http = Bundling("main", HTTPOptions(base_url="http://127.0.0.1:1")), Answering()
    monkeypatch.setattr(provider, "http", http)
    return provider, http


def test_a_mail_that_no_request_can_carry_takes_no_other_along(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, http = bundling(monkeypatch)
    mails = [outgoing("poison" if number == 2 else "order") for number in range(5)]
    outcomes = provider.send(mails, deadline=monotonic() + 60)
    assert [(outcome.kind, outcome.reason) for outcome in outcomes] == [
        (OutcomeClass.TRANSIENT, "encode_failed") if number == 2 else (OutcomeClass.ACCEPTED, None)
        for number in range(5)
    ]
    assert http.requests == 4


def test_a_mail_that_has_expired_is_in_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, http = bundling(monkeypatch)
    now = monotonic()
    mails = [outgoing(start_by=moment) for moment in (None, now, now + 60)]
    outcomes = provider.send(mails, deadline=now + 60)
    assert outcomes == [Outcome(OutcomeClass.ACCEPTED), EXPIRED, Outcome(OutcomeClass.ACCEPTED)]
    assert provider.send([outgoing(start_by=now)], deadline=now + 60) == [EXPIRED]
    assert http.requests == 1


class Silent(Answering):
    """Answers so many requests and no further one."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self._answers = answers

    def exchange(self, request: object, *, deadline: float) -> HTTPAnswer | Outcome:  # type: ignore[override]
        answer = super().exchange(request, deadline=deadline)
        return answer if self.requests <= self._answers else Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")


def test_a_provider_that_leaves_three_requests_unanswered_is_asked_nothing_more_in_that_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider, _ = bundling(monkeypatch)
    http = Silent(answers=1)
    monkeypatch.setattr(provider, "http", http)
    outcomes = provider.send([outgoing() for _ in range(50)], deadline=monotonic() + 60)
    assert [(outcome.kind, outcome.reason) for outcome in outcomes] == [
        *[(OutcomeClass.ACCEPTED, None)] * 5,
        *[(OutcomeClass.UNCERTAIN, "answer_lost")] * 15,
        *[(OutcomeClass.TRANSIENT, "deadline")] * 30,
    ]
    assert http.requests == 4


def test_mails_that_are_not_asked_about_are_no_silence_of_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, http = bundling(monkeypatch)
    now = monotonic()
    mails = [outgoing(start_by=now) for _ in range(30)] + [outgoing("poison")] * 5 + [outgoing()]
    outcomes = provider.send(mails, deadline=now + 60)
    assert outcomes[-1].kind is OutcomeClass.ACCEPTED
    assert http.requests == 1


def test_interruption_keeps_earlier_answers_and_leaves_the_rest_uncertain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = SparkPostProvider("spark", SparkPostOptions(api_key=Secret("key")))
    monkeypatch.setattr(provider, "http", Interrupted())
    mails = [outgoing() for _ in range(3)]
    first, *rest = provider.send(mails, deadline=monotonic() + 60)
    assert first.kind is OutcomeClass.ACCEPTED
    assert {(outcome.kind, outcome.reason) for outcome in rest} == {
        (OutcomeClass.UNCERTAIN, "provider_error:SoftTimeLimitExceeded")
    }
