"""How long one tenant's single mail waits while other tenants' providers hang, or take four seconds for each call."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from mailglass import Message, deliver_later, deliver_many, tenant
from tests.bench.figures import Comparison, Side
from tests.bench.machine import TEXT, Machine, wait_until

POOLS = ("prefork", "threads", "gevent")
# how many providers, and the seconds that each takes for a call; the longest never answers
SITUATIONS = ((0, 0.0), (1, 3600.0), (3, 3600.0), (1, 4.0))
_BACKLOG = 300
_SAMPLES = 200
_PAUSE = 0.1
_BEGUN = "SELECT EXISTS (SELECT 1 FROM mailglass.deliveries WHERE tenant_id = 'shop' AND sent_at IS NOT NULL)"
_LEFT = "SELECT EXISTS (SELECT 1 FROM mailglass.deliveries WHERE tenant_id = 'shop' AND sent_at IS NULL)"
_WAITS = """
SELECT 1000 * extract(epoch FROM sent_at - created_at)::float8 FROM mailglass.deliveries
WHERE tenant_id = 'shop' ORDER BY created_at OFFSET 1
"""


def run(machine: Machine) -> list[Comparison]:
    """From the record to the provider's acceptance, ten mails a second, whatever becomes of those before."""
    figures: list[Comparison] = []
    for pool in POOLS:
        healthy: list[float] = []
        for count, seconds in SITUATIONS:
            with _providers(count, seconds) as ports:
                waits = _measure(machine, pool, ports)
            if not count:
                healthy = waits
                continue
            kind = "hanging" if seconds > 60 else f"taking {seconds:g} s a call"
            label = f"{pool} -c 2, beside {count} {kind}"
            figures += [
                Comparison(
                    "slow_providers",
                    Side(f"{label}, p{percent}", [_percentile(waits, percent)], "ms"),
                    Side("without", [_percentile(healthy, percent)], "ms"),
                    goal,
                )
                for percent, goal in ((50, ""), (99, "< 1000 ms"), (100, ""))
            ]
    return figures


def _measure(machine: Machine, pool: str, ports: Sequence[int]) -> list[float]:
    config = machine.scratch / "slow_providers.toml"
    key = machine.scratch / "slow.key"
    key.write_text("key", encoding="utf-8")
    config.write_text(_config(ports, key), encoding="utf-8")
    with machine.ledger(config=config) as environment:
        url = environment["MAILGLASS_DATABASE_URL"]
        with psycopg.connect(url, autocommit=True) as ledger, machine.worker("mailglass", environment, pool) as worker:
            _send()
            wait_until(lambda: _true(ledger, _BEGUN), worker)
            for number in range(len(ports)):
                with tenant(f"slow{number}"):
                    deliver_many(
                        Message(to=f"reader{each}@example.com", subject="News", text=TEXT) for each in range(_BACKLOG)
                    )
            began = time.perf_counter()
            for number in range(_SAMPLES):
                time.sleep(max(0.0, began + number * _PAUSE - time.perf_counter()))
                _send()
            wait_until(lambda: not _true(ledger, _LEFT), worker)
            return [float(row[0]) for row in ledger.execute(_WAITS)]


def _send() -> None:
    with tenant("shop"):
        deliver_later.delay(Message(to="one@example.com", subject="Your code", text="123456"))


def _config(ports: Sequence[int], key: Path) -> str:
    parts = ['default_from = "shop@example.com"\n[accounts.null]\nprovider = "null"\n']
    for number, port in enumerate(ports):
        parts.append(
            f'[accounts.slow{number}]\nprovider = "mailgun"\ndomain = "example.com"\napi_key = "file:{key}"\n'
            f'base_url = "http://127.0.0.1:{port}"\n[[routes]]\ntenant = "slow{number}"\naccounts = ["slow{number}"]\n'
        )
    return "".join([*parts, '[[routes]]\naccounts = ["null"]\n'])


@contextmanager
def _providers(count: int, seconds: float) -> Iterator[list[int]]:
    """HTTP servers that answer each request after so many seconds, as a provider that accepts a mail."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    body = b'{"id": "<slow@example.com>", "message": "Queued. Thank you."}'
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                await asyncio.sleep(seconds)
                writer.write(answer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            writer.close()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0)

    servers = [asyncio.run_coroutine_threadsafe(start(), loop).result(10) for _ in range(count)]
    try:
        yield [server.sockets[0].getsockname()[1] for server in servers]
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _true(connection: psycopg.Connection, statement: str) -> bool:
    row = connection.execute(statement).fetchone()
    return row is not None and bool(row[0])
