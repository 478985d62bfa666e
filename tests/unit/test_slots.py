"""A worker's slots and the threads beside them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from mailglass.engine import bulkhead
from mailglass.engine.bulkhead import Bulkhead
from mailglass_workers import slots


@pytest.fixture
def walls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bulkhead]:
    """A worker of one slot, for which a hundredth of a second is slow."""
    for module in (bulkhead, slots):
        monkeypatch.setattr(module, "SLOW", 0.01)
    monkeypatch.setattr(slots, "_LOOK", 0.01)
    walls = Bulkhead(1)
    bulkhead.install(walls)
    yield walls
    slots.wait()
    bulkhead.install(None)


def test_mail_finds_a_thread_beside_any_number_of_other_tasks_that_hang(walls: Bulkhead) -> None:
    go, sent = threading.Event(), threading.Event()
    beside = slots.SideThreads()
    try:
        for _ in range(2 * walls.most_jobs):
            beside(lambda: go.wait(60) and None)
        mail = threading.Thread(target=slots.run, args=(sent.set,), daemon=True)
        mail.start()
        assert sent.wait(60)
    finally:
        go.set()
    mail.join(60)


def test_the_error_of_another_task_reaches_its_slot(walls: Bulkhead) -> None:
    def fail() -> None:
        raise TimeoutError("the provider's, not the slot's")

    with pytest.raises(TimeoutError, match="provider's"):
        slots.SideThreads()(fail)
