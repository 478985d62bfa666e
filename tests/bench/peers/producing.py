"""What an application does that sends mail: a backlog as fast as it can, or one mail every so often.

Read by the peers' Python too: the standard library only. Prints when each mail was handed over, as JSON by number.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence

from tests.bench.peers.mails import Mail, receipt


def redelivery() -> dict[str, float]:
    """Celery's transport options: how soon Redis hands out again what a killed worker held; swept for each second."""
    return {
        "visibility_timeout": float(os.environ["PEERS_VISIBILITY"]),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }


def produce(
    arguments: Sequence[str], queue_all: Callable[[Sequence[Mail]], object], queue_one: Callable[[Mail], object]
) -> None:
    """Queue mails as the command line asks.

    Args:
        arguments: `FIRST COUNT [--every SECONDS]`.
        queue_all: how this way of sending takes many mails at once.
        queue_one: how it takes one.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--every", type=float)
    options = parser.parse_args(arguments)
    mails = [receipt(options.first + offset) for offset in range(options.count)]
    print(json.dumps(_trickle(mails, options.every, queue_one) if options.every else _backlog(mails, queue_all)))


def _backlog(mails: Sequence[Mail], queue_all: Callable[[Sequence[Mail]], object]) -> dict[int, float]:
    began = time.time()
    queue_all(mails)
    return {mail.number: began for mail in mails}


def _trickle(mails: Sequence[Mail], every: float, queue_one: Callable[[Mail], object]) -> dict[int, float]:
    calls: dict[int, float] = {}
    due = time.monotonic()
    for mail in mails:
        time.sleep(max(0.0, due - time.monotonic()))
        calls[mail.number] = time.time()
        queue_one(mail)
        due += every
    return calls
