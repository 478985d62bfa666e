"""Job queues on PostgreSQL, a mail a job: `python -m tests.bench.peers.theirs.jobs WAY COMMAND [NUMBER]`.

The commands: `set-up` makes the tables, `bulk NUMBER` queues so many mails in the queue's fastest way and prints the
seconds it took, `single NUMBER` queues so many one by one and prints the seconds, `work CONCURRENCY` runs a worker.
Read by the peers' Python: the standard library and the peers only. Each mail that is worked on adds a byte to the file
that `PEERS_COUNT` names, and goes nowhere.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from tests.bench.peers.mails import Mail, receipt

# what one statement or COPY of a backlog holds: the same for all
CHUNK = 500


@dataclass
class SendMail:
    """The arguments of a job."""

    number: int
    recipient: str
    subject: str
    text: str
    html: str


class Way(Protocol):
    """One job queue."""

    async def set_up(self) -> None: ...
    async def open(self) -> None: ...
    async def queue_all(self, mails: Sequence[Mail]) -> None: ...
    async def queue_one(self, mail: Mail) -> None: ...
    async def work(self, concurrency: int) -> None: ...


def send(counter: int = os.open(os.environ["PEERS_COUNT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)) -> None:
    """Send a mail nowhere."""
    os.write(counter, b".")


class Awa:
    """awa: direct COPY into its queue storage, asynchronous tasks."""

    def __init__(self, url: str) -> None:
        import awa

        self._client = awa.AsyncClient(url, max_connections=10)

    async def set_up(self) -> None:
        await self._client.migrate()
        await self._client.install_queue_storage()

    async def open(self) -> None:
        pass

    async def queue_all(self, mails: Sequence[Mail]) -> None:
        await self._client.enqueue_many_copy([SendMail(**asdict(mail)) for mail in mails], queue="mail")

    async def queue_one(self, mail: Mail) -> None:
        await self._client.insert(SendMail(**asdict(mail)), queue="mail")

    async def work(self, concurrency: int) -> None:
        @self._client.task(SendMail, queue="mail")
        async def send_mail(job: Any) -> None:
            send()

        await self._client.start([("mail", concurrency)])
        await asyncio.Event().wait()


class Oban:
    """oban: one statement for many jobs, asynchronous workers."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def set_up(self) -> None:
        from oban.schema import install

        await install(await self._pool())

    async def _pool(self) -> Any:
        from psycopg_pool import AsyncConnectionPool

        pool = AsyncConnectionPool(self._url, min_size=1, max_size=10, open=False)
        await pool.open()
        return pool

    async def open(self) -> None:
        self._oban = await self._start({})

    async def _start(self, queues: dict[str, int]) -> Any:
        import oban

        class SendMailWorker:
            async def process(self, job: Any) -> None:
                send()

        started = oban.Oban(pool=await self._pool(), queues=queues)
        await started.start()
        self._worker = oban.worker(queue="mail")(SendMailWorker)
        return started

    async def queue_all(self, mails: Sequence[Mail]) -> None:
        await self._oban.enqueue_many([self._worker.new(asdict(mail)) for mail in mails])

    async def queue_one(self, mail: Mail) -> None:
        await self._oban.enqueue(self._worker.new(asdict(mail)))

    async def work(self, concurrency: int) -> None:
        self._oban = await self._start({"mail": concurrency})
        await asyncio.Event().wait()


class Procrastinate:
    """procrastinate: one statement for many jobs, asynchronous tasks."""

    def __init__(self, url: str) -> None:
        import procrastinate

        self._app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=10))

        @self._app.task(name="send_mail", queue="mail")
        async def send_mail(**mail: Any) -> None:
            send()

        self._task = send_mail

    async def set_up(self) -> None:
        await self._app.open_async()
        await self._app.schema_manager.apply_schema_async()

    async def open(self) -> None:
        await self._app.open_async()

    async def queue_all(self, mails: Sequence[Mail]) -> None:
        await self._task.batch_defer_async(*(asdict(mail) for mail in mails))

    async def queue_one(self, mail: Mail) -> None:
        await self._task.defer_async(**asdict(mail))

    async def work(self, concurrency: int) -> None:
        await self._app.open_async()
        await self._app.run_worker_async(queues=["mail"], concurrency=concurrency)


WAYS: dict[str, type[Any]] = {"awa": Awa, "oban": Oban, "procrastinate": Procrastinate}


async def main(name: str, command: str, number: str = "0") -> None:
    way: Way = WAYS[name](os.environ["PEERS_DATABASE_URL"])
    if command == "set-up":
        await way.set_up()
    elif command == "work":
        await way.work(int(number))
    else:
        await way.open()
        mails = [receipt(n) for n in range(int(number))]
        # the first call opens what later ones keep
        await way.queue_one(receipt(0))
        began = time.perf_counter()
        if command == "bulk":
            for start in range(0, len(mails), CHUNK):
                await way.queue_all(mails[start : start + CHUNK])
        else:
            for mail in mails:
                await way.queue_one(mail)
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
