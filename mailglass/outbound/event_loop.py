"""Blocking work of coroutines, in a few threads of the process.

The ledger's pool of connections serves threads and event loops alike. Threads start when work waits for one, and there
are never more than `THREADS` of a kind, however many coroutines wait.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from enum import StrEnum
from typing import Final, TypeVar

T = TypeVar("T")

# of each kind; as many as the ledger's pool keeps connections
THREADS: Final = 10


class Kind(StrEnum):
    """Kind of work. One kind never waits for threads of another."""

    LEDGER = "ledger"
    PROVIDER = "provider"


_pools: dict[Kind, ThreadPoolExecutor] = {}


async def in_thread(work: Callable[[], T], kind: Kind = Kind.LEDGER) -> T:
    """Run blocking work with the caller's context variables, such as its tenant, and wait for it.

    If the caller is canceled while the work waits for a thread, it is not begun. Work that has begun goes on to its
    end, and its result is dropped.

    Args:
        work: the function to run.
        kind: `PROVIDER` for work that waits for providers, which may take seconds.

    Returns:
        The result of the work.
    """
    return await asyncio.get_running_loop().run_in_executor(_pool(kind), copy_context().run, work)


def in_background(work: Callable[[], object]) -> None:
    """Run work in a thread without waiting for it. What it raises is dropped."""
    _pool(Kind.LEDGER).submit(work)


def _pool(kind: Kind) -> ThreadPoolExecutor:
    pool = _pools.get(kind)
    if pool is None:
        # of two event loops that make it at the same moment, both use the first
        pool = _pools.setdefault(kind, ThreadPoolExecutor(THREADS, f"mailglass-{kind}"))
    return pool


# a child has none of the parent's threads
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)
