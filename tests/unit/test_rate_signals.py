"""What answers say of rate limits: each provider's fields, the common ones, and all else that may stand there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import clock
from mailglass.providers.base import RateSignal
from mailglass.providers.brevo import BrevoProvider
from mailglass.providers.http_provider import HTTPProvider
from mailglass.providers.mailgun import MailgunProvider
from mailglass.providers.postmark import PostmarkProvider
from mailglass.providers.rate_signals import RateGauge, RateHeaders, read_signal
from mailglass.providers.resend import ResendProvider
from mailglass.providers.sendgrid import SendGridProvider


@pytest.mark.parametrize(
    ("room", "headers", "remaining", "reset"),
    [
        (ResendProvider, {"ratelimit-limit": "2", "ratelimit-remaining": "1", "ratelimit-reset": "1"}, 1, 1),
        (BrevoProvider, {"x-sib-ratelimit-remaining": "0", "x-sib-ratelimit-reset": "12"}, 0, 12),
        (SendGridProvider, {"x-ratelimit-remaining": "5", "x-ratelimit-reset": "in half a minute"}, 5, 30),
        (MailgunProvider, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, 0, 30),
        (MailgunProvider, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "in half a minute"}, 0, 30),
        (MailgunProvider, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "in half a minute, ms"}, 0, 30),
        # every room understands the common forms
        (PostmarkProvider, {"ratelimit-remaining": "7", "ratelimit-reset": "30"}, 7, 30),
        (SendGridProvider, {"ratelimit": "limit=100, remaining=50, reset=30"}, 50, 30),
        (PostmarkProvider, {"ratelimit": '"default";r=50;t=30'}, 50, 30),
        (PostmarkProvider, {"ratelimit": '"a";r=50;t=30, "b";t=3600;r=2;pk=:cHJpbWFyeQ==:'}, 2, 3600),
    ],
)
def test_each_room_knows_its_providers_fields(
    room: type[HTTPProvider], headers: Mapping[str, str], remaining: int, reset: float
) -> None:
    soon = clock.now().timestamp() + 30
    moments = {"in half a minute": f"{soon:.0f}", "in half a minute, ms": f"{soon * 1000:.0f}"}
    signal = read_signal({name: moments.get(text, text) for name, text in headers.items()}, room.rate_headers)
    assert signal is not None
    assert signal.remaining == remaining
    # moments are given in whole seconds
    assert signal.reset_seconds == pytest.approx(reset, abs=1)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"retry-after": "30"},
        {"ratelimit-remaining": "5"},
        {"ratelimit-remaining": "soon", "ratelimit-reset": "5"},
        {"ratelimit-remaining": "nan", "ratelimit-reset": "5"},
        {"ratelimit-remaining": "5", "ratelimit-reset": "inf"},
        {"ratelimit": '"default"'},
        {"ratelimit": ""},
    ],
)
def test_inexact_header_says_nothing(headers: Mapping[str, str]) -> None:
    assert read_signal(headers) is None


def test_a_reset_that_is_past_is_now_and_none_is_farther_than_a_day() -> None:
    own = RateHeaders("left", "at", "epoch")
    assert read_signal({"left": "-3", "at": "5"}, own) == RateSignal(0, 0.0)
    assert read_signal({"left": "3", "at": "9999999999"}, own) == RateSignal(3, 86_400.0)


_text = st.one_of(st.text(max_size=40), st.integers().map(str), st.floats().map(str), st.from_regex(r'"a";r=\d+;t=\d+'))
_names = ["ratelimit", "ratelimit-remaining", "ratelimit-reset", "left", "at"]


@given(st.dictionaries(st.sampled_from(_names), _text), st.sampled_from(["seconds", "epoch", "any"]))
def test_no_field_whatever_stands_in_it_fails(headers: dict[str, str], unit: str) -> None:
    signal = read_signal(headers, RateHeaders("left", "at", unit))  # type: ignore[arg-type]
    if signal is not None:
        assert signal.remaining >= 0
        assert 0 <= signal.reset_seconds <= 86_400
        assert math.isfinite(signal.reset_seconds)


@given(st.permutations([(5, 30.0), (2, 30.0), (2, 60.0), (9, 600.0)]))
def test_the_tightest_word_counts_in_whatever_order_the_answers_come(heard: list[tuple[int, float]]) -> None:
    gauge = RateGauge()
    for remaining, reset in heard:
        gauge.note(RateSignal(remaining, reset))
    signal = gauge.take()
    assert signal is not None
    assert signal.remaining == 2
    assert signal.reset_seconds == pytest.approx(60, abs=1)
    assert gauge.take() is None


def test_a_word_whose_time_is_over_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = itertools.count(100.0, 10.0)
    monkeypatch.setattr(clock, "monotonic", lambda: next(moments))
    gauge = RateGauge()
    gauge.note(RateSignal(0, 5.0))
    gauge.note(RateSignal(50, 60.0))
    assert gauge.take() == RateSignal(50, 50.0)
    gauge.note(RateSignal(0, 5.0))
    assert gauge.take() is None


def test_answers_on_many_threads_lose_nothing() -> None:
    gauge = RateGauge()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: gauge.note(RateSignal(number, 60.0)), range(1000, 0, -1)))
    signal = gauge.take()
    assert signal is not None
    assert signal.remaining == 1
