"""Faults at every seam, on real servers and processes: every mail ends, and none goes twice unaccounted for.

The short form runs with the suite, one round of each; `make chaos` runs the long one (`CHAOS_ROUNDS` rounds of
`CHAOS_MAILS` mails) and prints a table. Which pool a worker has changes from round to round.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy

from mailglass import Message, deliver_many
from mailglass.errors import LedgerUnavailableError
from mailglass.ledger import deliveries
from mailglass.ledger.lifecycle import FINAL, Status
from mailglass.runtime import get_runtime
from mailglass.stack.process import ChildProcess
from mailglass.testing.lab.weather import Weather
from tests.chaos.site import POOLS, Cutter, Pool, Site
from tests.chaos.table import Tally

SEAMS = ("before_claim", "after_claim", "after_mark", "after_answer", "after_record")
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "20"))
MAILS = int(os.environ.get("CHAOS_MAILS", "500"))


@dataclass
class Round:
    """One round of one fault.

    Attributes:
        count: mails to send.
        number: from 0; decides about pools, so that every one has its turn.
    """

    site: Site
    outside: Any
    wait_for: Callable[..., None]
    tally: Tally
    rng: random.Random
    count: int
    number: int = 0

    def pool(self, step: int = 0) -> Pool:
        """The pool whose turn it is."""
        return POOLS[(self.number + step) % len(POOLS)]

    def worker(self, step: int = 0) -> ChildProcess:
        return self.site.worker(self.pool(step))

    def send(self, count: int | None = None, **when: float) -> list[str]:
        """Record mails; their delivery ids."""
        many = range(self.count if count is None else count)
        messages = (Message(to=f"u{n}@example.com", subject="Receipt", text="Thanks.") for n in many)
        return [str(result.ids[0]) for result in deliver_many(messages, **when)]

    def arrived(self, more: int = 1) -> Callable[[], bool]:
        """A fact: so many more mails have arrived than by now."""
        enough = len(self.outside.mails) + more
        return lambda: len(self.outside.mails) >= enough

    def settle(self, ids: list[str]) -> None:
        """Wait until every mail has ended, and compare the world's count with the ledger's."""
        database = get_runtime().database

        def ended() -> bool:
            try:
                states = deliveries.states(database, ids)
            except LedgerUnavailableError:
                return False
            return all(found[0] in FINAL for found in states.values())

        self.wait_for(ended, timeout=120)
        states = deliveries.states(database, ids)
        sent = {key for key in ids if states[UUID(key)][0] is Status.SENT}
        resent = Counter(
            str(row.delivery_id)
            for row in database.query(sqlalchemy.text("SELECT delivery_id FROM mailglass.events WHERE kind = 'resent'"))
        )
        lost, duplicates = self.tally.lost, self.tally.duplicates
        self.tally.count(ids, sent, self.outside.received, resent)
        assert (self.tally.lost, self.tally.duplicates) == (lost, duplicates)


def kill_at(seam: str) -> Callable[[Round], None]:
    def run(turn: Round) -> None:
        ids = turn.send()
        pool = turn.pool(SEAMS.index(seam))
        # two processes of a pool count for themselves: few mails are not enough for a third time in one of them
        doomed = turn.site.worker(pool, seam, at=turn.rng.randint(1, 3 if turn.count >= 300 else 2))
        turn.wait_for(turn.site.died, timeout=60)
        if pool.victim == "worker":
            turn.wait_for(lambda: not doomed.running)
            assert doomed.returncode == -signal.SIGKILL
            turn.worker(SEAMS.index(seam) + 1)
        turn.settle(ids)

    return run


def one_of_three_workers_is_killed(turn: Round) -> None:
    workers = [turn.worker(step) for step in range(3)]
    some = turn.arrived(turn.rng.randint(1, max(1, turn.count // 2)))
    ids = turn.send()
    turn.wait_for(some)
    turn.rng.choice(workers).kill()
    turn.settle(ids)


def the_broker_dies(*, keep_data: bool) -> Callable[[Round], None]:
    def run(turn: Round) -> None:
        turn.worker()
        some = turn.arrived()
        ids = turn.send(turn.count // 2)
        turn.wait_for(some)
        turn.site.broker.kill()
        ids += turn.send(turn.count - len(ids))
        turn.site.broker_returns(keep_data=keep_data)
        turn.settle(ids)

    return run


def the_database_restarts(turn: Round) -> None:
    # as in production they outlast a restart, so that what was answered meanwhile is still recorded
    turn.site.configure(turn.outside.port, lease=20)
    turn.worker()
    some = turn.arrived(turn.rng.randint(1, max(1, turn.count // 4)))
    ids = turn.send()
    turn.wait_for(some)
    if turn.number % 2:
        turn.site.postgres.stop()
    else:
        turn.site.postgres.kill()
    turn.site.postgres.start()
    turn.settle(ids)


def the_provider_swallows_answers(turn: Round) -> None:
    turn.outside.weather = lambda to: Weather.LOST_ANSWER if to.startswith(("u3", "u7")) else Weather.DELIVER
    turn.worker()
    turn.settle(turn.send())


def the_provider_is_cut_off(turn: Round) -> None:
    cutter = Cutter(turn.outside.port, cuts=max(3, turn.count // 20), rng=turn.rng)
    with cutter.running() as port:
        turn.site.configure(port)
        turn.worker()
        turn.settle(turn.send())
    turn.site.configure(turn.outside.port)


def a_worker_sleeps_past_its_lease(turn: Round) -> None:
    sleeper = turn.worker()
    some = turn.arrived()
    ids = turn.send()
    turn.wait_for(some)
    sleeper.send_signal(signal.SIGSTOP)
    turn.worker(1)
    database = get_runtime().database
    waiting = sqlalchemy.text(
        "SELECT count(*) FROM mailglass.deliveries WHERE status IN ('queued', 'claimed', 'sending')"
    )
    turn.wait_for(lambda: database.query(waiting)[0][0] == 0, timeout=60)
    sleeper.send_signal(signal.SIGCONT)
    turn.settle(ids)


def beats_come_and_go(turn: Round) -> None:
    first = turn.site.beat()
    turn.site.beat()
    turn.worker()
    some = turn.arrived()
    ids = turn.send(turn.count // 2) + turn.send(turn.count - turn.count // 2, countdown=1.5)
    turn.wait_for(some)
    if turn.number % 2:
        # it goes on leading without ringing, as a beat on a frozen machine would
        first.send_signal(signal.SIGSTOP)
    else:
        first.kill()
    turn.settle(ids)


FAULTS: dict[str, Callable[[Round], None]] = {
    **{f"worker killed {seam.replace('_', ' ')}": kill_at(seam) for seam in SEAMS},
    "one of three workers killed": one_of_three_workers_is_killed,
    "broker killed": the_broker_dies(keep_data=True),
    "broker killed, data lost": the_broker_dies(keep_data=False),
    "database killed, restarted": the_database_restarts,
    "answers never come": the_provider_swallows_answers,
    "cut off within an answer": the_provider_is_cut_off,
    "worker asleep past its lease": a_worker_sleeps_past_its_lease,
    "beats killed and frozen": beats_come_and_go,
}


def play(fault: str, turn: Round) -> None:
    """One round; nothing of it runs when it is over."""
    try:
        FAULTS[fault](turn)
    except BaseException:
        turn.site.describe()
        raise
    finally:
        turn.site.end_round()


@pytest.mark.parametrize("fault", FAULTS)
def test_every_mail_ends_and_none_goes_twice_unaccounted_for(site: Site, outside, wait_for, fault: str) -> None:
    play(fault, Round(site, outside, wait_for, Tally(fault), random.Random(fault), count=120))


@pytest.mark.chaos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("fault", FAULTS)
def test_many_rounds(site: Site, outside, wait_for, progress: Callable[[Tally], None], fault: str) -> None:
    tally, rng = Tally(fault), random.Random(fault)
    try:
        for number in range(ROUNDS):
            play(fault, Round(site, outside, wait_for, tally, rng, MAILS, number))
            progress(tally)
    except BaseException as error:
        tally.broken = f"round {tally.rounds + 1}: {type(error).__name__}"
        progress(tally)
        raise
