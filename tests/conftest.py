"""Real servers for the tests: one PostgreSQL for a run, one broker for each of its processes.

The broker is a Valkey, or a RabbitMQ where `MAILGLASS_TEST_BROKER` is `rabbitmq`: then there is no Redis for mailglass.
`MAILGLASS_TEST_DATABASE_URL` and `MAILGLASS_TEST_BROKER_URL` (a Redis) name servers to use instead.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import pytest
import structlog
from psycopg import sql

from mailglass import telemetry
from mailglass.ledger.database import Database
from mailglass.settings import configure
from mailglass.stack.postgres import EmbeddedPostgres, PostgresServer
from mailglass.stack.process import Guardian
from mailglass.stack.valkey import EmbeddedValkey
from tests.plugin import PLUGIN

if TYPE_CHECKING:
    from tests.databases import Databases
    from tests.pgbouncer import PgBouncer
    from tests.rabbit import RabbitServer

# a shared machine may hold any example up; what is too slow is measured elsewhere
hypothesis.settings.register_profile(
    "mailglass", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("mailglass")

SERVERS = pytest.StashKey["Servers"]()
# taken away, because mailglass warns of variables of its name that it does not know
GIVEN = {
    name: os.environ.pop(f"MAILGLASS_TEST_{name}", None) for name in ("DATABASE_URL", "BROKER_URL", "BROKER", "POOLER")
}


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
    """This process's servers, each started when first asked for, all ended by `close` or by the guardian.

    Args:
        worker: xdist's name of this process.
        given: what the environment says of servers.
        postgres_url: where the run's PostgreSQL is, if somebody else has started it.
    """

    def __init__(self, worker: str, given: dict[str, str | None], postgres_url: str | None) -> None:
        self.worker = worker
        self.on_rabbit = given["BROKER"] == "rabbitmq"
        self.pooled = given["POOLER"] == "pgbouncer"
        self._given_redis = given["BROKER_URL"]
        self._stack = ExitStack()
        self._postgres: PostgresServer | None = PostgresServer(postgres_url) if postgres_url else None
        self._valkey: EmbeddedValkey | GivenValkey | None = None
        self._rabbit: RabbitServer | None = None
        self._poolers: dict[str, PgBouncer] = {}
        self._scratch: tuple[Path, Guardian] | None = None

    def reach(self, direct: str) -> str:
        """Return the URL by which tests reach a database: past this run's pooler, if it has one, with its login."""
        if not self.pooled:
            return direct
        login = urlsplit(direct).netloc.rpartition("@")[0]
        if login not in self._poolers:
            from tests.pgbouncer import PgBouncer, give_sessions

            give_sessions(self.postgres().url(), direct)
            directory, guardian = self.scratch()
            pooler = PgBouncer(directory / f"pgbouncer{len(self._poolers)}", direct, guardian=guardian)
            self._poolers[login] = self._stack.enter_context(pooler)
        return self._poolers[login].url(direct)

    def pools(self, url: str) -> bool:
        """Return whether a URL is one of this run's poolers."""
        return urlsplit(url).port in {pooler.port for pooler in self._poolers.values()}

    def postgres(self) -> PostgresServer:
        if self._postgres is None:
            directory, guardian = self.scratch()
            server = EmbeddedPostgres(directory / "postgres", durable=False, guardian=guardian)
            self._postgres = self._stack.enter_context(server)
        return self._postgres

    def environment(self, url: str) -> dict[str, str]:
        """Return the variables by which a process of mailglass works on a database, as tests reach it."""
        return {"MAILGLASS_DATABASE_URL": url} | ({"MAILGLASS_POOLER": "transaction"} if self.pooled else {})

    def valkey(self) -> EmbeddedValkey | GivenValkey:
        if self._valkey is None and self._given_redis:
            self._valkey = GivenValkey(self._given_redis, int(self.worker.removeprefix("gw") or 0) % 16)
        elif self._valkey is None:
            directory, guardian = self.scratch()
            self._valkey = self._stack.enter_context(EmbeddedValkey(directory / "valkey", guardian=guardian))
        return self._valkey

    def rabbit(self) -> RabbitServer:
        if self._rabbit is None:
            from tests.rabbit import RabbitServer

            directory, guardian = self.scratch()
            self._rabbit = self._stack.enter_context(RabbitServer(directory / "rabbitmq", guardian=guardian))
        return self._rabbit

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
    if not config.pluginmanager.hasplugin("mailglass"):
        # the package was installed before it had its entry point
        config.pluginmanager.import_plugin(PLUGIN)
    controllers: dict[str, Any] = getattr(config, "workerinput", {})
    given: dict[str, str | None] = controllers.get("given", GIVEN)
    if given["BROKER"] not in (None, "valkey", "rabbitmq"):
        raise pytest.UsageError(f"MAILGLASS_TEST_BROKER is {given['BROKER']!r}: use valkey or rabbitmq")
    if given["POOLER"] not in (None, "pgbouncer"):
        raise pytest.UsageError(f"MAILGLASS_TEST_POOLER is {given['POOLER']!r}: use pgbouncer")
    postgres_url = controllers.get("postgres_url", given["DATABASE_URL"])
    config.stash[SERVERS] = Servers(controllers.get("workerid", "gw0"), given, postgres_url)


