"""How much of a lane is taken at once."""

from __future__ import annotations

import math

import pytest

from mailglass.engine.batch_sizer import BatchSizer
from mailglass.providers.mailgun.options import MailgunOptions
from mailglass.providers.mailgun.provider import MailgunProvider
from mailglass.routing import Lane
from mailglass.settings import Secret

LANE = Lane("mailglass", "acme", "bulk")
OTHER = Lane("mailglass", "acme", "transactional")
SLICE = 0.5


def settle(sizer: BatchSizer, batch_size: int, in_flight: int, per_request: int, seconds: float) -> tuple[int, int]:
    """Work batches off as the engine does, through a provider whose requests take this long whatever they carry.

    Returns:
        The claim and the mails of one provider call after many batches.
    """
    for _ in range(50):
        claim = sizer.claim_size(LANE)
        chunk = min(sizer.chunk_size(LANE, batch_size), claim)
        rounds = sum(math.ceil(min(chunk, claim - start) / per_request / in_flight) for start in range(0, claim, chunk))
        sizer.learn(LANE, claim, rounds * seconds)
    return sizer.claim_size(LANE), min(sizer.chunk_size(LANE, batch_size), sizer.claim_size(LANE))


def test_a_fast_lane_takes_as_much_as_it_may() -> None:
    sizer = BatchSizer(500, SLICE)
    sizer.learn(LANE, 1000, 0.1)

    assert sizer.claim_size(LANE) == 500
    assert sizer.chunk_size(LANE, 200) == 200


def test_a_slow_lane_takes_what_a_slice_has_time_for() -> None:
    sizer = BatchSizer(500, SLICE)
    sizer.learn(LANE, 100, 1.0)

    assert sizer.claim_size(LANE) == 50
    assert sizer.chunk_size(LANE, 50) == 25


def test_lanes_learn_apart_from_each_other() -> None:
    sizer = BatchSizer(500, SLICE)
    sizer.learn(LANE, 1, 10.0)

    assert sizer.claim_size(LANE) < sizer.claim_size(OTHER)
    assert sizer.chunk_size(OTHER, 50) == 50


@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0, 5.0])
def test_requests_that_take_long_are_kept_in_flight_side_by_side(seconds: float) -> None:
    claim, call = settle(BatchSizer(500, SLICE), batch_size=50, in_flight=8, per_request=1, seconds=seconds)

    assert claim >= 8
    assert call >= 8


@pytest.mark.parametrize("seconds", [0.05, 0.2])
def test_requests_that_carry_many_mails_are_filled(seconds: float) -> None:
    claim, call = settle(BatchSizer(500, SLICE), batch_size=400, in_flight=8, per_request=100, seconds=seconds)

    assert claim >= 400
    assert call >= 200


def test_a_claim_is_never_more_than_the_settings_allow() -> None:
    sizer = BatchSizer(5, SLICE)

    assert sizer.claim_size(LANE) == 5
    sizer.learn(LANE, 1, 100.0)
    assert sizer.claim_size(LANE) == 5
    assert sizer.chunk_size(LANE, 1) == 1


@pytest.mark.parametrize("concurrency", [1, 8, 64])
def test_a_call_of_an_account_is_never_smaller_than_what_it_has_in_flight(concurrency: int) -> None:
    account = MailgunProvider(
        "acme", MailgunOptions(api_key=Secret("key"), domain="mg.example.com", concurrency=concurrency)
    )
    sizer = BatchSizer(500, SLICE)
    sizer.learn(LANE, 1, 60.0)

    assert sizer.chunk_size(LANE, account.batch_size) >= concurrency
