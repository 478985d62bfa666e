"""A database that cannot be reached: which, and why, without a word of the driver's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import LedgerUnavailableError
from mailglass.ledger import schema
from mailglass.ledger.database import Database
from mailglass.ledger.unreachable import unreachable

SECRET = "hunter2"


def at(url: str, **changes: str) -> str:
    """The URL with another login, host or database."""
    parts = urlsplit(url)
    login = changes.get("login", f"ada:{SECRET}")
    host = changes.get("host", f"{parts.hostname}:{parts.port}")
    return urlunsplit(parts._replace(netloc=f"{login}@{host}", path=changes.get("path", parts.path)))


def refusing_pooler(words: str) -> int:
    """The port of a server that answers one startup message as a pooler does."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server:
            while True:
                connection, _ = server.accept()
                with connection:
                    first = connection.recv(65536)
                    if first[4:8] in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"):
                        connection.sendall(b"N")
                        connection.recv(65536)
                    body = b"SFATAL\0VFATAL\0C08P01\0M" + words.encode() + b"\0\0"
                    connection.sendall(b"E" + (len(body) + 4).to_bytes(4, "big") + body)

    threading.Thread(target=serve, daemon=True).start()
    return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("change", "cause", "place"),
    [
        (
            lambda url, port: at(url, login=urlsplit(url).netloc.rpartition("@")[0], path="/nosuch"),
            "does not exist",
            "database nosuch",
        ),
        (lambda url, port: at(url, host=f"127.0.0.1:{port}"), "nothing accepts connections there", "127.0.0.1 port"),
        (lambda url, port: at(url, host="nosuch.invalid:5432"), "no such host is known", "nosuch.invalid port 5432"),
        (
            lambda url, port: at(url, host=f"127.0.0.1:{refusing_pooler('sorry, too many clients already')}"),
            "all its connections are taken",
            "127.0.0.1 port",
        ),
    ],
    ids=["missing database", "refused port", "unknown host", "full"],
)
def test_each_cause_is_told_apart_with_the_server_and_without_the_login(
    database_url: str, unused_port: int, change: Callable[[str, int], str], cause: str, place: str
) -> None:
    expect(change(database_url, unused_port), cause, place)


def test_a_refused_login_is_told_without_the_login(direct_url: str) -> None:
    # a pooler has a login of its own, and takes any other
    expect(at(direct_url), "the login is refused", "127.0.0.1 port")


def expect(url: str, cause: str, place: str) -> None:
    """Meet the error of a database that cannot be reached, by every way to it."""
    database = Database(url)
    for call in (lambda: database.run("schema_version"), lambda: schema.current(url), lambda: schema.upgrade(url)):
        with pytest.raises(LedgerUnavailableError) as caught:
            call()
        said = str(caught.value)
        assert said.startswith("the database cannot be reached at ")
        assert cause in said
        assert place in said
        assert SECRET not in said and "ada" not in said
    database.dispose()


@given(st.text(), st.text(st.characters(categories=["L", "N"]), min_size=3))
def test_nothing_of_what_the_driver_says_and_no_login_is_repeated(said: str, password: str) -> None:
    marked = f"<<{said}>>"
    sentence = unreachable(f"postgresql://zq{password}:zq{password}@db.example.com:5433/mail", marked)
    assert "zq" not in sentence and "<<" not in sentence
    assert "db.example.com port 5433, database mail" in sentence
