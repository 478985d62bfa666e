"""The ledger behind PgBouncer in transaction mode: what is set, what is told, and that nothing is prepared."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from mailglass.cli import run
from mailglass.errors import ConfigError
from mailglass.ledger.database import Database
from mailglass.ledger.pooler import SESSION, check_session
from mailglass.settings import Settings, configure, load_settings
from mailglass.stack.postgres import PostgresServer
from mailglass_workers.startup import check_schema
from tests.pgbouncer import COMMANDS, PgBouncer

pytestmark = pytest.mark.skipif(
    not any(shutil.which(command) for command in COMMANDS), reason="needs PgBouncer: make test-pgbouncer"
)
ROLE = "mg_app"
Started = Callable[..., str]


@pytest.fixture
def direct(database_url: str, postgres: PostgresServer) -> Iterator[str]:
    """The database past every pooler, for a role of its own that has no settings."""
    name = urlsplit(database_url).path.removeprefix("/")
    url = postgres.url(name)
    role = f"{ROLE}_{name}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE \"{role}\" LOGIN SUPERUSER PASSWORD 'secret'")
    parts = urlsplit(url)
    yield parts._replace(netloc=f"{role}:secret@{parts.hostname}:{parts.port}").geturl()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'DROP OWNED BY "{role}"')
        connection.execute(f'DROP ROLE "{role}"')


@pytest.fixture
def start(direct: str, tmp_path: Path) -> Iterator[Started]:
    """Start a pooler before the database; answers the database's URL there."""
    poolers: list[PgBouncer] = []

    def make(ignore: str = "") -> str:
        pooler = PgBouncer(tmp_path / f"pooler{len(poolers)}", direct, ignore)
        pooler.start()
        poolers.append(pooler)
        return pooler.url(direct)

    yield make
    for pooler in poolers:
        pooler.stop()


def role_of(url: str) -> str:
    return urlsplit(url).username or ""


@pytest.fixture
def settings(start: Started, direct: str) -> Settings:
    """Settings of a process behind a pooler."""
    return load_settings(
        {
            "MAILGLASS_DATABASE_URL": start(),
            "MAILGLASS_DIRECT_DATABASE_URL": direct,
            "MAILGLASS_POOLER": "transaction",
        }
    )


@pytest.mark.parametrize("ignore", ["", "options"])
def test_a_pooler_that_the_settings_do_not_name_is_recognised(start: Started, ignore: str) -> None:
    url = start(ignore)
    database = Database(url)
    try:
        with pytest.raises(ConfigError) as caught:
            check_session(database, pooled=False)
    finally:
        database.dispose()
    assert caught.value.key == "pooler"
    assert "pooler" in str(caught.value) and "mailglass db upgrade --role" in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="pooler"):
        check_schema(load_settings({"MAILGLASS_DATABASE_URL": url}))


def test_prepared_statements_that_a_pooler_mixes_up_name_the_pooler(start: Started) -> None:
    database = Database(start("options"))

    def often(number: int) -> None:
        for _ in range(40):
            database.run("schema_version")

    try:
        with ThreadPoolExecutor(8) as threads, pytest.raises(ConfigError, match="pooler"):
            list(threads.map(often, range(8)))
    finally:
        database.dispose()


def test_the_role_is_told_what_it_lacks_and_db_upgrade_gives_it(
    settings: Settings, direct: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(settings)
    with pytest.raises(ConfigError, match="plan_cache_mode"):
        check_schema(settings)
    assert run(["config", "check"]) == 1
    assert "mailglass db upgrade --role" in capsys.readouterr().err
    assert run(["db", "upgrade", "--role", role_of(direct)]) == 0
    with psycopg.connect(direct) as connection:
        found = {name: connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in SESSION}
    assert found == {name: (value,) for name, value in SESSION.items()}


def test_sql_for_somebody_who_may_is_printed_where_the_role_may_not_change_roles(
    settings: Settings, direct: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(direct, autocommit=True) as connection:
        role, name = role_of(direct), urlsplit(direct).path.removeprefix("/")
        connection.execute(f'GRANT ALL ON SCHEMA mailglass TO "{role}"')
        connection.execute(f'GRANT ALL ON ALL TABLES IN SCHEMA mailglass TO "{role}"')
        connection.execute(f'GRANT CREATE ON DATABASE "{name}" TO "{role}"')
        connection.execute(f'ALTER ROLE "{role}" NOSUPERUSER')
    configure(settings)
    assert run(["db", "upgrade", "--role", "postgres%"]) == 1
    said = capsys.readouterr()
    assert said.out.count(f'ALTER ROLE "postgres%" IN DATABASE "{name}" SET ') == len(SESSION)


def test_statements_and_locks_work_on_sessions_that_others_share(start: Started) -> None:
    first, second = Database(start(), pooled=True), Database(start(), pooled=True)

    def often(number: int) -> int:
        return sum(len(database.run("schema_version")) for _ in range(30) for database in (first, second))

    try:
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(often, range(8))) == [60] * 8
        for _ in range(3):
            with first.locked("a") as held, second.locked("a") as too, second.locked("b") as other:
                assert (held, too, other) == (True, False, True)
                # what else the pool does in the meantime lets go of nothing
                assert often(0) == 60
                with second.locked("a") as still:
                    assert not still
    finally:
        first.dispose()
        second.dispose()


def test_a_lock_ends_with_its_process_behind_a_pooler(start: Started) -> None:
    url = start()
    first, second = Database(url, pooled=True), Database(url, pooled=True)
    try:
        with pytest.raises(RuntimeError), first.locked("a"):
            raise RuntimeError("the work failed")
        with second.locked("a") as held:
            assert held
    finally:
        first.dispose()
        second.dispose()
