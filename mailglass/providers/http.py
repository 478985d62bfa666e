"""The one HTTP client of the provider rooms: kept connections, one request per attempt, and what a failure proves."""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import httpx

from mailglass.clock import monotonic, now
from mailglass.errors import ConfigError
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.refusals.answer_rows import ANSWERS
from mailglass.refusals.answers import Answer, find
from mailglass.refusals.consequences import FIRST, outcome_class, suppression

T = TypeVar("T")
R = TypeVar("R")

MAX_ANSWER: Final = 8 * 1024 * 1024
# a page of a list has some thousands; each takes some fifty times its size in memory
MAX_CONTAINERS: Final = 250_000
# the reason of an outcome whose answer was larger than that
TOO_LARGE: Final = "answer_too_large"
# shorter than the idle time after which load balancers commonly hang up (60 s and more), so that a request is
# seldom written into a connection that the other side is closing
KEEPALIVE: Final = 20.0
# a request that starts with less time than this left would mostly end as `uncertain`
LEAST_BUDGET: Final = 0.5
LONGEST_WAIT: Final = 86_400.0
_CHUNK: Final = 64 * 1024

_WAITING: Final = frozenset({OutcomeClass.THROTTLED, OutcomeClass.TRANSIENT, OutcomeClass.QUOTA})


@dataclass(frozen=True, kw_only=True)
class HTTPOptions:
    """The options every HTTP provider has; a room adds its own and the default of `base_url`.

    Attributes:
        base_url: the API's address; `https://`, or `http://` on this machine only.
        connect_timeout: seconds until a connection must stand.
        read_timeout: seconds without a byte of the answer.
        concurrency: requests in flight at once per process, where a provider takes one mail per request (1 to 64).
    """

    base_url: str
    connect_timeout: float = 5.0
    read_timeout: float = 30.0
    concurrency: int = 8

    def __post_init__(self) -> None:
        check_base_url(self.base_url)
        for name in ("connect_timeout", "read_timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(name, "not a duration", "Give seconds above zero")
        if not 1 <= self.concurrency <= 64:
            raise ConfigError("concurrency", "out of range", "Give 1 to 64")


def check_base_url(url: str) -> None:
    """Refuse an API address that would carry credentials in the clear.

    Raises:
        ConfigError: not a URL, not https on another machine, or with credentials in it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("https", "http") or parts.query or parts.fragment:
        raise ConfigError("base_url", "not a URL", "Write https://HOST, with a path if the provider has one")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("base_url", "holds credentials", "Give them as the account's own options")
    if parts.scheme == "http" and not _loopback(host):
        raise ConfigError("base_url", "http to another machine would show the credentials", "Use https://")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """One request, path below the base URL."""

    path: str
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class HTTPAnswer:
    """A whole answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """True if the status says that the request was done."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the body's JSON value, or None if it is not JSON, or of more objects than any answer has."""
        if self.body.count(b"{") + self.body.count(b"[") > MAX_CONTAINERS:
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class HTTPClient:
    """One account's connections. Safe from several threads; after a fork the child starts with connections of its own.

    Args:
        options: address, timeouts, concurrency.
        headers: sent with every request, credentials among them.
    """

    def __init__(self, options: HTTPOptions, headers: Mapping[str, str]) -> None:
        self._options = options
        self._headers = dict(headers)
        self._life: _Life | None = None

    def exchange(self, request: HTTPRequest, *, deadline: float) -> HTTPAnswer | Outcome:
        """Write one request and read its answer, once.

        Returns:
            The answer, whatever its status; or, where there is none, the outcome that is proved for every mail of
            the request: `transient` when it was not written completely, so that nobody can have accepted it, else
            `uncertain`.

        Args:
            request: what to write.
            deadline: on `clock.monotonic()`. No timeout reaches past it, and with less than half a second left
                nothing is started.
        """
        left = deadline - monotonic()
        if left < LEAST_BUDGET:
            return Outcome(OutcomeClass.TRANSIENT, reason="deadline")
        progress = _Progress()
        try:
            return self._exchange(request, deadline, left, progress)
        except _Huge:
            return Outcome(OutcomeClass.UNCERTAIN, reason=TOO_LARGE)
        except _Late:
            pass
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError):
            if not progress.written:
                return Outcome(OutcomeClass.MISCONFIGURED, reason="request_invalid")
        except (httpx.HTTPError, OSError, RuntimeError, ValueError):
            pass  # what it is called proves nothing; how far the request came does
        if progress.written:
            return Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
        return Outcome(OutcomeClass.TRANSIENT, reason="request_incomplete" if progress.begun else "connect_failed")

    def _exchange(self, request: HTTPRequest, deadline: float, left: float, progress: _Progress) -> HTTPAnswer:
        options = self._options
        client = self._own().client
        timeout = httpx.Timeout(min(options.read_timeout, left), connect=min(options.connect_timeout, left))
        headers = {"content-length": str(len(request.body)), **request.headers}
        small = len(request.body) <= _CHUNK
        with client.stream(
            request.method,
            options.base_url.rstrip("/") + request.path,
            content=request.body if small else _pieces(request.body, deadline),
            headers=headers if request.body else request.headers,
            timeout=timeout,
            extensions={"trace": progress.note},
        ) as response:
            received = bytearray()
            for piece in response.iter_raw():
                received += piece
                if len(received) > MAX_ANSWER:
                    raise _Huge
                if monotonic() > deadline:
                    raise _Late
            body = _unpacked(bytes(received), response.headers.get("content-encoding", ""))
            return HTTPAnswer(response.status_code, dict(response.headers), body)

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`work` for every item, on the account's bounded pool of threads; results in the items' order."""
        if len(items) < 2:
            return [work(item) for item in items]
        futures = [self._own().pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Close the kept connections; the next request opens new ones."""
        life, self._life = self._life, None
        if life is not None and life.pid == os.getpid():
            life.pool.shutdown(wait=False, cancel_futures=True)
            life.client.close()

    def _own(self) -> _Life:
        life = self._life
        if life is None or life.pid != os.getpid():
            # two threads may both come here once; the loser's client has opened no connection
            life = self._life = _Life(os.getpid(), self._open(), ThreadPoolExecutor(self._options.concurrency, "http"))
        return life

    def _open(self) -> httpx.Client:
        # they would write URLs, in which some providers' paths hold addresses
        logging.getLogger("httpx").setLevel(logging.WARNING)
        logging.getLogger("httpcore").setLevel(logging.WARNING)
        return httpx.Client(
            headers={"user-agent": "mailglass", "accept": "application/json", "accept-encoding": "identity"}
            | self._headers,
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=self._options.concurrency,
                keepalive_expiry=KEEPALIVE,
            ),
            follow_redirects=False,
            trust_env=not _loopback(urlsplit(self._options.base_url).hostname or ""),
        )


