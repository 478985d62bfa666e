"""What importing mailglass costs a process that only wants to say what to send."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.bench.figures import Comparison, Side
from tests.bench.machine import ROOT

ROUNDS = 21
_FIRST_USE = "from mailglass import Message, deliver_later"
_CELERYS_FIRST_USE = "from celery import Celery, Task"


def run() -> list[Comparison]:
    """Whole processes, in turns."""
    return [
        _compare("import mailglass", "import celery", ("import mailglass", "import celery")),
        _compare(_FIRST_USE, _CELERYS_FIRST_USE, ("import deliver_later", "import Celery, Task")),
    ]


def _compare(ours: str, theirs: str, labels: tuple[str, str]) -> Comparison:
    times: dict[str, list[float]] = {ours: [], theirs: []}
    for statement in (ours, theirs):
        _milliseconds(statement)
    for _ in range(ROUNDS):
        for statement, rounds in times.items():
            rounds.append(_milliseconds(statement))
    return Comparison("import", Side(labels[0], times[ours], "ms"), Side(labels[1], times[theirs], "ms"), "<= 1.3")


def _milliseconds(statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, cwd=ROOT)
    return (time.perf_counter() - started) * 1000
