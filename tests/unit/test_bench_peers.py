"""What the benchmark against the peers makes of its measurements."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from tests.bench.peers.contestants import CONTESTANTS, HTTP, SMTP
from tests.bench.peers.mails import receipt
from tests.bench.peers.queues import Figures
from tests.bench.peers.queues import table as table_of_queues
from tests.bench.peers.results import Drain, Kill, Latency, Result, as_json, best_peer, table

DRAIN = Drain(mails=100, accepted=100, rate=50.0, worker_cpu=2.0, server_cpu=1.0)


def test_the_goal_is_judged_against_the_fastest_peer_of_the_same_transport() -> None:
    results = [
        Result(SMTP, "mailglass", "", replace(DRAIN, rate=900.0)),
        Result(SMTP, "slow", "", replace(DRAIN, rate=50.0)),
        Result(SMTP, "fast", "", replace(DRAIN, rate=100.0)),
        Result(HTTP, "faster", "", replace(DRAIN, rate=5000.0)),
    ]
    assert best_peer(results, SMTP) == 100.0
    assert "9.0 x: missed" in table(results)
    results[0] = Result(SMTP, "mailglass", "", replace(DRAIN, rate=1000.0))
    assert "10.0 x: met" in table(results)
    assert json.loads(as_json(results))["ratios"] == {SMTP: 10.0}


def test_without_peers_no_goal_is_judged() -> None:
    shown = table([Result(SMTP, "mailglass", "", DRAIN)])
    assert "met" not in shown
    assert "missed" not in shown


def test_a_backlog_that_did_not_arrive_completely_is_marked() -> None:
    assert "50 (!)" in table([Result(SMTP, "by hand", "", replace(DRAIN, accepted=99))])


def test_held_mail_is_not_lost() -> None:
    assert Kill(mails=10, struck_at=4, twice=0, missing=3, held=2).lost == 1
    assert Kill(mails=10, struck_at=4, twice=0, missing=1, held=5).lost == 0


def test_a_latency_of_nothing_is_no_number() -> None:
    assert math.isnan(Latency.of([]).p99)


@pytest.mark.parametrize("count", [1, 2, 100, 199])
def test_percentiles_are_measured_values(count: int) -> None:
    figures = [float(number) for number in range(count)]
    latency = Latency.of(figures)
    assert latency.p50 in figures
    assert latency.p50 <= latency.p99 <= figures[-1]


def test_each_mail_is_eight_kilobytes_of_its_own() -> None:
    first, second = receipt(1), receipt(2)
    assert receipt(1) == first
    assert not {first.recipient, first.subject, first.text, first.html} & {
        second.recipient,
        second.subject,
        second.text,
        second.html,
    }
    assert 7_000 < len((first.text + first.html).encode()) < 9_000


def test_every_contestant_has_a_name_of_its_own() -> None:
    assert len({item.name for item in CONTESTANTS}) == len(CONTESTANTS)


def test_a_job_queue_is_compared_at_its_best_concurrency() -> None:
    ours = Figures([0.001], [0.0001], {2: [1000.0]})
    theirs = Figures([0.002], [0.0002], {10: [90.0, 110.0], 50: [200.0, 300.0], 200: [10.0]})
    line = table_of_queues({"mailglass": ours, "awa": theirs}).splitlines()[-1]
    assert line.split() == ["awa", "2000", "200", "250", "50", "4.0", "x", "2", "x"]