@dataclass(frozen=True, slots=True)
class _Life:
    """State of one process: neither sockets nor threads survive a fork."""

    pid: int
    client: httpx.Client
    pool: ThreadPoolExecutor


class _Late(Exception):
    """The deadline passed in the middle of an exchange."""


class _Huge(Exception):
    """The answer grew too large."""


class _Progress:
    """Progress of a request onto the wire, by the transport's own trace.

    `written` turns true only when the last byte of the body was handed to the kernel. Until then the other side has
    less than Content-Length announced and cannot have accepted anything, whatever the exception is called.
    """

    __slots__ = ("begun", "written")

    def __init__(self) -> None:
        self.begun = False
        self.written = False

    def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Note a step of the transport."""
        if event == "http11.send_request_headers.started":
            # a proxy's CONNECT comes through here too and carries nothing of ours
            self.begun = info["request"].method != b"CONNECT"
        elif event == "http11.send_request_body.complete" and self.begun:
            self.written = True


def _unpacked(body: bytes, encoding: str) -> bytes:
    """Return the answer decompressed. No request of ours asks for compression, and some servers compress anyway.

    Raises:
        _Huge: it is larger than `MAX_ANSWER`, however small it came.
        ValueError: it is damaged or cut off.
    """
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        unpacked = stream.decompress(body, MAX_ANSWER + 1)
    except zlib.error:
        raise ValueError("not what its encoding says") from None
    if len(unpacked) > MAX_ANSWER:
        raise _Huge
    if not stream.eof:
        raise ValueError("cut off")
    return unpacked


def _pieces(body: bytes, deadline: float) -> Iterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(body), _CHUNK):
        if monotonic() > deadline:
            raise _Late
        yield bytes(view[start : start + _CHUNK])


def refusal(
    answer: HTTPAnswer,
    provider: str,
    code: str = "",
    text: str = "",
    *,
    rows: Sequence[Answer] | None = None,
    reset: tuple[str, Literal["epoch", "seconds"]] | None = None,
    reason: str | None = None,
) -> Outcome:
    """Return the outcome of a mail that this answer refused, or did not certainly take.

    Args:
        answer: the answer.
        provider: whose, by its name in settings.
        code: the provider's own code for what went wrong; "" for none.
        text: its message, which may hold addresses; it is looked at and never kept.
        rows: what the codes mean; None: the rows that `mailglass.refusals.answer_rows` has for the provider.
        reset: header that tells when the rate limit ends, for providers without Retry-After.
        reason: of the outcome; None: the code where a row names it, else the status.
    """
    row = find(ANSWERS.get(provider, ()) if rows is None else rows, answer.status, code, text)
    meaning = row.refusal
    kind, rule = outcome_class(meaning), suppression(meaning)
    if reason is None:
        known = row.name or (code if code in row.codes else "")
        reason = f"{provider}_{known}" if known else f"http_{answer.status}"
    days = rule.days if rule is not None and kind is OutcomeClass.SUPPRESSED else None
    return Outcome(
        kind,
        reason=reason,
        status=answer.status or None,
        retry_after=retry_after(answer.headers, reset) if kind in _WAITING else None,
        hard_bounce=rule is FIRST,
        suppressed_for=None if days is None else days * 86_400.0,
        refusal=None if meaning.unsettled else meaning,
    )


def retry_after(
    headers: Mapping[str, str], reset: tuple[str, Literal["epoch", "seconds"]] | None = None
) -> float | None:
    """Seconds the provider asks to wait: Retry-After (RFC 9110 10.2.3), else its own header; 0 to a day, or None.

    Args:
        headers: of the answer, names in lower case.
        reset: a header's name in lower case, and whether it holds Unix time or seconds from now.
    """
    wait = _seconds(headers.get("retry-after", ""))
    if wait is None and (date := headers.get("retry-after")):
        try:
            moment = parsedate_to_datetime(date[:200])
            wait = (moment.replace(tzinfo=moment.tzinfo or UTC) - now()).total_seconds()
        except (ValueError, OverflowError):
            wait = None
    if wait is None and reset is not None:
        wait = _seconds(headers.get(reset[0], ""))
        if wait is not None and reset[1] == "epoch":
            wait -= now().timestamp()
    return None if wait is None else min(max(wait, 0.0), LONGEST_WAIT)


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
