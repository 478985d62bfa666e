"""What a call costs the application: `deliver_later.delay()` against Celery's own, with the broker up and stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

from mailglass import deliver_later, deliver_many
from tests.bench import contenders
from tests.bench.figures import Comparison, Side
from tests.bench.machine import HTML, TEXT, Machine, receipt

ROUNDS = 7
CALLS = 500
MANY = 5_000
BROKER_DOWN_CALLS = 1_000
BROKER_DOWN_ROUNDS = 3


def run(machine: Machine) -> list[Comparison]:
    """Calls in one process, in turns; a ring is pending and no worker runs, as while a backlog is worked off.

    Each call that promises something waits for the disk once: mailglass, and mail sent by hand, for the row's commit.
    The second round of figures leaves that wait out for both, and so shows what is our own work.
    """
    figures: list[Comparison] = []
    for waits in (True, False):
        sides: dict[str, list[float]] = {"ours": [], "many": [], "celery": [], "hand": []}
        with machine.contenders(waits), machine.ledger(waits):
            calls: dict[str, tuple[Callable[[], object], int, int]] = {
                "celery": (lambda: contenders.noop.delay(0), CALLS, 1),
                "hand": (lambda: contenders.queue_mail(0, TEXT, HTML), CALLS, 1),
                "ours": (lambda: deliver_later.delay(receipt(0)), CALLS, 1),
                "many": (lambda: deliver_many([receipt(n) for n in range(MANY)]), 1, MANY),
            }
            for call, times, _ in calls.values():
                _microseconds(call, min(times, 20))
            for _ in range(ROUNDS):
                for name, (call, times, mails) in calls.items():
                    sides[name].append(_microseconds(call, times) / mails)
        figures += _compared(sides, waits)
    return figures


def _compared(sides: dict[str, list[float]], waits: bool) -> list[Comparison]:
    how = "" if waits else ", disk left out"
    ours = Side(f"deliver_later.delay(){how}", sides["ours"], "us")
    celery = Side("bare .delay()", sides["celery"], "us")
    return [
        Comparison("enqueue", ours, celery, "<= 1.5"),
        Comparison("enqueue", ours, Side(f"row, commit, .delay(){how}", sides["hand"], "us")),
        Comparison("enqueue", Side(f"deliver_many(), each{how}", sides["many"], "us"), celery),
    ]


def run_broker_down(machine: Machine) -> list[Comparison]:
    """Calls with the broker stopped: the first may notice it, the others must not wait for it."""
    up: list[float] = []
    down: list[float] = []
    notices: list[float] = []
    with machine.ledger():
        for _ in range(BROKER_DOWN_ROUNDS):
            deliver_later.delay(receipt(0))
            up.append(_seconds(BROKER_DOWN_CALLS))
            machine.valkey.stop()
            try:
                notices.append(_seconds(1))
                down.append(_seconds(BROKER_DOWN_CALLS))
            finally:
                machine.valkey.start()
    running = Side("the same, broker running", up, "s")
    return [
        Comparison("broker_down", Side("1,000 calls, broker stopped", down, "s"), running, "< 2 s"),
        Comparison("broker_down", Side("the call that notices", notices, "s"), running),
    ]


def _seconds(calls: int) -> float:
    return _microseconds(lambda: deliver_later.delay(receipt(0)), calls) * calls / 1e6


def _microseconds(call: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times * 1e6
