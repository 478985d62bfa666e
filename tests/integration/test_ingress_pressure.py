"""The webhook endpoint where something hangs, is away or is too much: what is answered, when, and what stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailglass.errors import ProviderCallError
from mailglass.ledger.database import Database
from mailglass.ledger.schema import upgrade
from mailglass.providers.base import WebhookRequest
from mailglass.routing import Router, Tenancy
from mailglass.settings import AccountSettings, Settings
from mailglass.stack.postgres import EmbeddedPostgres
from mailglass.testing.provider import FixedAccounts
from mailglass.testing.provider_suite import Declaration, Feature
from mailglass.web import WebApp, batcher
from mailglass.web import asgi as web_asgi
from mailglass.web import http as web_http
from mailglass.web.timeouts import SharedTimeout
from mailglass.webhooks import ingress
from mailglass.webhooks.ingress import IngressContext
from tests.rooms import ROOMS
from tests.serving import PatientProvider, SteadyProvider, StillRuntime, post, serving, status


@pytest.fixture
def served(database_url: str) -> Iterator[tuple[int, WebApp, StillRuntime]]:
    with serving(database_url) as found:
        yield found


def test_without_its_postgresql_it_answers_at_once_and_takes_webhooks_again_when_it_is_back(stack_root: Path) -> None:
    with EmbeddedPostgres(stack_root / "pg", durable=False) as postgres:
        url = postgres.create_database("ledger")
        upgrade(url)
        with serving(url) as (port, application, _):
            assert post(port) == 200
            postgres.stop()
            for account, expected in (("steady", 503), ("slow", 429)):
                assert post(port, account, b"[1]") == expected
            with ThreadPoolExecutor(20) as threads:
                answers = list(threads.map(lambda number: post(port, "steady", b"%d" % number), range(60)))
            assert set(answers) == {503}
            assert status(port, "/healthz") == 200 and status(port, "/readyz") == 503
            assert application._memory.free == web_asgi.MAX_BODY_MEMORY and application._all_pending == 0
            postgres.start()
            assert post(port, body=b"[1]") == 200
            assert status(port, "/readyz") == 200


def test_a_postgresql_that_hangs_is_not_waited_for_and_soon_not_even_asked(
    stack_root: Path, monkeypatch: pytest.MonkeyPatch, wait_for: Callable[..., None]
) -> None:
    monkeypatch.setattr(web_asgi, "RESPONSE_TIMEOUT", 0.3)
    monkeypatch.setattr(batcher, "STUCK_AFTER", 0.6)
    monkeypatch.setattr(batcher, "MAX_CONCURRENT_BATCHES", 2)
    with EmbeddedPostgres(stack_root / "pg", durable=False) as postgres:
        url = postgres.create_database("ledger")
        upgrade(url)
        with serving(url) as (port, application, _):
            assert post(port) == 200
            assert postgres.pid is not None
            group = [postgres.pid, *children(postgres.pid)]
            for pid in group:
                os.kill(pid, signal.SIGSTOP)
            try:
                for number in range(3):
                    assert post(port, body=b"hangs %d" % number) == 503
                webhook_batcher = application._batcher
                assert webhook_batcher is not None
                wait_for(lambda: webhook_batcher.is_stuck("steady"))
                assert post(port, body=b"x" * 100_000) == 503
                assert not any(queue.waiting for queue in webhook_batcher._in_threads._queues.values())
                assert status(port, "/healthz") == 200 and status(port, "/readyz") == 503
                assert application._memory.free == web_asgi.MAX_BODY_MEMORY and application._all_pending == 0
            finally:
                for pid in reversed(group):
                    os.kill(pid, signal.SIGCONT)
            wait_for(lambda: post(port, body=b"again") == 200)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def test_waiting_verification_of_a_provider_keeps_no_other_waiting(
    served: tuple[int, WebApp, StillRuntime], monkeypatch: pytest.MonkeyPatch, wait_for: Callable[..., None]
) -> None:
    monkeypatch.setattr(web_asgi, "RESPONSE_TIMEOUT", 20.0)
    port, application, runtime = served
    runtime.slow.go.clear()
    with ThreadPoolExecutor(30) as threads:
        waiting = [threads.submit(post, port, "slow", b"%d" % number) for number in range(30)]
        wait_for(lambda: application._all_pending == 30)
        for number in range(20):
            assert post(port, "steady", b"%d" % number) == 200
        runtime.slow.go.set()
        assert {future.result() for future in waiting} == {200}


def test_a_verification_that_takes_too_long_has_its_provider_post_again(
    served: tuple[int, WebApp, StillRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_asgi, "RESPONSE_TIMEOUT", 0.2)
    port, _, runtime = served
    runtime.slow.go.clear()
    assert post(port, "slow") == 429
    runtime.slow.go.set()
    monkeypatch.setattr(web_asgi, "RESPONSE_TIMEOUT", 20.0)
    assert post(port, "slow") == 200


@pytest.mark.parametrize(("account", "expected"), [("steady", 500), ("slow", 429)])
def test_a_key_that_cannot_be_fetched_is_the_endpoints_fault_and_no_forgery(
    served: tuple[int, WebApp, StillRuntime], account: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mailglass.webhooks.ingress.provider_class", {"steady": SteadyProvider, "patient": PatientProvider}.get
    )
    port, _, runtime = served
    runtime.slow.error = runtime.steady.error = ProviderCallError("fetch a certificate", retryable=True)
    assert post(port, account) == expected


def test_bodies_share_the_memory_there_is_and_what_does_not_fit_is_put_off(
    served: tuple[int, WebApp, StillRuntime], monkeypatch: pytest.MonkeyPatch, wait_for: Callable[..., None]
) -> None:
    monkeypatch.setattr(web_asgi, "RESPONSE_TIMEOUT", 20.0)
    port, application, runtime = served
    application._memory.free = free = 250_000
    runtime.slow.go.clear()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(post, port, "slow", b"x" * 150_000)
        wait_for(lambda: application._memory.free == 100_000)
        assert post(port, "steady", b"y" * 150_000) == 503
        assert post(port, "steady", b"y" * 50_000) == 200
        runtime.slow.go.set()
        assert first.result() == 200
    assert post(port, "steady", b"z" * 150_000) == 200
    assert application._memory.free == free


def test_refused_or_broken_request_gives_its_memory_back(
    served: tuple[int, WebApp, StillRuntime], monkeypatch: pytest.MonkeyPatch, wait_for: Callable[..., None]
) -> None:
    port, application, _ = served
    assert post(port, body=b"x" * 200_001) == 413
    head = b"POST /webhooks/steady HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head + b"x" * 10)
        wait_for(lambda: application._memory.free == web_asgi.MAX_BODY_MEMORY - 10)
    wait_for(lambda: application._memory.free == web_asgi.MAX_BODY_MEMORY)
    monkeypatch.setattr(web_http, "BODY_TIMEOUT", 0.05)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head + b"x" * 10)
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
    assert application._memory.free == web_asgi.MAX_BODY_MEMORY and application._all_pending == 0


def test_clients_that_say_nothing_keep_nobody_waiting(served: tuple[int, WebApp, StillRuntime]) -> None:
    port, *_ = served
    silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(200)]
    try:
        for connection in silent[::2]:
            connection.sendall(b"POST /webhooks/steady HTTP/1.1\r\nHost: x\r\n")
        assert post(port) == 200
    finally:
        for connection in silent:
            connection.close()


# --- waits ---


async def forever() -> None:
    await asyncio.Event().wait()


def test_a_wait_that_ends_in_time_has_its_result_and_leaves_nothing() -> None:
    async def main() -> str:
        timeout = SharedTimeout()
        found = await timeout.wait(asyncio.sleep(0, "found"), 5)
        assert not timeout._since and not timeout._canceled
        return found

    assert asyncio.run(main()) == "found"


def test_waits_end_each_at_its_own_time_and_each_only_once() -> None:
    async def main() -> list[str]:
        timeout, order = SharedTimeout(), []

        async def one(name: str, work: Any) -> None:
            try:
                await timeout.wait(work, 0.1)
                order.append(name)
            except TimeoutError:
                order.append(f"{name} gave up")
            # the task goes on: what was cancelled is the wait
            await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group, asyncio.timeout(60):
            group.create_task(one("first", forever()))
            group.create_task(one("quick", asyncio.sleep(0)))
            await asyncio.sleep(0.05)
            group.create_task(one("second", forever()))
        return order

    assert asyncio.run(main()) == ["quick", "first gave up", "second gave up"]


def test_cancellation_of_a_waiting_task_cancels_it() -> None:
    async def main() -> bool:
        timeout = SharedTimeout()
        task = asyncio.create_task(timeout.wait(forever(), 60))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return not timeout._since
        return False

    assert asyncio.run(main())


# --- where webhooks are proved ---


class Resolving(Tenancy):
    """An application that tells tenants by code, which may ask its own database."""

    def resolve_webhook_tenant(self, account: str, path_tenant: str | None) -> str | None:
        return "acme"


@pytest.mark.parametrize("room", [room for room in ROOMS.values() if Feature.WEBHOOKS not in room.lacks])
def test_proof_that_only_computes_runs_in_the_loop_and_one_that_may_wait_does_not(
    room: type[Declaration], unused_port: int
) -> None:
    declared = room()
    settings = Settings(accounts={"main": AccountSettings("main", room.provider_class.name)})
    accounts = FixedAccounts(settings, {"main": declared.build(declared.at(unused_port))})
    database = Database(f"postgresql://nobody@127.0.0.1:{unused_port}/nowhere")
    desk = IngressContext(settings, database, accounts, lambda task: None)
    # SNS signs with certificates that have to be fetched
    assert ingress.can_verify_inline("main", desk) is (room.provider_class.name != "ses")
    assert not ingress.can_verify_inline("nobody", desk)
    assert not ingress.can_verify_inline("main", replace(desk, router=Router(settings, Resolving())))


class QuickProvider(SteadyProvider):
    """One that only computes; notes in which thread."""

    waits_to_verify = False

    def verify(self, request: WebhookRequest) -> None:
        self.proved = threading.current_thread()


def test_a_large_webhook_is_proved_in_a_thread_whoever_posts_it(served: tuple[int, WebApp, StillRuntime]) -> None:
    port, _, runtime = served
    provider = QuickProvider("steady")
    runtime.__dict__["accounts"] = FixedAccounts(runtime.settings, {"steady": provider})
    assert post(port, body=b"x" * 65_536) == 200
    assert not provider.proved.name.startswith("mailglass-web")
    assert post(port, body=b"x" * 65_537) == 200
    assert provider.proved.name.startswith("mailglass-web")
