"""The ASGI application: webhooks, liveness, readiness. Needs no framework.

| path | method | answers |
| --- | --- | --- |
| `/webhooks/{account}` | POST | as `mailglass.webhooks.ingress`; 503, or the provider's own status, when overloaded |
| `/webhooks/{tenant}/{account}` | POST | the same, of one tenant |
| `/healthz` | GET | 200 while the process serves; needs no database |
| `/readyz` | GET | 200 if the database answers and has the right schema, else 503 |

One slash at the end of a path is allowed, since Litestar appends one to the path of a mount.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from mailglass import telemetry
from mailglass.errors import ConfigError, MailglassError
from mailglass.runtime import Runtime, get_runtime
from mailglass.settings import Settings
from mailglass.web import readiness
from mailglass.web.http import (
    BudgetExceeded,
    ClientDisconnected,
    Receive,
    Scope,
    Send,
    closing,
    peer_of,
    read_body,
    respond,
    webhook_request,
)
from mailglass.web.memory_budget import MemoryBudget
from mailglass.web.timeouts import SharedTimeout
from mailglass.web.webhook_batcher import WebhookBatcher
from mailglass.webhooks import ingress
from mailglass.webhooks.ingress import IncomingWebhook, Response

T = TypeVar("T")

# as many as the ledger's pool has connections
THREADS = 10
# each holds its body in memory while it waits for a thread
MAX_PENDING = 200
# so that an account whose webhooks hang leaves room for the others
MAX_PENDING_OF_ACCOUNT = 150
MAX_BODY_MEMORY = 128 * 1024 * 1024
# seconds; some providers give up after 10 s. A webhook that is stored after the timeout is a duplicate when it comes
# again
RESPONSE_TIMEOUT = 5.0

_PLAIN = (("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store"))
NOT_FOUND = Response(404)
_NO_NAMES = frozenset({"", ".", ".."})


class WebApp:
    """ASGI application of webhooks, liveness and readiness; made by `create_app`.

    Args:
        settings: the accounts and the database; the process's own by default.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._own = None if settings is None else Runtime(settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._batcher: WebhookBatcher | None = None
        self._body_timeout, self._response_timeout = SharedTimeout(), SharedTimeout()
        self._memory = MemoryBudget(MAX_BODY_MEMORY)
        # webhooks in work by account, which the settings know
        self._pending: Counter[str] = Counter()
        self._all_pending = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        self._enter_loop()
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                response = await self._respond(scope, receive)
            except ClientDisconnected:
                return
            await respond(send, response, with_body=scope["method"] != "HEAD")
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    @asynccontextmanager
    async def lifespan(self, application: object = None) -> AsyncIterator[None]:
        """Open what webhooks need when a process starts, and end the threads when it stops.

        Frameworks do not run the lifespan of an application that they mount. Give them this one, so that wrong
        settings show at the start and not with the first webhook: `FastAPI(lifespan=mailglass.web.app.lifespan)`.

        Args:
            application: the application that starts, as Starlette, FastAPI and Litestar pass it.

        Raises:
            MailglassError: the settings are wrong, or an account cannot be opened.
        """
        await self._in_thread(self._open)
        try:
            yield
        finally:
            threads, self._threads, self._batcher = self._threads, None, None
            if threads is not None:
                await asyncio.to_thread(threads.shutdown)

    def _enter_loop(self) -> None:
        """Leave the event loop of earlier requests, as of another test client: its timers are never called again."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._batcher = loop, None
            self._body_timeout, self._response_timeout = SharedTimeout(), SharedTimeout()

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        path, method = _path(scope), scope["method"]
        if path == "/healthz":
            response = Response(200, _PLAIN, b"ok\n") if method in ("GET", "HEAD") else _not_allowed("GET, HEAD")
            return closing(response, scope)
        if path == "/readyz":
            return closing(await self._ready() if method in ("GET", "HEAD") else _not_allowed("GET, HEAD"), scope)
        prefix, *names = path.removeprefix("/").split("/")
        if prefix != "webhooks" or len(names) not in (1, 2) or not _NO_NAMES.isdisjoint(names):
            return closing(NOT_FOUND, scope)
        if method != "POST":
            return closing(_not_allowed("POST"), scope)
        return await self._webhook(names[-1], names[0] if len(names) == 2 else None, scope, receive)

    async def _webhook(self, account: str, tenant: str | None, scope: Scope, receive: Receive) -> Response:
        try:
            runtime = self._runtime()
            batcher = self._batcher_for(runtime)
        except ConfigError as error:
            telemetry.emit("mailglass.webhook.misconfigured", level=logging.ERROR, status=500, reason=error.key)
            return closing(ingress.MISCONFIGURED, scope)
        # before the body is read, so that strangers' requests cost nothing
        if account not in runtime.settings.accounts and (refused := await _refused(account, runtime)) is not None:
            return closing(refused, scope)
        if batcher.is_stuck(account):
            return closing(_overloaded(account, runtime, "batches_stuck"), scope)
        if not self._has_capacity(account):
            return closing(_overloaded(account, runtime, "too_many_pending"), scope)
        webhooks = runtime.settings.webhooks
        try:
            peer = peer_of(scope, webhooks.trusted_proxies)
            body = await read_body(scope, receive, webhooks.max_body, self._body_timeout, self._memory, account, peer)
        except BudgetExceeded:
            return closing(_overloaded(account, runtime, "too_many_bodies"), scope)
        if isinstance(body, Response):
            telemetry.emit("mailglass.webhook.refused", level=logging.WARNING, status=body.status)
            return body
        content, reading = body
        try:
            if not self._has_capacity(account):
                return _overloaded(account, runtime, "too_many_pending")
            webhook = IncomingWebhook(account, webhook_request(scope, content), tenant)
            return await self._handle(webhook, batcher, runtime)
        finally:
            self._memory.release(reading)

    def _has_capacity(self, account: str) -> bool:
        return self._all_pending < MAX_PENDING and self._pending[account] < MAX_PENDING_OF_ACCOUNT

    async def _handle(self, webhook: IncomingWebhook, batcher: WebhookBatcher, runtime: Runtime) -> Response:
        self._all_pending += 1
        self._pending[webhook.account] += 1
        try:
            return await self._response_timeout.wait(batcher.submit(webhook), RESPONSE_TIMEOUT)
        except TimeoutError:
            batcher.discard_abandoned(webhook.account)
            return _overloaded(webhook.account, runtime, "took_too_long")
        finally:
            self._all_pending -= 1
            self._pending[webhook.account] -= 1

    async def _ready(self) -> Response:
        try:
            database = self._runtime().database
            problem = await self._response_timeout.wait(
                self._in_thread(partial(readiness.problem, database)), RESPONSE_TIMEOUT
            )
        except TimeoutError:
            problem = "database"
        except MailglassError:
            problem = "settings"
        return Response(503, _PLAIN, f"{problem}\n".encode()) if problem else Response(200, _PLAIN, b"ready\n")

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        running = self.lifespan()
        try:
            await running.__aenter__()
        except MailglassError as error:
            await send({"type": "lifespan.startup.failed", "message": f"mailglass: {error}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await running.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})

    def _open(self) -> None:
        """Open what the first request needs, so that wrong settings show at the start."""
        self._runtime().prepare_for_webhooks()

    def _runtime(self) -> Runtime:
        return self._own or get_runtime()

    def _batcher_for(self, runtime: Runtime) -> WebhookBatcher:
        """Return the batcher of this runtime; a new one if the settings have changed."""
        if self._batcher is None or self._batcher.runtime is not runtime:
            _ = runtime.database
            self._batcher = WebhookBatcher(runtime, self._pool())
        return self._batcher

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "mailglass-web")
        return self._threads

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool(), work)


def create_app(settings: Settings | None = None) -> WebApp:
    """Return an ASGI application that serves webhooks, liveness and readiness.

    Args:
        settings: the accounts and the database; by default the process's own, read when the application starts.
    """
    return WebApp(settings)


app = create_app()


async def _refused(account: str, runtime: Runtime) -> Response | None:
    """Return the response to a webhook for an account that neither settings nor the application know."""
    if not runtime.accounts.is_resolved(account):
        return ingress.unknown_account()
    if runtime.accounts.is_fresh(account):
        return None
    # apart from the threads that webhooks need, because an application's hook may hang
    return await asyncio.to_thread(ingress.refuse_unknown, account, runtime.accounts)


def _overloaded(account: str, runtime: Runtime, reason: str) -> Response:
    telemetry.emit("mailglass.webhook.refused", level=logging.WARNING, reason=reason)
    return ingress.retry_later(account, runtime.accounts)


def _path(scope: Scope) -> str:
    """Return the path below the application's mount point, without the slash that Litestar appends to it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    below = path[len(root) :] if root and path.startswith(f"{root}/") else path
    return below.removesuffix("/")


def _not_allowed(methods: str) -> Response:
    return Response(405, (("allow", methods),))
