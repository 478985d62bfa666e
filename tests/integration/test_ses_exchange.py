"""What a failed SendEmail proves, against a server that fails in every way a server can, through botocore itself."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from mailglass.clock import monotonic
from mailglass.errors import ProviderCallError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.ses import SESOptions, SESProvider
from mailglass.settings import Secret

O = OutcomeClass  # noqa: E741
ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
SMALL = Outgoing(
    ID,
    "acme",
    "transactional",
    Address("ada@example.com"),
    Address("shop@example.org"),
    "Subject",
    datetime(2026, 1, 2, tzinfo=UTC),
    text="Hello.",
)
LARGE = Outgoing(
    ID,
    "acme",
    "transactional",
    Address("ada@example.com"),
    Address("shop@example.org"),
    "Subject",
    datetime(2026, 1, 2, tzinfo=UTC),
    text="Hello.",
    attachments=(Attachment("a.bin", os.urandom(8_000_000)),),
)
LOST = Outcome(O.UNCERTAIN, reason="answer_lost")
INCOMPLETE = Outcome(O.TRANSIENT, reason="request_incomplete")
FAILED = Outcome(O.TRANSIENT, reason="connect_failed")
Step = Callable[[socket.socket], None]


def answer(status: int, body: object, **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n{fields}\r\n".encode() + content


OK = answer(200, {"MessageId": "0102-77-000000"})


class Scripted:
    """Accepts connections and hands the n-th of them to the n-th step of a script; the last step serves the rest."""

    def __init__(self, *script: Step) -> None:
        self.script = script
        self.connections = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.done = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def read(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += _some(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        lines = [line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:]]
        length = next((int(value) for name, value in lines if name == b"content-length"), 0)
        while len(body) < length:
            body += _some(connection)
        self.heads.append(head)
        self.bodies.append(body)

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

    def _run(self, step: Step, connection: socket.socket) -> None:
        connection.settimeout(60)
        with connection, suppress(OSError):
            step(connection)

    def close(self) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join(60)
        self._listener.close()


def _some(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise OSError
    return piece


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def account(port: int, scheme: str = "http", **more: Any) -> SESProvider:
    options = SESOptions(
        region="eu-west-1",
        access_key_id=Secret("AKIAX"),
        secret_access_key=Secret("s3cr3t"),
        endpoint_url=f"{scheme}://127.0.0.1:{port}",
        **{"read_timeout": 10.0, **more},
    )
    return SESProvider("acme", options)


@contextmanager
def talking(make: Callable[[Scripted], Step], *more: Callable[[Scripted], Step], **options: Any) -> Iterator[Any]:
    server = Scripted()
    server.script = tuple(step(server) for step in (make, *more))
    provider = account(server.port, **options)
    try:
        yield server, provider
    finally:
        provider.close()
        server.close()


def answering(*answers: bytes) -> Callable[[Scripted], Step]:
    def make(server: Scripted) -> Step:
        def step(connection: socket.socket) -> None:
            for number in range(1000):
                server.read(connection)
                connection.sendall(answers[min(number, len(answers) - 1)])

        return step

    return make


def after_request(then: Step) -> Callable[[Scripted], Step]:
    def make(server: Scripted) -> Step:
        def step(connection: socket.socket) -> None:
            server.read(connection)
            then(connection)

        return step

    return make


def at_once(then: Step) -> Callable[[Scripted], Step]:
    return lambda server: then


def send(provider: SESProvider, mail: Outgoing = SMALL, seconds: float = 30.0) -> Outcome:
    (found,) = provider.send([mail], deadline=monotonic() + seconds)
    return found


def test_a_mail_is_one_signed_request_on_a_kept_connection() -> None:
    with talking(answering(OK)) as (server, provider):
        assert [send(provider) for _ in range(3)] == [Outcome(O.ACCEPTED, "0102-77-000000", status=200)] * 3
        assert server.connections == 1 and len(server.bodies) == 3
    assert server.heads[0].startswith(b"POST /v2/email/outbound-emails HTTP/1.1")
    assert b"Credential=AKIAX/" in server.heads[0] and b"/eu-west-1/ses/aws4_request" in server.heads[0]
    assert server.bodies[0] == server.bodies[1] == server.bodies[2]
    assert {"Destination", "Content", "EmailTags"} == json.loads(server.bodies[0]).keys()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            answer(429, {"message": "Maximum sending rate exceeded."}, x_amzn_errortype="TooManyRequestsException"),
            Outcome(O.THROTTLED, reason="ses_TooManyRequestsException", status=429),
        ),
        (
            answer(429, {"message": "Daily message quota exceeded."}, x_amzn_errortype="TooManyRequestsException:"),
            Outcome(O.QUOTA, reason="ses_daily_quota", status=429),
        ),
        (
            answer(400, {"__type": "com.amazon#MessageRejected", "message": "Email address is not verified. a@b.c"}),
            Outcome(O.MISCONFIGURED, reason="ses_unverified", status=400),
        ),
        (
            answer(400, {"code": "MessageRejected", "Message": "Bad content"}),
            Outcome(O.REJECTED, reason="ses_MessageRejected", status=400),
        ),
        (
            answer(500, {"message": None}, x_amzn_errortype="InternalServiceErrorException"),
            Outcome(O.TRANSIENT, reason="ses_InternalServiceErrorException", status=500),
        ),
        (
            answer(503, {"message": "x"}, x_amzn_errortype="ServiceUnavailable", retry_after="3"),
            Outcome(O.TRANSIENT, reason="ses_ServiceUnavailable", status=503, retry_after=3.0),
        ),
        (
            answer(403, b"{}", x_amzn_errortype="AccessDeniedException:http://x/"),
            Outcome(O.MISCONFIGURED, reason="ses_AccessDeniedException", status=403),
        ),
        (answer(502, b"<html>Bad gateway</html>"), Outcome(O.UNCERTAIN, reason="http_502", status=502)),
        (answer(504, b""), Outcome(O.UNCERTAIN, reason="http_504", status=504)),
        (answer(404, b"<html>Not here</html>"), Outcome(O.MISCONFIGURED, reason="http_404", status=404)),
        (answer(302, b"", location="http://127.0.0.1:1/"), Outcome(O.MISCONFIGURED, reason="http_302", status=302)),
        (answer(200, b"{}"), Outcome(O.UNCERTAIN, reason="answer_unreadable", status=200)),
        (answer(200, b"<html>"), Outcome(O.UNCERTAIN, reason="answer_unreadable", status=200)),
    ],
)
def test_an_answer_is_read_and_the_mail_is_not_sent_again(given: bytes, expected: Outcome) -> None:
    with talking(answering(given)) as (server, provider):
        assert send(provider) == expected
        assert len(server.bodies) == 1


def test_the_environment_cannot_switch_repetitions_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
    with talking(answering(answer(503, b"", x_amzn_errortype="ServiceUnavailable"))) as (server, provider):
        assert send(provider).kind is O.TRANSIENT
        assert len(server.bodies) == 1


def test_closed_port_means_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    provider = account(port)
    assert send(provider) == FAILED
    provider.close()


def test_a_failed_handshake_sends_nothing() -> None:
    with talking(at_once(lambda connection: connection.sendall(b"no TLS here\r\n")), scheme="https") as (_, provider):
        assert send(provider) == FAILED


@pytest.mark.parametrize("hang_up", [reset, socket.socket.close])
def test_a_connection_lost_after_the_whole_request_is_uncertain(hang_up: Step) -> None:
    with talking(after_request(hang_up)) as (server, provider):
        assert send(provider) == LOST
        assert len(server.bodies) == 1


def test_an_answer_that_never_comes_is_uncertain() -> None:
    with talking(after_request(lambda connection: _wait(connection)), read_timeout=0.3) as (server, provider):
        assert send(provider) == LOST
        assert len(server.bodies) == 1


def _wait(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.recv(1)


def test_an_answer_that_breaks_off_is_uncertain() -> None:
    with talking(after_request(lambda connection: connection.sendall(OK[:-5]))) as (_, provider):
        assert send(provider).kind is O.UNCERTAIN
    with talking(after_request(lambda connection: connection.sendall(b"HTTP/1.1 2"))) as (_, provider):
        assert send(provider) == LOST
    with talking(after_request(lambda connection: connection.sendall(b"what?\r\n\r\n"))) as (_, provider):
        assert send(provider) == LOST


def test_a_large_request_cut_off_in_its_middle_was_not_accepted() -> None:
    def cut(connection: socket.socket) -> None:
        received = 0
        while received < 100_000:
            received += len(_some(connection))
        reset(connection)

    with talking(at_once(cut)) as (_, provider):
        assert send(provider, LARGE) == INCOMPLETE


def test_a_refusal_in_the_middle_of_a_large_request_is_read() -> None:
    def refuse(connection: socket.socket) -> None:
        _some(connection)
        connection.sendall(answer(413, b"", connection="close"))
        connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            while connection.recv(65536):
                pass

    with talking(at_once(refuse)) as (_, provider):
        assert send(provider, LARGE) == Outcome(O.REJECTED, reason="http_413", status=413)


def test_no_wait_for_an_answer_reaches_past_the_deadline() -> None:
    given_up = threading.Event()

    def late(connection: socket.socket) -> None:
        if not given_up.wait(20):
            connection.sendall(OK)

    with talking(after_request(late)) as (_, provider):
        provider.clients.sender()
        assert send(provider, seconds=2.0) == LOST
        given_up.set()


def test_a_request_that_cannot_be_written_before_the_deadline_was_not_accepted() -> None:
    given_up = threading.Event()

    def slowly(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while not given_up.wait(0.01) and connection.recv(2048):
            pass

    with talking(at_once(slowly)) as (_, provider):
        provider.clients.sender()
        assert send(provider, LARGE, seconds=2.0) == INCOMPLETE
        given_up.set()


def test_a_kept_connection_that_the_other_side_closed_is_not_used_again() -> None:
    closed = threading.Event()

    def once(server: Scripted) -> Step:
        def step(connection: socket.socket) -> None:
            server.read(connection)
            connection.sendall(OK)
            connection.close()
            closed.set()

        return step

    with talking(once, answering(OK)) as (server, provider):
        assert send(provider).kind is O.ACCEPTED
        assert closed.wait(60)
        assert send(provider).kind is O.ACCEPTED
        assert server.connections == 2


def test_many_mails_share_a_few_connections() -> None:
    with talking(answering(OK), concurrency=4) as (server, provider):
        found = provider.send([SMALL] * 40, deadline=monotonic() + 30)
        assert {one.kind for one in found} == {O.ACCEPTED}
        assert len(server.bodies) == 40 and server.connections <= 4


def test_a_forked_process_opens_connections_of_its_own() -> None:
    with talking(answering(OK)) as (server, provider):
        provider.send([SMALL] * 2, deadline=monotonic() + 30)
        before = server.connections
        child = os.fork()
        if child == 0:
            # a child that waits for its parent's threads would wait for ever
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(25)
            try:
                found = provider.send([SMALL] * 2, deadline=monotonic() + 20)
                os._exit(0 if {one.kind for one in found} == {O.ACCEPTED} else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert server.connections > before
        assert send(provider).kind is O.ACCEPTED


def test_closed_provider_opens_again_for_the_next_mail() -> None:
    with talking(answering(OK)) as (_, provider):
        assert send(provider).kind is O.ACCEPTED
        provider.close()
        assert send(provider).kind is O.ACCEPTED


def test_without_credentials_nothing_is_sent_and_the_account_is_at_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with talking(answering(OK)) as (server, _):
        options = SESOptions(region="eu-west-1", endpoint_url=f"http://127.0.0.1:{server.port}")
        provider = SESProvider("acme", options)
        assert send(provider) == Outcome(O.MISCONFIGURED, reason="credentials_missing")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        provider.close()
        assert send(provider).kind is O.ACCEPTED
        assert b"Credential=AKIAENV/" in server.heads[0]
        provider.close()


def test_an_aws_profile_that_is_not_there_is_the_accounts_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mailglass-no-such-profile")
    provider = SESProvider("acme", SESOptions(region="eu-west-1"))
    assert send(provider) == Outcome(O.MISCONFIGURED, reason="client_unavailable")
    with pytest.raises(ProviderCallError) as error:
        provider.send_quota()
    assert not error.value.retryable


def test_options_that_sendemail_does_not_know_refuse_the_mail() -> None:
    unknown = Outgoing(
        ID,
        "acme",
        "transactional",
        Address("ada@example.com"),
        Address("shop@example.org"),
        "Subject",
        datetime(2026, 1, 2, tzinfo=UTC),
        text="Hello.",
        options={"ses": {"NoSuchThing": 1}},
    )
    with talking(answering(OK)) as (server, provider):
        assert send(provider, unknown) == Outcome(O.REJECTED, reason="invalid_options")
        assert not server.bodies


def test_no_log_holds_an_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    rejected = answer(
        400, {"message": "Email address is not verified: ada@example.com"}, x_amzn_errortype="MessageRejected"
    )
    with talking(answering(OK, rejected), answering(rejected)) as (_, provider):
        send(provider)
        send(provider)
        with pytest.raises(ProviderCallError, match=r"^acme: delete suppressed[^@]*$"):
            provider.suppression_list().remove(["ada@example.com"])
    assert "ada" not in caplog.text and "s3cr3t" not in caplog.text


def test_management_calls_may_be_repeated() -> None:
    busy = answer(429, {"message": "x"}, x_amzn_errortype="TooManyRequestsException")
    quota = answer(
        200, {"SendQuota": {"MaxSendRate": 14, "Max24HourSend": -1, "SentLast24Hours": 3}, "SendingEnabled": True}
    )
    with talking(answering(busy, quota)) as (server, provider):
        found = provider.send_quota()
        assert (found.per_second, found.per_day, found.sent_last_day, found.enabled) == (14.0, None, 3.0, True)
        assert len(server.heads) == 2
