"""The webhook endpoint before strangers: heads, bodies and connections that never end keep nobody else waiting."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from mailglass.web import WebApp, memory_budget, protocol
from mailglass.web.protocol import MAX_HEAD
from tests.serving import StillRuntime, post, serving, status

BOTH = pytest.mark.parametrize("parser", ["_httptools_protocol", "_h11_protocol"])
POST = b"POST /webhooks/%s HTTP/1.1\r\nHost: x\r\n%s\r\n"
STALLED = b"Content-Length: 1000\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.fixture
def parser() -> str:
    return "_httptools_protocol"


@pytest.fixture
def served(database_url: str, parser: str) -> Iterator[tuple[int, WebApp, StillRuntime]]:
    with serving(database_url, getattr(protocol, parser)(), trusted_proxies=("127.0.0.1",)) as found:
        yield found


@pytest.fixture
def port(served: tuple[int, WebApp, StillRuntime]) -> int:
    return served[0]


@pytest.fixture
def say(port: int) -> Iterator[Callable[..., socket.socket]]:
    """Open a connection and send something on it."""
    with ExitStack() as opened:

        def connect(text: bytes = b"") -> socket.socket:
            connection = opened.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=20)))
            connection.sendall(text)
            return connection

        yield connect


def answer(connection: socket.socket) -> int:
    """The status that comes back, 0 where the connection ends without one."""
    with suppress(ConnectionError):
        if line := connection.recv(65536):
            return int(line.split(b" ")[1])
    return 0


def from_peer(number: int) -> bytes:
    return b"X-Forwarded-For: 198.51.%d.%d\r\n" % divmod(number, 250)


def test_bodiless_requests_to_no_account_are_refused_before_their_bodies(
    port: int, served: tuple[int, WebApp, StillRuntime], say: Callable[..., socket.socket]
) -> None:
    strangers = [say(POST % (b"nobody", STALLED)) for _ in range(250)]
    assert {answer(stranger) for stranger in strangers} == {404}
    # nor is anything that they send afterwards read
    assert all(stranger.recv(1) == b"" for stranger in strangers)
    assert len(served[1]._memory) == 0
    assert post(port) == 200


@pytest.mark.parametrize("request_line", [b"POST /elsewhere", b"GET /healthz", b"PUT /webhooks/steady"])
@pytest.mark.parametrize("framing", [STALLED, CHUNKED])
def test_a_body_that_nobody_reads_ends_its_connection(
    say: Callable[..., socket.socket], request_line: bytes, framing: bytes
) -> None:
    connection = say(request_line + b" HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n")
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    assert b"connection: close" in received.lower()


@pytest.mark.parametrize("framing", [STALLED, CHUNKED])
def test_stalled_bodies_of_one_peer_keep_no_other_waiting_and_are_bounded(
    port: int,
    served: tuple[int, WebApp, StillRuntime],
    say: Callable[..., socket.socket],
    framing: bytes,
    wait_for: Callable[..., None],
) -> None:
    other = say(POST % (b"steady", STALLED + from_peer(1)))
    wait_for(lambda: len(served[1]._memory) == 1)
    strangers = [say(POST % (b"steady", framing + from_peer(0))) for _ in range(memory_budget.PER_PEER + 20)]
    # those that stalled longest are asked to come again
    assert [answer(stranger) for stranger in strangers[:20]] == [503] * 20
    assert len(served[1]._memory) == memory_budget.PER_PEER + 1
    assert [post(port, account) for account in ("steady", "slow")] == [200, 200]
    other.sendall(b"x" * 1000)
    assert answer(other) == 200


def test_stalled_bodies_of_many_peers_keep_no_account_from_its_webhooks(
    port: int, served: tuple[int, WebApp, StillRuntime], say: Callable[..., socket.socket]
) -> None:
    strangers = [
        say(POST % (b"steady", STALLED + from_peer(number))) for number in range(memory_budget.PER_ACCOUNT + 20)
    ]
    assert [answer(stranger) for stranger in strangers[:20]] == [503] * 20
    assert len(served[1]._memory) == memory_budget.PER_ACCOUNT
    assert [post(port, account) for account in ("steady", "slow")] == [200, 200]


def test_large_bodies_that_stall_give_way_to_small_ones(
    port: int,
    served: tuple[int, WebApp, StillRuntime],
    say: Callable[..., socket.socket],
    wait_for: Callable[..., None],
) -> None:
    served[1]._memory.free = free = 400_000
    stalled = [say(POST % (b"steady", b"Content-Length: 150000\r\n") + b"x" * 149_999) for _ in range(2)]
    wait_for(lambda: served[1]._memory.free == free - 2 * 149_999)
    answers = [post(port, "steady", b"%d" % number * 50_000) for number in range(1, 6)]
    assert answers == [200] * 5
    third = say(POST % (b"slow", b"Content-Length: 150000\r\n") + b"x" * 149_999)
    assert {answer(one) for one in stalled[:1]} == {503}
    third.sendall(b"x")
    assert answer(third) == 200
    assert post(port, "steady", b"y" * 190_000) == 200


ENDLESS = {
    "a header's value": (POST % (b"steady", b"X: "))[:-2],
    "a header's name": b"POST / HTTP/1.1\r\nX",
    "a path": b"GET /",
    "many headers": b"POST /webhooks/steady HTTP/1.1\r\n",
    "a chunk's extension": POST % (b"steady", CHUNKED) + b"1;",
    "a trailer": POST % (b"steady", CHUNKED) + b"1\r\nx\r\n0\r\nX: ",
    "many trailers": POST % (b"steady", CHUNKED) + b"1\r\nx\r\n0\r\n",
}


@BOTH
@pytest.mark.parametrize("what", ENDLESS)
def test_a_head_or_frame_without_end_is_read_no_further_than_its_bound(
    port: int, say: Callable[..., socket.socket], parser: str, what: str
) -> None:
    connection = say(ENDLESS[what])
    piece = b"X: yyyyyyyyyyy\r\n" if "many" in what else b"y" * 16
    with suppress(ConnectionError):
        # what the sockets of both ends hold is sent, whether anybody reads it or not
        for _ in range(400):
            connection.sendall(piece * 4096)
        pytest.fail("26 MB of it were read")
    assert post(port) == 200


@BOTH
def test_a_large_head_within_the_bound_is_read(say: Callable[..., socket.socket], parser: str) -> None:
    connection = say(POST % (b"steady", b"X: " + b"y" * (MAX_HEAD - 1000) + b"\r\nContent-Length: 2\r\n") + b"[]")
    assert answer(connection) == 200


def test_a_head_beyond_the_bound_is_answered_431(say: Callable[..., socket.socket]) -> None:
    assert answer(say(b"POST /webhooks/steady HTTP/1.1\r\nX: " + b"y" * 8 * MAX_HEAD)) == 431
    # whole in one piece, too
    assert answer(say(POST % (b"steady", b"X: " + b"y" * MAX_HEAD + b"\r\nContent-Length: 2\r\n") + b"[]")) == 431


@BOTH
@pytest.mark.parametrize("first", [b"", POST % (b"steady", b"Content-Length: 2\r\n") + b"[]"])
@pytest.mark.parametrize("piece", [b"X: y\r\n", b"\r\n"])
def test_a_head_that_takes_too_long_ends_its_connection(
    say: Callable[..., socket.socket], parser: str, first: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 0.1)
    monkeypatch.setattr(protocol, "_CHECK_EVERY", 0.05)
    connection = say(first)
    if first:
        assert answer(connection) == 200
    if piece.strip():
        connection.sendall(b"POST /webhooks/steady HTTP/1.1\r\n")
    end = time.monotonic() + 20
    with suppress(ConnectionError):
        while time.monotonic() < end:
            # each piece is another one in time
            connection.sendall(piece)
            connection.settimeout(0.03)
            with suppress(TimeoutError):
                # h11 takes an empty line for a bad request, and answers
                while connection.recv(65536):
                    pass
                return
        pytest.fail("it is still waited for")


def test_a_connection_that_never_says_anything_is_closed(
    say: Callable[..., socket.socket], served: tuple[int, WebApp, StillRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "FIRST_BYTE_TIMEOUT", 0.1)
    assert say().recv(1) == b""


def test_of_too_many_connections_that_say_nothing_the_oldest_are_closed(
    port: int, say: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_IDLE", 10)
    silent = [say(b"POST /web" if number % 2 else b"") for number in range(30)]
    assert all(connection.recv(1) == b"" for connection in silent[:20])
    assert post(port) == 200 and status(port, "/healthz") == 200


def test_requests_sent_ahead_of_their_answers_are_bounded(say: Callable[..., socket.socket]) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    few = say(request * protocol.MAX_PIPELINED)
    received = b""
    while received.count(b"HTTP/1.1 200") < protocol.MAX_PIPELINED:
        received += few.recv(65536)
    assert answer(say(request * 1000)) in (200, 400)
    many = say(request * 1000)
    received = b""
    with suppress(ConnectionError):
        while chunk := many.recv(65536):
            received += chunk
    assert received.count(b"HTTP/1.1 200") <= protocol.MAX_PIPELINED + 1


def test_hanging_webhooks_of_an_account_leave_room_for_the_others(
    port: int,
    served: tuple[int, WebApp, StillRuntime],
    say: Callable[..., socket.socket],
    wait_for: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mailglass.web.asgi.MAX_PENDING_OF_ACCOUNT", 5)
    monkeypatch.setattr("mailglass.web.asgi.MAX_PENDING", 6)
    _, application, runtime = served
    runtime.slow.go.clear()
    hanging = [say(POST % (b"slow", b"Content-Length: 2\r\n") + b"[]") for _ in range(5)]
    wait_for(lambda: application._all_pending == 5)
    assert post(port, "slow", b"1") == 429
    assert post(port, "steady", b"1") == 200
    runtime.slow.go.set()
    assert {answer(connection) for connection in hanging} == {200}


def test_a_peer_that_is_no_proxy_of_ours_is_not_believed_about_itself(
    served: tuple[int, WebApp, StillRuntime], database_url: str
) -> None:
    with serving(database_url) as (port, application, _), ExitStack() as opened:
        for number in range(memory_budget.PER_PEER + 10):
            connection = socket.create_connection(("127.0.0.1", port), timeout=20)
            opened.callback(connection.close)
            connection.sendall(POST % (b"steady", STALLED + from_peer(number)))
        assert post(port) == 200
        assert len(application._memory) <= memory_budget.PER_PEER
