"""Real servers for the tests: one PostgreSQL for a run, one Valkey for each of its processes.

`MAILGLASS_TEST_DATABASE_URL` and `MAILGLASS_TEST_BROKER_URL` name servers to use instead.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from psycopg import sql

from mailglass.settings import configure
from mailglass.stack.postgres import EmbeddedPostgres, PostgresServer
from mailglass.stack.process import Guardian
from mailglass.stack.valkey import EmbeddedValkey

SERVERS = pytest.StashKey["Servers"]()
GIVEN_POSTGRES = os.environ.get("MAILGLASS_TEST_DATABASE_URL")
GIVEN_BROKER = os.environ.get("MAILGLASS_TEST_BROKER_URL")


class GivenValkey:
    """A broker that was given to us: one of its databases is ours, its life is not."""

    def __init__(self, url: str, db: int) -> None:
        self._url = url
        self._db = db
        self.pid = None

    def url(self, db: int | None = None) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{self._db if db is None else db}"))

    def start(self) -> None:
        """It runs already."""

    def stop(self) -> None:
        pytest.skip("needs a broker that may be stopped: unset MAILGLASS_TEST_BROKER_URL")

    kill = stop

    def flush(self) -> None:
        import redis

        with redis.Redis.from_url(self.url()) as client:
            client.flushdb()


class Servers:
    """This process's servers, each started when first asked for, all ended by `close` or by the guardian."""

    def __init__(self, worker: str, postgres_url: str | None) -> None:
        self.worker = worker
        self._stack = ExitStack()
        self._postgres: PostgresServer | None = PostgresServer(postgres_url) if postgres_url else None
        self._valkey: EmbeddedValkey | GivenValkey | None = None
        self._scratch: tuple[Path, Guardian] | None = None

    def postgres(self) -> PostgresServer:
        if self._postgres is None:
            directory, guardian = self.scratch()
            server = EmbeddedPostgres(directory / "postgres", durable=False, guardian=guardian)
            self._postgres = self._stack.enter_context(server)
        return self._postgres

    def valkey(self) -> EmbeddedValkey | GivenValkey:
        if self._valkey is None and GIVEN_BROKER:
            self._valkey = GivenValkey(GIVEN_BROKER, int(self.worker.removeprefix("gw") or 0) % 16)
        elif self._valkey is None:
            directory, guardian = self.scratch()
            self._valkey = self._stack.enter_context(EmbeddedValkey(directory / "valkey", guardian=guardian))
        return self._valkey

    def scratch(self) -> tuple[Path, Guardian]:
        if self._scratch is None:
            directory = Path(tempfile.mkdtemp(prefix="mailglass-tests-"))
            self._stack.callback(shutil.rmtree, directory, ignore_errors=True)
            guardian = Guardian()
            self._stack.callback(guardian.close)
            guardian.sweep(directory)
            self._scratch = (directory, guardian)
        return self._scratch

    def close(self) -> None:
        self._stack.close()


def pytest_configure(config: pytest.Config) -> None:
    given: dict[str, Any] = getattr(config, "workerinput", {})
    config.stash[SERVERS] = Servers(given.get("workerid", "gw0"), given.get("postgres_url", GIVEN_POSTGRES))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist's controller owns the one PostgreSQL; its workers get the address."""
    node.workerinput["postgres_url"] = node.config.stash[SERVERS].postgres().url()


def pytest_unconfigure(config: pytest.Config) -> None:
    if servers := config.stash.get(SERVERS, None):
        servers.close()


@pytest.fixture(autouse=True)
def _plain_settings() -> Iterator[None]:
    """No test sees the developer's environment or another test's settings."""
    _forget_settings()
    yield
    _forget_settings()


def _forget_settings() -> None:
    for name in [name for name in os.environ if name.startswith("MAILGLASS_")]:
        del os.environ[name]
    configure(None)


@pytest.fixture(scope="session")
def until() -> Callable[..., bool]:
    """`until(fact, seconds=20)` waits for a fact; false when it did not come true in time."""

    def wait(fact: Callable[[], bool], seconds: float = 20.0) -> bool:
        deadline = time.monotonic() + seconds
        while not fact():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    return wait


@pytest.fixture
def stack_root() -> Iterator[Path]:
    """A directory for servers: a PostgreSQL run by root works as another user, to whom `tmp_path` may be closed."""
    root = Path(tempfile.mkdtemp(prefix="mailglass-stack-")).resolve()
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    return pytestconfig.stash[SERVERS]


@pytest.fixture(scope="session")
def postgres(servers: Servers) -> PostgresServer:
    """The run's PostgreSQL: `.url(database)`, `.create_database(name, template)`, `.drop_database(name)`."""
    return servers.postgres()


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer, servers: Servers) -> Iterator[str]:
    """The name of a database with the ledger's schema, to be copied and not to be connected to."""
    from mailglass.ledger.schema import upgrade

    name = f"template_{servers.worker}_{os.getpid()}"
    upgrade(postgres.create_database(name))
    identifier = sql.Identifier(name)
    postgres.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(identifier))
    postgres.execute(
        sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}").format(sql.Literal(name))
    )
    yield name
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def _database_names(servers: Servers) -> Iterator[str]:
    return (f"test_{servers.worker}_{os.getpid()}_{number}" for number in count())


@pytest.fixture
def empty_database_url(postgres: PostgresServer, _database_names: Iterator[str]) -> Iterator[str]:
    """A database of this test's own, without the ledger's schema."""
    name = next(_database_names)
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def database_url(postgres: PostgresServer, migrated_template: str, _database_names: Iterator[str]) -> Iterator[str]:
    """A database of this test's own, with the ledger's schema and no rows."""
    name = next(_database_names)
    yield postgres.create_database(name, template=migrated_template)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def valkey(servers: Servers) -> EmbeddedValkey | GivenValkey:
    """This process's Valkey: `.url(db)`, `.start()`, `.stop()`, `.kill()`, `.flush()`; `broker_url` puts it right."""
    return servers.valkey()


@pytest.fixture
def broker_url(valkey: EmbeddedValkey | GivenValkey) -> str:
    """The URL of a broker that runs and holds nothing."""
    valkey.start()
    valkey.flush()
    return valkey.url()


@pytest.fixture
def wait_for(until: Callable[..., bool]) -> Callable[..., None]:
    """As `until`, but a fact that does not come true fails the test."""

    def wait(fact: Callable[[], object], timeout: float = 30.0) -> None:
        if not until(fact, timeout):
            pytest.fail(f"waited {timeout:g} s for a fact that did not come true")

    return wait
