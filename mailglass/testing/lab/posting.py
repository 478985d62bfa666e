"""The lab's webhooks: events fall due, are bundled and signed as their provider does, and posted until acknowledged."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import urlsplit

from mailglass.errors import ConfigError
from mailglass.testing.lab.line import Line

_TICK: Final = 0.02
_LONGEST_PAUSE: Final = 15.0


class Sender(Protocol):
    """An account that posts webhooks."""

    @property
    def account(self) -> str:
        """The last part of its webhook URL."""

    @property
    def bundle(self) -> int:
        """Number of events in one webhook; 1 means a bare object, more an array."""

    def sign(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove where this body comes from."""


@runtime_checkable
class Packer(Sender, Protocol):
    """An account whose webhooks are no plain JSON, or carry their proof in the body."""

    @property
    def stop_status(self) -> int | None:
        """The status at which it gives up on a webhook; None: at none."""

    def pack(self, events: list[dict[str, Any]]) -> tuple[bytes, Mapping[str, str]]:
        """Return the body of these events and its headers: content type and proofs. Called anew for every try."""


@runtime_checkable
class Choosy(Sender, Protocol):
    """An account that gives up on a webhook at more than one status."""

    def gives_up(self, status: int) -> bool:
        """Return whether an answer that is not 2xx ends it; status 0 is no answer."""


@dataclass(slots=True)
class _Post:
    sender: Sender
    events: list[dict[str, Any]]
    attempt: int = 0


class Poster:
    """Posts events to `{url}/{account}`. Never gives up on an event, except where a status says stop: mostly 403.

    Args:
        url: where mailglass receives webhooks, on this machine; None: events are dropped.
        concurrency: posts in flight at once.
        first_pause: seconds until the first repetition; each later one waits twice as long, up to 15.
    """

    def __init__(self, url: str | None, *, concurrency: int = 16, first_pause: float = 0.5) -> None:
        parts = urlsplit(url or "")
        if url is not None and (parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost", "::1")):
            raise ConfigError("webhooks", "not on this machine", "Give a loopback URL, such as http://127.0.0.1:8000")
        self._host, self._port = parts.hostname, parts.port or 80
        self._path = parts.path.rstrip("/")
        self._url = url.rstrip("/") if url else None
        self._concurrency = concurrency
        self._first_pause = first_pause
        self._due: list[tuple[float, int, _Post]] = []
        self._order = itertools.count()
        self._ready: asyncio.Queue[_Post] = asyncio.Queue()
        self._running = asyncio.Event()
        self._running.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._counted: Counter[str] = Counter()

    def schedule(self, sender: Sender, event: dict[str, Any], delay: float) -> None:
        """Have an event told `delay` seconds from now."""
        if self._host is not None:
            self._counted["events"] += 1
            self._push(_Post(sender, [event]), delay)

    def url(self, account: str) -> str:
        """Return the URL of an account's webhooks, or "" where none are posted."""
        return f"{self._url}/{account}" if self._url else ""

    def pause(self) -> None:
        """Hold back what falls due."""
        self._running.clear()

    def resume(self) -> None:
        """Go on."""
        self._running.set()

    def counts(self) -> dict[str, int]:
        """Webhooks posted (every try), acknowledged and refused for good; events that are not acknowledged yet."""
        counted = self._counted
        return {
            "webhooks_posted": counted["posted"],
            "webhooks_acknowledged": counted["acknowledged"],
            "webhooks_refused": counted["refused"],
            "webhooks_pending": counted["events"] - counted["settled"],
        }

    async def start(self) -> None:
        """Begin to post."""
        if self._host is not None:
            lines = [Line(self._host, self._port) for _ in range(self._concurrency)]
            self._tasks = [asyncio.create_task(self._release())]
            self._tasks += [asyncio.create_task(self._work(line)) for line in lines]

    async def stop(self) -> None:
        """Drop what is pending and hang up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def _push(self, post: _Post, delay: float) -> None:
        heapq.heappush(self._due, (asyncio.get_running_loop().time() + delay, next(self._order), post))

    async def _release(self) -> None:
        """Move what is due to the posting tasks, single events bundled as their account does."""
        while True:
            await asyncio.sleep(_TICK)
            await self._running.wait()
            now = asyncio.get_running_loop().time()
            fresh: defaultdict[Sender, list[dict[str, Any]]] = defaultdict(list)
            while self._due and self._due[0][0] <= now:
                post = heapq.heappop(self._due)[2]
                if post.attempt:
                    self._ready.put_nowait(post)
                else:
                    fresh[post.sender] += post.events
            for sender, events in fresh.items():
                for start in range(0, len(events), sender.bundle):
                    self._ready.put_nowait(_Post(sender, events[start : start + sender.bundle]))

    async def _work(self, line: Line) -> None:
        try:
            while True:
                post = await self._ready.get()
                await self._running.wait()
                self._note(post, await self._post(line, post))
        finally:
            await line.close()

    def _note(self, post: _Post, status: int) -> None:
        self._counted["posted"] += 1
        good = 200 <= status < 300
        if good or _gives_up(post.sender, status):
            self._counted["acknowledged" if good else "refused"] += 1
            self._counted["settled"] += len(post.events)
        else:
            post.attempt += 1
            self._push(post, min(self._first_pause * 2 ** min(post.attempt - 1, 10), _LONGEST_PAUSE))

    async def _post(self, line: Line, post: _Post) -> int:
        path = f"{self._path}/{post.sender.account}"
        if isinstance(post.sender, Packer):
            body, headers = post.sender.pack(post.events)
            return await line.post(path, body, headers)
        single = post.sender.bundle == 1
        # real arrays end in CR LF, which the signature covers
        body = json.dumps(post.events[0]).encode() if single else json.dumps(post.events).encode() + b"\r\n"
        return await line.post(path, body, post.sender.sign(body))


def _gives_up(sender: Sender, status: int) -> bool:
    if isinstance(sender, Choosy):
        return sender.gives_up(status)
    return status == (sender.stop_status if isinstance(sender, Packer) else 403)