BROKER_FIXTURES = frozenset({"broker", "broker_url", "rabbit"})
DATABASE_FIXTURES = frozenset({"database_url", "postgres"})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--with-broker", action="store_true", help="run only the tests that a broker is started for")
    parser.addoption("--with-database", action="store_true", help="run only the tests that have a database")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    needed = BROKER_FIXTURES if config.getoption("with_broker") else frozenset[str]()
    if config.getoption("with_database"):
        needed |= DATABASE_FIXTURES
    if needed:
        chosen = [item for item in items if needed & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist's controller owns the one PostgreSQL; its workers get the address."""
    node.workerinput["given"] = GIVEN
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
    # a command that was run in this process wrote its log to a standard error of the test's own, which is closed by now
    for handler in logging.getLogger().handlers[:]:
        if type(handler) is logging.StreamHandler:
            logging.getLogger().removeHandler(handler)
    structlog.reset_defaults()
    telemetry._logger = None


def _forget_settings() -> None:
    for name in [name for name in os.environ if name.startswith("MAILGLASS_")]:
        del os.environ[name]
    configure(None)


@pytest.fixture(scope="session")
def until() -> Callable[..., bool]:
    """`until(fact, seconds=90)` waits for a fact; false when it did not come true in time."""

    def wait(fact: Callable[[], bool], seconds: float = 90.0) -> bool:
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
def empty_database_url(postgres: PostgresServer, servers: Servers, _database_names: Iterator[str]) -> Iterator[str]:
    """A database of this test's own, without the ledger's schema."""
    name = next(_database_names)
    yield servers.reach(postgres.create_database(name))
    postgres.drop_database(name)


@pytest.fixture(autouse=True, scope="session")
def _pools_know_the_pooler(servers: Servers) -> None:
    """Tests make pools by URL; one of a pooler's is pooled."""
    if servers.pooled:
        make = Database.__init__

        def init(self: Database, url: str, pool_size: int = 10, pooled: bool = False) -> None:
            make(self, url, pool_size, pooled or servers.pools(url))

        Database.__init__ = init  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def _databases(postgres: PostgresServer, migrated_template: str, _database_names: Iterator[str]) -> Iterator[Databases]:
    from tests.databases import Databases

    databases = Databases(postgres, migrated_template, _database_names)
    yield databases
    databases.close()


@pytest.fixture
def database_url(postgres: PostgresServer, servers: Servers, _databases: Databases) -> Iterator[str]:
    """A database of this test's own, with the ledger's schema and no rows."""
    name = _databases.take()
    yield servers.reach(postgres.url(name))
    _databases.give_back(name)


@pytest.fixture
def direct_url(postgres: PostgresServer, database_url: str) -> str:
    """This test's database past every pooler, for a session of the test's own."""
    return postgres.url(urlsplit(database_url).path.removeprefix("/"))


@pytest.fixture
def database_environment(servers: Servers, database_url: str) -> dict[str, str]:
    """The variables by which a process of mailglass works on this test's database."""
    return servers.environment(database_url)


@pytest.fixture(scope="session")
def valkey(servers: Servers) -> EmbeddedValkey | GivenValkey:
    """This process's Valkey, whatever the broker; `redis_url` puts it right."""
    return servers.valkey()


@pytest.fixture
def redis_url(valkey: EmbeddedValkey | GivenValkey) -> str:
    """The URL of a Redis that runs and holds nothing: for what only Redis does."""
    valkey.start()
    valkey.flush()
    return valkey.url()


@pytest.fixture(scope="session")
def broker(servers: Servers) -> EmbeddedValkey | GivenValkey | RabbitServer:
    """This process's broker: `.url()`, `.start()`, `.stop()`, `.kill()`, `.flush()`; `broker_url` puts it right."""
    return servers.rabbit() if servers.on_rabbit else servers.valkey()


@pytest.fixture
def broker_url(servers: Servers, broker: EmbeddedValkey | GivenValkey | RabbitServer) -> str:
    """The URL of a broker that runs and holds nothing."""
    broker.start()
    if servers.on_rabbit:
        broker.renew()
    else:
        broker.flush()
    return broker.url()


@pytest.fixture
def rabbit(servers: Servers, request: pytest.FixtureRequest) -> RabbitServer:
    """The broker, for what only RabbitMQ does."""
    if not servers.on_rabbit:
        pytest.skip("what RabbitMQ alone does: make test-rabbitmq")
    request.getfixturevalue("broker_url")
    return servers.rabbit()


@pytest.fixture
def wait_for(until: Callable[..., bool]) -> Callable[..., None]:
    """As `until`, but a fact that does not come true fails the test."""

    def wait(fact: Callable[[], object], timeout: float = 90.0) -> None:
        if not until(fact, timeout):
            pytest.fail(f"waited {timeout:g} s for a fact that did not come true")

    return wait
