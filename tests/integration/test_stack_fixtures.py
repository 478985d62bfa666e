"""The suite's own servers: fresh for every test, and gone with the run however it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from queue import Empty

import psutil
import psycopg
import pytest
import redis
from kombu import Connection

from mailglass.settings import Settings, configure, get_settings
from mailglass.stack.guardian import start_time
from mailglass.stack.valkey import EmbeddedValkey
from tests.databases import Databases, PostgresServer

CONFTEST = Path(__file__).parents[1] / "conftest.py"
WAITS_FOR_EVER = """
import json, os, time
from pathlib import Path

import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_that_never_ends(number, servers, empty_database_url, broker_url):
    said = {"pid": os.getpid(), "scratch": str(servers.scratch()[0]), "worker": servers.worker}
    path = Path(os.environ["REPORTS"]) / f"{servers.worker}.json"
    path.with_suffix(".new").write_text(json.dumps(said))
    path.with_suffix(".new").rename(path)
    time.sleep(600)
"""


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_gets_a_migrated_database_without_rows(database_url: str, turn: int) -> None:
    from mailglass.ledger import schema

    schema.check(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE left_behind (n int)")
        assert connection.execute("SELECT count(*) FROM mailglass.deliveries").fetchone() == (0,)


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_gets_an_empty_broker(broker_url: str, turn: int) -> None:
    with Connection(broker_url) as connection, connection.SimpleQueue("left behind") as queue:
        with pytest.raises(Empty):
            queue.get_nowait()
        queue.put("yes")


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_gets_an_empty_redis(redis_url: str, turn: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", "yes")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_broker_is_put_right_after_a_test_that_ended_it(
    broker: EmbeddedValkey, request: pytest.FixtureRequest, end: str
) -> None:
    getattr(broker, end)()
    with Connection(request.getfixturevalue("broker_url")) as connection:
        assert connection.connect()


def test_databases_of_earlier_tests_are_dropped(empty_database_url: str) -> None:
    own = empty_database_url.rpartition("/")[2]
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT to_regclass('mailglass.deliveries')").fetchone() == (None,)
        pattern = own.rpartition("_")[0] + "_%"
        found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [pattern]).fetchall()
    assert found == [(own,)]


def test_a_database_that_a_process_comes_back_to_is_dropped_and_replaced(
    postgres: PostgresServer, migrated_template: str
) -> None:
    databases = Databases(postgres, migrated_template, iter(f"test_returned_{os.getpid()}_{n}" for n in range(9)))
    first = databases.take()
    databases.give_back(first)
    late = psycopg.connect(postgres.url(first), autocommit=True)
    second = databases.take()
    late.close()
    databases.give_back(second)
    with psycopg.connect(postgres.url("postgres")) as connection:
        names = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
    databases.close()
    assert second in names
    assert first not in names


@pytest.mark.parametrize("turn", [1, 2])
def test_no_test_sees_the_environment_or_the_settings_of_another(turn: int) -> None:
    assert not [name for name in os.environ if name.startswith("MAILGLASS_")]
    assert get_settings().default_tenant == "default"
    os.environ["MAILGLASS_DEFAULT_TENANT"] = "acme"
    configure(Settings(default_tenant="other"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sigkill_of_the_run_leaves_no_server_and_no_data_behind(
    stack_root: Path, until: Callable[..., bool], workers: int
) -> None:
    shutil.copy(CONFTEST, stack_root / "conftest.py")
    (stack_root / "test_waits.py").write_text(WAITS_FOR_EVER)
    (stack_root / "pytest.ini").write_text("[pytest]\n")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(workers), str(stack_root)]
    environment = {**os.environ, "REPORTS": str(stack_root), "TMPDIR": str(stack_root)}
    run = subprocess.Popen(argv, env=environment, cwd=stack_root, stdout=subprocess.DEVNULL)
    try:
        assert until(lambda: len(list(stack_root.glob("gw*.json"))) == max(1, workers), 140)
        scratch = [Path(json.loads(path.read_text())["scratch"]) for path in stack_root.glob("gw*.json")]
        family = {item.pid: start_time(item.pid) for item in psutil.Process(run.pid).children(recursive=True)}
        names = [Path(psutil.Process(pid).exe()).name for pid in family]
        assert names.count("valkey-server") == max(1, workers)
        assert names.count("postgres") > 1
    finally:
        run.kill()
        run.wait()
    assert until(lambda: not any(start_time(pid) == started is not None for pid, started in family.items()))
    assert until(lambda: not any(path.exists() for path in scratch))
    assert not list(stack_root.glob("mailglass-tests-*"))
