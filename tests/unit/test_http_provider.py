"""What the HTTP rooms share, where something interrupts a call in its middle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from mailglass.addresses import Address
from mailglass.clock import monotonic
from mailglass.ids import uuid7
from mailglass.mail.outcomes import OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.http import HTTPAnswer
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


def test_what_was_answered_before_an_interruption_stays_answered_and_the_rest_is_uncertain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = SparkPostProvider("spark", SparkPostOptions(api_key=Secret("key")))
    monkeypatch.setattr(provider, "http", Interrupted())
    mails = [
        Outgoing(
            delivery_id=uuid7(),
            tenant="acme",
            stream="transactional",
            recipient=Address("ada@example.com"),
            sender=Address("shop@example.org"),
            subject="Your order",
            created_at=datetime(2026, 1, 2, tzinfo=UTC),
            text="Thank you.",
        )
        for _ in range(3)
    ]
    first, *rest = provider.send(mails, deadline=monotonic() + 60)
    assert first.kind is OutcomeClass.ACCEPTED
    assert {(outcome.kind, outcome.reason) for outcome in rest} == {
        (OutcomeClass.UNCERTAIN, "provider_error:SoftTimeLimitExceeded")
    }
