"""The ASGI application: webhooks, liveness, readiness. Needs no framework.

| path | method | answers |
| --- | --- | --- |
| `/webhooks/{account}` | POST | as `mailglass.webhooks.ingress`; 503, or the provider's own, when too much waits |
| `/webhooks/{tenant}/{account}` | POST | the same, of one tenant |
| `/healthz` | GET | 200 while the process serves; asks nobody |
| `/readyz` | GET | 200 where the database answers with the right schema, else 503 |
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from mailglass import telemetry
from mailglass.errors import ConfigError, MailglassError
from mailglass.runtime import Runtime, get_runtime
from mailglass.settings import Settings
from mailglass.web import readiness
from mailglass.web.bodies import Bodies
from mailglass.web.http import (
    ClientGone,
    GivenUp,
    Receive,
    Scope,
    Send,
    closing,
    peer_of,
    read_body,
    respond,
    webhook_request,
)
from mailglass.web.timeouts import SharedTimeout
from mailglass.web.webhook_batcher import Counter
from mailglass.webhooks import ingress
from mailglass.webhooks.ingress import Answer, Posted

T = TypeVar("T")

# as many as the ledger's pool keeps connections
THREADS = 10
# each holds its body in memory while it waits for a thread
MAX_PENDING = 200
# so that one account whose webhooks hang leaves places to the others
MAX_PENDING_OF_ACCOUNT = 150
MAX_HELD = 128 * 1024 * 1024
# some providers give up on an answer after 10 s; what is kept after ours has gone is a repetition when it comes again
ANSWER_WITHIN = 5.0

_PLAIN = (("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store"))
NOT_FOUND = Answer(404)
_NO_NAMES = frozenset({"", ".", ".."})


class WebApp:
    """The application; `create_app` makes one.

    Args:
        settings: whose accounts and database; the process's own when left out.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._own = None if settings is None else Runtime(settings)
        self._threads: ThreadPoolExecutor | None = None
        self._counter: Counter | None = None
        self._for_bodies, self._for_work = SharedTimeout(), SharedTimeout()
        self._bodies = Bodies(MAX_HELD)
        # how many are worked on, by account: a name that stands in the settings
        self._pending: collections.Counter[str] = collections.Counter()
        self._all_pending = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                answer = await self._answer(scope, receive)
            except ClientGone:
                return
            await respond(send, answer, with_body=scope["method"] != "HEAD")
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path, method = _path(scope), scope["method"]
        if path == "/healthz":
            answer = Answer(200, _PLAIN, b"ok\n") if method in ("GET", "HEAD") else _not_allowed("GET, HEAD")
            return closing(answer, scope)
        if path == "/readyz":
            return closing(await self._ready() if method in ("GET", "HEAD") else _not_allowed("GET, HEAD"), scope)
        room, *names = path.removeprefix("/").split("/")
        if room != "webhooks" or len(names) not in (1, 2) or not _NO_NAMES.isdisjoint(names):
            return closing(NOT_FOUND, scope)
        if method != "POST":
            return closing(_not_allowed("POST"), scope)
        return await self._webhook(names[-1], names[0] if len(names) == 2 else None, scope, receive)

    async def _webhook(self, account: str, tenant: str | None, scope: Scope, receive: Receive) -> Answer:
        try:
            runtime = self._runtime()
            counter = self._counter_for(runtime)
        except ConfigError as error:
            telemetry.emit("mailglass.webhook.misconfigured", level=logging.ERROR, status=500, reason=error.key)
            return closing(ingress.MISCONFIGURED, scope)
        if account not in runtime.settings.accounts:
            # before its body, so that what nobody asked for costs nothing
            return closing(ingress.unknown_account(), scope)
        if counter.hangs(account):
            return closing(_put_off(account, runtime, "no_end_in_sight"), scope)
        if not self._has_place(account):
            return closing(_put_off(account, runtime, "too_many_pending"), scope)
        webhooks = runtime.settings.webhooks
        try:
            body = await read_body(
                scope, receive, webhooks.max_body, self._for_bodies, self._bodies,
                account, peer_of(scope, webhooks.trusted_proxies),
            )  # fmt: skip
        except GivenUp:
            return closing(_put_off(account, runtime, "too_many_bodies"), scope)
        if isinstance(body, Answer):
            telemetry.emit("mailglass.webhook.refused", level=logging.WARNING, status=body.status)
            return body
        content, reading = body
        try:
            if not self._has_place(account):
                return _put_off(account, runtime, "too_many_pending")
            return await self._work_on(Posted(account, webhook_request(scope, content), tenant), counter, runtime)
        finally:
            self._bodies.release(reading)

    def _has_place(self, account: str) -> bool:
        return self._all_pending < MAX_PENDING and self._pending[account] < MAX_PENDING_OF_ACCOUNT

    async def _work_on(self, posted: Posted, counter: Counter, runtime: Runtime) -> Answer:
        self._all_pending += 1
        self._pending[posted.account] += 1
        try:
            return await self._for_work.wait(counter.hand_in(posted), ANSWER_WITHIN)
        except TimeoutError:
            counter.sweep(posted.account)
            return _put_off(posted.account, runtime, "took_too_long")
        finally:
            self._all_pending -= 1
            self._pending[posted.account] -= 1

    async def _ready(self) -> Answer:
        try:
            database = self._runtime().database
            problem = await self._for_work.wait(self._in_thread(partial(readiness.problem, database)), ANSWER_WITHIN)
        except TimeoutError:
            problem = "database"
        except MailglassError:
            problem = "settings"
        return Answer(503, _PLAIN, f"{problem}\n".encode()) if problem else Answer(200, _PLAIN, b"ready\n")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._in_thread(self._open)
                except MailglassError as error:
                    await send({"type": "lifespan.startup.failed", "message": f"mailglass: {error}"})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                threads, self._threads, self._counter = self._threads, None, None
                if threads is not None:
                    await asyncio.to_thread(threads.shutdown)
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _open(self) -> None:
        """Open what the first request would open, so that what is wrong shows at start."""
        runtime = self._runtime()
        runtime.settings.require_database()
        runtime.accounts.check()
        if runtime.settings.broker_url.reveal():
            _ = runtime.doorbell

    def _runtime(self) -> Runtime:
        return self._own or get_runtime()

    def _counter_for(self, runtime: Runtime) -> Counter:
        """Where webhooks wait for each other; anew where the settings have changed."""
        if self._counter is None or self._counter.runtime is not runtime:
            runtime.settings.require_database()
            self._counter = Counter(runtime, self._pool())
        return self._counter

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "mailglass-web")
        return self._threads

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool(), work)


def create_app(settings: Settings | None = None) -> WebApp:
    """The ASGI application.

    Args:
        settings: whose accounts and database; left out, the process's own, read when the application starts.
    """
    return WebApp(settings)


app = create_app()


def _put_off(account: str, runtime: Runtime, reason: str) -> Answer:
    telemetry.emit("mailglass.webhook.refused", level=logging.WARNING, reason=reason)
    return ingress.retry_later(account, runtime.accounts)


def _path(scope: Scope) -> str:
    """The path below the place where the application is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _not_allowed(methods: str) -> Answer:
    return Answer(405, (("allow", methods),))
