"""The bytes of an SMTP session."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.clock import monotonic
from mailglass.providers.smtp.prepared_mail import Envelope, Features
from mailglass.providers.smtp.replies import Reply
from mailglass.providers.smtp.wire import MAX_REPLY, MAX_REPLY_LINE, ProtocolError, Wire, as_data


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(60)
        yield Wire(ours), theirs


def soon(seconds: float = 60.0) -> float:
    return monotonic() + seconds


@pytest.mark.parametrize(
    ("raw", "code", "lines"),
    [
        (b"250 ok\r\n", 250, ("ok",)),
        (b"250\r\n", 250, ("",)),
        (b"250 bare line feed\n", 250, ("bare line feed",)),
        (b"250-one\r\n250-two\r\n250 three\r\n", 250, ("one", "two", "three")),
        (b"550-\r\n550 5.1.1 no\r\n", 550, ("", "5.1.1 no")),
        (b"250 gr\xfc\xdfe\r\n", 250, ("gr��e",)),
    ],
)
def test_a_reply_is_read_with_all_its_lines(
    ends: tuple[Wire, socket.socket], raw: bytes, code: int, lines: tuple[str, ...]
) -> None:
    wire, peer = ends
    peer.sendall(raw)

    assert wire.read_reply(soon()) == Reply(code, lines)


def test_replies_that_arrive_together_are_read_one_by_one(ends: tuple[Wire, socket.socket]) -> None:
    wire, peer = ends
    peer.sendall(b"250 one\r\n250 two\r\n354 three\r\n")

    assert [wire.read_reply(soon()).text for _ in range(3)] == ["one", "two", "three"]
    assert not wire.has_unread


@pytest.mark.parametrize(
    "raw", [b"\r\n", b"hello\r\n", b"25 ok\r\n", b"2500 ok\r\n", b"150 ok\r\n", b"650 ok\r\n", b"250-a\r\n251 b\r\n"]
)
def test_line_that_is_no_reply_is_refused(ends: tuple[Wire, socket.socket], raw: bytes) -> None:
    wire, peer = ends
    peer.sendall(raw)

    with pytest.raises(ProtocolError):
        wire.read_reply(soon())


def test_a_line_without_an_end_is_refused_at_its_bound(ends: tuple[Wire, socket.socket]) -> None:
    wire, peer = ends
    peer.sendall(b"250 " + b"x" * MAX_REPLY_LINE)

    with pytest.raises(ProtocolError):
        wire.read_reply(soon())


def test_a_reply_without_a_last_line_is_refused_at_its_bound(ends: tuple[Wire, socket.socket]) -> None:
    wire, peer = ends
    peer.sendall((b"250-" + b"x" * 1000 + b"\r\n") * (MAX_REPLY // 1000 + 1))

    with pytest.raises(ProtocolError):
        wire.read_reply(soon())


def test_a_reply_that_drips_gets_no_more_time_than_one_that_does_not_come(ends: tuple[Wire, socket.socket]) -> None:
    wire, peer = ends
    given_up = threading.Event()

    def drip() -> None:
        # who waits anew for every byte gets the whole reply
        for byte in b"250-one\r\n" * 100 + b"250 two\r\n":
            if given_up.wait(0.01):
                return
            peer.sendall(bytes([byte]))

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        with pytest.raises(TimeoutError):
            wire.read_reply(soon(0.05))
    finally:
        given_up.set()
        dripping.join(60)


def test_nothing_is_written_when_no_time_is_left(ends: tuple[Wire, socket.socket]) -> None:
    wire, peer = ends

    with pytest.raises(TimeoutError):
        wire.write(b"DATA\r\n", monotonic())
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)


def test_a_closed_connection_is_an_error_and_not_an_empty_reply(ends: tuple[Wire, socket.socket]) -> None:
    wire, peer = ends
    peer.sendall(b"250 o")
    peer.close()

    with pytest.raises(ConnectionError):
        wire.read_reply(soon())


LINES = st.lists(
    st.one_of(st.binary(max_size=20), st.sampled_from([b".", b"..", b".x", b"\r", b"\n", b""])), max_size=12
)


def received(data: bytes) -> bytes:
    """What a server makes of it (RFC 5321 4.5.2)."""
    assert data.endswith(b".\r\n")
    lines = data[: -len(b".\r\n")].split(b"\r\n")
    assert b"." not in lines
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


@given(LINES)
def test_any_message_survives_dot_stuffing(lines: list[bytes]) -> None:
    clean = [re.sub(rb"[\r\n]", b"", line) for line in lines]
    message = b"".join(line + b"\r\n" for line in clean) or b"\r\n"

    assert received(as_data(message)) == message


@given(LINES)
def test_the_final_dot_is_the_only_end_of_data_that_any_server_could_see(lines: list[bytes]) -> None:
    data = as_data(b"\r\n".join(lines))

    assert not re.search(rb"[\r\n]\.[\r\n]", data[: -len(b"\r\n.\r\n")] + b"x")
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", data)


def test_features_are_read_whatever_their_case_and_form() -> None:
    features = Features.parse(
        Reply(250, ("host pipelining", "Pipelining", "size 1000", "AUTH PLAIN login", "AUTH=LOGIN XOAUTH2", "8bitmime"))
    )

    assert "PIPELINING" in features
    assert "8BITMIME" in features
    assert "HOST" not in features
    assert features.max_size == 1000
    assert features.mechanisms == {"PLAIN", "LOGIN", "XOAUTH2"}


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE x", "SIZE ²"])
def test_a_size_without_a_bound_bounds_nothing(size: str) -> None:
    assert Features.parse(Reply(250, ("host", size))).max_size is None


@pytest.mark.parametrize("address", ["a@b\r\nRCPT TO:<c@d>", "a@b\n", "a\x00@b", "a@b\x85"])
def test_an_address_that_would_break_out_of_its_line_makes_no_envelope(address: str) -> None:
    with pytest.raises(ValueError):
        Envelope("me@example.com", (address,))
    with pytest.raises(ValueError):
        Envelope(address, ("you@example.com",))
