"""Reads of statuses that coroutines wait for: those that wait at the same time share one statement."""

from __future__ import annotations

import asyncio
from typing import Final

from mailglass.ledger import deliveries
from mailglass.ledger.database import Database
from mailglass.ledger.lifecycle import Status
from mailglass.outbound.event_loop import in_thread
from mailglass.runtime import get_runtime

# seconds in which waits are collected; no longer than the first pause of a wait
WINDOW: Final = 0.02

_Waiting = dict[str, asyncio.Future[Status | None]]
_collected: dict[tuple[asyncio.AbstractEventLoop, Database], _Waiting] = {}


async def read_status(delivery_id: str) -> Status | None:
    """Return the status of a delivery of any tenant, or None if there is none.

    Args:
        delivery_id: as text.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    loop, database = asyncio.get_running_loop(), get_runtime().database
    waiting = _collected.get((loop, database))
    if waiting is None:
        # of a loop that ended with waits in it; loops of other threads come and go meanwhile
        for key in [key for key in list(_collected) if key[0].is_closed()]:
            _collected.pop(key, None)
        waiting = _collected[loop, database] = {}
        loop.call_later(WINDOW, _begin, loop, database)
    if delivery_id not in waiting:
        waiting[delivery_id] = loop.create_future()
    # a wait that is canceled takes no other one along
    return await asyncio.shield(waiting[delivery_id])


_reads: set[asyncio.Task[None]] = set()


def _begin(loop: asyncio.AbstractEventLoop, database: Database) -> None:
    read = loop.create_task(_read(database, _collected.pop((loop, database))))
    _reads.add(read)
    read.add_done_callback(_reads.discard)


async def _read(database: Database, waiting: _Waiting) -> None:
    try:
        found = await in_thread(lambda: deliveries.states(database, list(waiting)))
    except BaseException as error:
        for future in waiting.values():
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
                # nobody may be left to hear of it
                future.exception()
        return
    statuses = {str(delivery_id): state.status for delivery_id, state in found.items()}
    for delivery_id, future in waiting.items():
        future.set_result(statuses.get(delivery_id))
