"""What a failed exchange proves, against a server that fails in every way a server can."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from mailglass.clock import monotonic
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers import http
from mailglass.providers.http import HTTPAnswer, HTTPClient, HTTPOptions, HTTPRequest

SMALL = HTTPRequest("/send", b'{"small":true}', {"content-type": "application/json"})
LARGE = HTTPRequest("/send", b"x" * 8_000_000)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Request: 1\r\n\r\nok"
LOST = Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
INCOMPLETE = Outcome(OutcomeClass.TRANSIENT, reason="request_incomplete")
FAILED = Outcome(OutcomeClass.TRANSIENT, reason="connect_failed")


class Scripted:
    """Accepts connections and hands the n-th of them to the n-th step of a script; the last step serves the rest."""

    def __init__(self, *script: Callable[[socket.socket], None]) -> None:
        self.script = script
        self.connections = 0
        self.done = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        while not self.done.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            step = self.script[min(self.connections, len(self.script) - 1)]
            self.connections += 1
            thread = threading.Thread(target=self._run, args=(step, connection), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, step: Callable[[socket.socket], None], connection: socket.socket) -> None:
        connection.settimeout(60)
        with connection, suppress(OSError):
            step(connection)

    def close(self) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join(60)
        self._listener.close()


def read_request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            raise OSError
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        piece = connection.recv(65536)
        if not piece:
            raise OSError
        body += piece
    return head


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def answering(answer: bytes, times: int = 1000) -> Callable[[socket.socket], None]:
    def step(connection: socket.socket) -> None:
        for _ in range(times):
            read_request(connection)
            connection.sendall(answer)

    return step


@contextmanager
def serving(*script: Callable[[socket.socket], None]) -> Iterator[Scripted]:
    server = Scripted(*script)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def client_of(port: int, *, scheme: str = "http", read_timeout: float = 5.0, **more: int) -> Iterator[HTTPClient]:
    options = HTTPOptions(base_url=f"{scheme}://127.0.0.1:{port}/api/", read_timeout=read_timeout, **more)
    client = HTTPClient(options, {"x-token": "secret"})
    try:
        yield client
    finally:
        client.close()


def ask(client: HTTPClient, request: HTTPRequest = SMALL, seconds: float = 30.0) -> HTTPAnswer | Outcome:
    return client.exchange(request, deadline=monotonic() + seconds)


def once(step: Callable[[socket.socket], None], request: HTTPRequest = SMALL, *, seconds: float = 30.0, **more: float):  # type: ignore[no-untyped-def]
    with serving(step) as server, client_of(server.port, **more) as client:
        return ask(client, request, seconds)


def test_an_answer_comes_back_whole_and_the_connection_is_kept() -> None:
    heads: list[bytes] = []

    def step(connection: socket.socket) -> None:
        while True:
            heads.append(read_request(connection))
            connection.sendall(OK)

    with serving(step) as server, client_of(server.port) as client:
        answers = [ask(client) for _ in range(3)]
        assert server.connections == 1
    for answer in answers:
        assert isinstance(answer, HTTPAnswer)
        assert (answer.status, answer.headers["x-request"], answer.body) == (200, "1", b"ok")
    assert heads[0].startswith(b"POST /api/send HTTP/1.1\r\n")
    assert b"x-token: secret" in heads[0].lower() and b"content-length: 14" in heads[0].lower()


def test_a_refused_connection_is_transient() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with client_of(port) as client:
        assert ask(client) == FAILED


def test_a_failed_tls_handshake_is_transient() -> None:
    def no_tls(connection: socket.socket) -> None:
        connection.recv(10)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(no_tls) as server, client_of(server.port, scheme="https") as client:
        assert ask(client) == FAILED


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 O"],
)
def test_a_proxy_that_opens_no_tunnel_has_seen_nothing_of_the_request(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    heads: list[bytes] = []

    def proxy(connection: socket.socket) -> None:
        heads.append(read_request(connection))
        connection.sendall(answer)

    with serving(proxy) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
        client = HTTPClient(HTTPOptions(base_url="https://mail.example.com"), {})
        assert ask(client) == FAILED
        client.close()
    assert heads[0].startswith(b"CONNECT mail.example.com:443 ")


def test_a_request_cut_off_in_the_middle_is_transient() -> None:
    def step(connection: socket.socket) -> None:
        connection.recv(1000)
        reset(connection)

    assert once(step, LARGE) == INCOMPLETE


def test_a_request_that_the_server_stops_reading_is_transient_at_the_timeout() -> None:
    stop = threading.Event()

    def step(connection: socket.socket) -> None:
        connection.recv(1000)
        stop.wait(60)

    with serving(step) as server, client_of(server.port, read_timeout=0.3) as client:
        assert ask(client, LARGE) == INCOMPLETE
        stop.set()


def test_a_request_that_is_read_too_slowly_is_given_up_at_the_deadline_while_it_is_still_incomplete() -> None:
    stop = threading.Event()

    def step(connection: socket.socket) -> None:
        # no single write waits long, and all of them together would take far longer than the deadline
        while not stop.wait(0.01):
            connection.recv(65_536)

    with serving(step) as server, client_of(server.port) as client:
        assert ask(client, HTTPRequest("/send", b"x" * 40_000_000), seconds=1.0) == INCOMPLETE
        stop.set()


def test_a_connection_closed_after_the_whole_request_is_uncertain() -> None:
    def step(connection: socket.socket) -> None:
        read_request(connection)

    assert once(step) == LOST
    assert once(step, LARGE) == LOST


def test_a_connection_reset_after_the_whole_request_is_uncertain() -> None:
    def step(connection: socket.socket) -> None:
        read_request(connection)
        reset(connection)

    assert once(step) == LOST


def test_silence_after_the_whole_request_is_uncertain() -> None:
    stop = threading.Event()

    def step(connection: socket.socket) -> None:
        read_request(connection)
        stop.wait(60)

    with serving(step) as server, client_of(server.port, read_timeout=0.2) as client:
        assert ask(client) == LOST
        stop.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"220 mail.example.com ESMTP\r\n",
        b"\x00\xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_half_an_answer_or_no_http_is_uncertain(answer: bytes) -> None:
    assert once(answering(answer, times=1)) == LOST


def test_an_answer_that_trickles_is_given_up_at_the_deadline() -> None:
    def step(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        # the whole answer would come after 50 seconds
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.05)

    assert once(step, seconds=1.0) == LOST


def test_an_answer_without_end_is_given_up_at_its_size() -> None:
    def step(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    assert once(step) == replace(LOST, reason="answer_too_large")


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    found = once(
        answering(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    )
    assert isinstance(found, HTTPAnswer) and found.status == 302


def test_a_refusal_that_comes_before_the_whole_request_is_read_as_the_answer_it_is() -> None:
    def step(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    found = once(step, LARGE)
    assert isinstance(found, HTTPAnswer) and found.status == 413


def test_a_connection_that_the_server_closed_while_idle_is_not_written_into() -> None:
    closed = threading.Event()

    def first(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK)
        connection.close()
        closed.set()

    with serving(first, answering(OK)) as server, client_of(server.port) as client:
        assert isinstance(ask(client), HTTPAnswer)
        assert closed.wait(60)
        assert isinstance(ask(client), HTTPAnswer)
        assert server.connections == 2


def test_nothing_is_started_at_the_deadline() -> None:
    with serving(answering(OK)) as server, client_of(server.port) as client:
        for seconds in (-1.0, 0.0, 0.3):
            assert ask(client, seconds=seconds) == Outcome(OutcomeClass.TRANSIENT, reason="deadline")
        assert server.connections == 0


def test_no_timeout_reaches_past_the_deadline() -> None:
    stop = threading.Event()

    def step(connection: socket.socket) -> None:
        read_request(connection)
        # who waits for longer than the deadline gets an answer
        if not stop.wait(20):
            connection.sendall(OK)

    with serving(step) as server, client_of(server.port, read_timeout=30.0) as client:
        assert ask(client, seconds=1.0) == LOST
        stop.set()


def test_a_header_that_http_cannot_carry_is_misconfigured() -> None:
    with serving(answering(OK)) as server:
        client = HTTPClient(HTTPOptions(base_url=f"http://127.0.0.1:{server.port}"), {"x-token": "two\r\nlines"})
        assert ask(client) == Outcome(OutcomeClass.MISCONFIGURED, reason="request_invalid")
        client.close()


def test_many_requests_go_side_by_side_within_the_bound_and_answers_keep_their_order() -> None:
    lock, gate = threading.Lock(), threading.Barrier(4, timeout=60)
    active, most = 0, 0

    def step(connection: socket.socket) -> None:
        nonlocal active, most
        while True:
            head = read_request(connection)
            with lock:
                active += 1
                most = max(most, active)
            # four must be here at once before any is answered
            gate.wait()
            with lock:
                active -= 1
            path = head.split(b" ")[1].rpartition(b"/")[2]
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))

    with serving(step) as server, client_of(server.port, concurrency=4) as client:
        paths = [f"/{number}" for number in range(16)]
        answers = client.each(lambda path: ask(client, HTTPRequest(path, b"x")), paths)
    assert [answer.body.decode() for answer in answers if isinstance(answer, HTTPAnswer)] == [p[1:] for p in paths]
    assert most == 4


def test_request_not_started_before_the_deadline_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = [0.0]
    monkeypatch.setattr(http, "monotonic", lambda: monotonic() + ahead[0])

    def exchange(request: HTTPRequest) -> HTTPAnswer | Outcome:
        answered = client.exchange(request, deadline=deadline)
        ahead[0] += 40.0
        return answered

    with serving(answering(OK)) as server, client_of(server.port, concurrency=1) as client:
        deadline = monotonic() + 60.0
        found = client.each(exchange, [SMALL] * 6)
    assert [isinstance(one, HTTPAnswer) for one in found] == [True, True, *[False] * 4]
    assert set(found[2:]) == {Outcome(OutcomeClass.TRANSIENT, reason="deadline")}


def test_a_child_process_opens_connections_of_its_own_after_a_fork() -> None:
    with serving(answering(OK)) as server, client_of(server.port, concurrency=2) as client:
        client.each(lambda request: ask(client, request), [SMALL] * 2)
        before = server.connections
        child = os.fork()
        if child == 0:
            # nothing of pytest may run in here
            try:
                answers = client.each(lambda request: ask(client, request), [SMALL] * 4)
                os._exit(0 if all(isinstance(answer, HTTPAnswer) for answer in answers) else 1)
            finally:
                os._exit(2)
        end = time.monotonic() + 60
        while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
            time.sleep(0.01)
        if done == (0, 0):
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hung")
        assert os.waitstatus_to_exitcode(done[1]) == 0
        assert server.connections > before
        assert isinstance(ask(client), HTTPAnswer)


def test_a_closed_client_opens_again_for_the_next_request() -> None:
    with serving(answering(OK)) as server, client_of(server.port) as client:
        assert isinstance(ask(client), HTTPAnswer)
        client.close()
        assert isinstance(ask(client), HTTPAnswer)
        assert server.connections == 2


def test_the_pool_of_requests_works_under_gevent() -> None:
    program = """
import sys
from gevent import monkey
monkey.patch_all()
from mailglass.clock import monotonic
from mailglass.providers import http
from mailglass.providers.http import HTTPAnswer, HTTPClient, HTTPOptions, HTTPRequest
client = HTTPClient(HTTPOptions(base_url=sys.argv[1], concurrency=4), {})
request = HTTPRequest("/send", b"x")
answers = client.each(lambda one: client.exchange(one, deadline=monotonic() + 20), [request] * 12)
client.close()
print(sum(isinstance(answer, HTTPAnswer) for answer in answers))
"""
    with serving(answering(OK)) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, f"http://127.0.0.1:{server.port}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.stdout.strip(), done.returncode) == ("12", 0), done.stderr
