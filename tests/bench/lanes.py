"""What a hundred thousand lanes cost the pump: while their mail is due later, and until all that is due has left."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import psycopg

from mailglass.ids import uuid7
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.routing import Lane
from mailglass.runtime import get_runtime
from mailglass_workers import pumping
from tests.bench.figures import Comparison, Side
from tests.bench.machine import Machine, wait_until

LANES = 100_000
_FEW = 100
_FEWER = 10_000
_LOOKS = 9
_CONTENT = '{"v": 1, "subject": "Receipt", "text": "Thank you."}'
_WAITING = "SELECT count(*) FROM mailglass.deliveries WHERE due_at IS NOT NULL OR lease_expires_at IS NOT NULL"


def run(machine: Machine) -> list[Comparison]:
    """A look of the pump beside idle lanes and without them; then as many due lanes, and a tenth, worked off."""
    with machine.ledger():
        _queue(_lanes("due", _FEW))
        alone = _looks()
        _queue(_lanes("idle", LANES), delay=86_400.0)
        beside = _looks()
    figures = [
        Comparison(
            "lanes",
            Side(f"a run of the pump, {_FEW} lanes due beside {LANES:,} idle ones", beside, "ms"),
            Side("without those", alone, "ms"),
            "<= 1.3",
        )
    ]
    many, few = (_drained(machine, count) for count in (LANES, _FEWER))
    label = "each of {:,} due lanes worked off, two processes"
    return [
        *figures,
        Comparison("lanes", Side(label.format(LANES), [many], "ms"), Side(label.format(_FEWER), [few], "ms"), "<= 2"),
    ]


def _drained(machine: Machine, count: int) -> float:
    """Milliseconds for each lane, until a worker that finds them has worked all off; nobody has rung for them."""
    with machine.ledger() as environment:
        _queue(_lanes("due", count))
        with (
            psycopg.connect(environment["MAILGLASS_DATABASE_URL"], autocommit=True) as ledger,
            machine.worker("mailglass", environment) as worker,
        ):
            wait_until(lambda: _left(ledger) < count, worker)
            began = time.perf_counter()
            # in parts, because no one wait is as long
            for left in range(count - count // 10, -1, -count // 10):
                wait_until(lambda bound=left: _left(ledger) <= bound, worker)  # type: ignore[misc]
            return (time.perf_counter() - began) * 1000 / count


def _left(ledger: psycopg.Connection) -> int:
    row = ledger.execute(_WAITING).fetchone()
    time.sleep(0.2)
    return int(row[0]) if row is not None else 0


def _looks() -> list[float]:
    """Milliseconds of runs of the pump after the first, which rings."""
    runtime = get_runtime()
    pumping.run(runtime)
    looks = []
    for _ in range(_LOOKS):
        began = time.perf_counter()
        pumping.run(runtime)
        looks.append((time.perf_counter() - began) * 1000)
    return [statistics.median(looks)]


def _lanes(prefix: str, count: int) -> list[Lane]:
    return [Lane("mailglass", f"{prefix}{number}", "bulk") for number in range(count)]


def _queue(lanes: Sequence[Lane], delay: float = 0.0) -> None:
    run, to = get_runtime().database.run, Address("reader@example.com")
    for start in range(0, len(lanes), 500):
        submit(run, [Item(uuid7(), lane, uuid7(), _CONTENT, to, delay=delay) for lane in lanes[start : start + 500]])
