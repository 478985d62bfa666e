"""`mailglass sizing`: Little's law, rounded up, with headroom."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.cli import run
from mailglass.preflight.sizing import MAX_CONCURRENCY, Sizing, parse_latency, parse_rate, size


def test_slots_are_rate_times_latency_with_headroom() -> None:
    assert size(200, 0.08, headroom=0.0) == Sizing(16.0, 16, 1, 17, pytest.approx(0.034))
    assert size(200, 0.08).slots == 21


def test_mails_of_one_request_and_requests_in_flight_divide_the_slots() -> None:
    assert size(1000, 0.5, mails_per_request=50, headroom=0.0).slots == 10
    assert size(1000, 0.5, mails_per_request=50, concurrency=5, headroom=0.0).slots == 2


def test_a_pool_of_threads_shares_one_concurrency_among_its_slots() -> None:
    assert size(200, 0.08, pool="threads").concurrency == 21
    assert size(10_000, 1.0, pool="gevent").concurrency == MAX_CONCURRENCY


@given(st.floats(0.01, 1e5), st.floats(0.001, 30), st.integers(1, 1000), st.integers(1, 64), st.floats(0, 2))
def test_slots_always_carry_the_rate_and_more_latency_never_needs_fewer(
    rate: float, latency: float, mails: int, concurrency: int, headroom: float
) -> None:
    options = {"mails_per_request": mails, "concurrency": concurrency, "headroom": headroom}
    answer = size(rate, latency, **options)
    assert answer.slots * concurrency * mails / latency >= rate * (1 - 1e-6)
    assert size(rate, latency * 2, **options).slots >= answer.slots
    assert answer.connections > answer.slots


@pytest.mark.parametrize(
    ("text", "rate"), [("200/s", 200), ("12000/min", 200), ("720000/h", 200), ("86400/day", 1), ("0.5/s", 0.5)]
)
def test_rates_are_read_in_every_period(text: str, rate: float) -> None:
    assert math.isclose(parse_rate(text), rate)


@pytest.mark.parametrize("text", ["", "200", "0/s", "-1/s", "200/fortnight", "nan/s", "1e9/s", "9" * 400 + "/s"])
def test_anything_else_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="200/s"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["", "80", "0ms", "-1s", "80 ms", "inf"])
def test_a_latency_needs_a_unit(text: str) -> None:
    with pytest.raises(ValueError, match="80ms"):
        parse_latency(text)


def test_the_command_prints_the_worker_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sizing", "--rate", "200/s", "--latency", "80ms"]) == 0
    printed = capsys.readouterr()
    assert "slots (-c)            21" in printed.out
    assert "celery -A mailglass worker -Q mailglass -c 21" in printed.err
    assert run(["sizing", "--rate", "200/s", "--latency", "80ms", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["slots"] == 21
    schema = Path(__file__).parents[2] / "docs" / "schemas" / "sizing.json"
    jsonschema.validate(found, json.loads(schema.read_text("utf-8")))


def test_a_wrong_value_is_a_usage_error_that_shows_the_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sizing", "--rate", "fast", "--latency", "80ms"]) == 64
    assert "200/s" in capsys.readouterr().err
