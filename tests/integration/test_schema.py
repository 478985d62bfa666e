"""The ledger's schema: made from nothing, by many at once; what it refuses; what the code believes of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import product
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from mailglass.errors import LedgerUnavailableError, SchemaError
from mailglass.ids import uuid7
from mailglass.ledger import schema
from mailglass.ledger.lifecycle import ALLOWED, Status
from mailglass.ledger.statements import statements
from mailglass.ledger.tables import metadata


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


def scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(schema._config(None))


def test_the_head_that_the_code_needs_is_the_last_migration() -> None:
    assert scripts().get_heads() == [schema.HEAD]


def test_revisions_are_ordered_by_their_names() -> None:
    revisions = [script.revision for script in scripts().walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)


def test_a_schema_is_made_from_nothing_and_made_again_without_change(empty_database_url: str) -> None:
    assert schema.current(empty_database_url) is None
    assert schema.upgrade(empty_database_url) == schema.HEAD
    before = dump(empty_database_url)
    assert schema.upgrade(empty_database_url) == schema.HEAD
    assert dump(empty_database_url) == before
    schema.check(empty_database_url)


def test_each_step_up_and_down_leads_where_the_steps_before_it_led(empty_database_url: str) -> None:
    revisions = [script.revision for script in scripts().walk_revisions()][::-1]
    stood = []
    for revision in revisions:
        schema.upgrade(empty_database_url, revision)
        stood.append(dump(empty_database_url))
    for revision, before in list(zip(revisions, stood, strict=True))[-2::-1]:
        schema.downgrade(empty_database_url, revision)
        assert schema.current(empty_database_url) == revision
        assert dump(empty_database_url) == before
    schema.downgrade(empty_database_url, "base")
    assert dump(empty_database_url) == []
    assert schema.current(empty_database_url) is None


def dump(url: str) -> list[tuple[str, ...]]:
    """What is in the schema, apart from the table of its version."""
    with psycopg.connect(url) as opened:
        return opened.execute(
            """
            SELECT 'column', table_name, column_name, data_type, is_nullable, column_default
            FROM information_schema.columns WHERE table_schema = 'mailglass' AND table_name <> 'schema_version'
            UNION ALL
            SELECT 'index', tablename, indexname, indexdef, NULL, NULL FROM pg_indexes
            WHERE schemaname = 'mailglass' AND tablename <> 'schema_version'
            UNION ALL
            SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), NULL, NULL FROM pg_trigger
            WHERE NOT tgisinternal
            UNION ALL
            SELECT 'function', proname, pg_get_functiondef(p.oid), NULL, NULL, NULL
            FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'mailglass'
            UNION ALL
            SELECT 'constraint', relname, conname, pg_get_constraintdef(c.oid), NULL, NULL
            FROM pg_constraint c JOIN pg_class r ON r.oid = conrelid JOIN pg_namespace n ON n.oid = connamespace
            WHERE nspname = 'mailglass' AND relname <> 'schema_version'
            ORDER BY 1, 2, 3
            """
        ).fetchall()


def test_several_processes_and_threads_upgrade_at_once(empty_database_url: str) -> None:
    program = "import sys; from mailglass.ledger.schema import upgrade; print(upgrade(sys.argv[1]))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, empty_database_url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(schema.upgrade(empty_database_url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    answers += [process.communicate(timeout=60)[0].strip() for process in processes]
    assert answers == [schema.HEAD] * 6
    assert [process.returncode for process in processes] == [0, 0, 0]


def test_a_missing_schema_is_refused_with_the_command_that_makes_it(empty_database_url: str) -> None:
    with pytest.raises(SchemaError, match=r"is missing.*`mailglass db upgrade`"):
        schema.check(empty_database_url)


def test_an_older_schema_is_refused_with_the_command_that_upgrades_it(
    database_url: str, connection: psycopg.Connection
) -> None:
    connection.execute("UPDATE mailglass.schema_version SET version_num = '0000'")
    with pytest.raises(SchemaError, match=r"at revision 0000.*`mailglass db upgrade`"):
        schema.check(database_url)


def move(connection: psycopg.Connection, revision: str, oldest_code: str) -> None:
    """Say that the schema is at another revision, for code of another one or newer."""
    connection.execute("UPDATE mailglass.schema_version SET version_num = %s", [revision])
    connection.execute("UPDATE mailglass.schema_support SET oldest_code = %s", [oldest_code])


def test_a_newer_schema_that_this_code_may_work_on_is_accepted(
    database_url: str, connection: psycopg.Connection
) -> None:
    for oldest in ("0005", schema.HEAD):
        move(connection, "9999", oldest)
        assert schema.check(database_url) == ("9999", oldest)


def test_a_newer_schema_that_needs_newer_code_is_refused(database_url: str, connection: psycopg.Connection) -> None:
    move(connection, "9999", "9998")
    with pytest.raises(SchemaError, match=r"revision 9999, which needs a mailglass of 9998 .* upgrade mailglass"):
        schema.check(database_url)


@given(st.integers(5, 9998), st.integers(5, 9998))
def test_only_a_schema_between_the_codes_revision_and_its_own_rule_is_worked_on(revision: int, oldest: int) -> None:
    version = schema.Version(f"{revision:04}", f"{oldest:04}")
    usable = int(schema.HEAD) <= revision and oldest <= int(schema.HEAD)
    assert (schema.problem(version) is None) == usable


def test_waiting_ends_when_the_schema_is_upgraded_and_says_what_it_waits_for(empty_database_url: str) -> None:
    reasons: list[str] = []
    upgrading = threading.Thread(target=schema.upgrade, args=(empty_database_url,))

    def begin(reason: str) -> None:
        if not reasons:
            upgrading.start()
        reasons.append(reason)

    assert schema.wait(empty_database_url, 60, begin, poll=0.01).revision == schema.HEAD
    upgrading.join()
    assert "is missing" in reasons[0]


def test_waiting_for_a_schema_ends_with_its_time(empty_database_url: str) -> None:
    with pytest.raises(SchemaError, match="is missing"):
        schema.wait(empty_database_url, 0)


def test_a_schema_that_is_too_new_is_not_waited_for(database_url: str, connection: psycopg.Connection) -> None:
    move(connection, "9999", "9999")
    with pytest.raises(SchemaError, match="upgrade mailglass"):
        schema.wait(database_url, 3600)


def test_an_unreachable_database_is_an_error_that_shows_no_url(unused_port: int) -> None:
    url = f"postgresql://ada:secret@127.0.0.1:{unused_port}/x"
    for call in (schema.current, schema.check, schema.upgrade):
        with pytest.raises(LedgerUnavailableError) as caught:
            call(url)
        assert "secret" not in str(caught.value)


def test_the_tables_that_the_code_knows_are_those_of_the_schema(connection: psycopg.Connection) -> None:
    known = {
        (table.name, column.name): (column.type.compile(dialect=postgresql.dialect()).lower(), column.nullable)
        for table in metadata.tables.values()
        for column in table.columns
    }
    columns = connection.execute(
        "SELECT table_name, column_name, data_type, is_nullable = 'YES' FROM information_schema.columns "
        "WHERE table_schema = 'mailglass' AND table_name = ANY (%s)",
        [[table.name for table in metadata.tables.values()]],
    )
    assert known == {(table, column): (kind, nullable) for table, column, kind, nullable in columns}


def test_every_statement_is_one_that_the_schema_understands(connection: psycopg.Connection) -> None:
    for name, statement in statements().items():
        plain = statement
        for number, parameter in enumerate(dict.fromkeys(parameters(statement)), 1):
            plain = plain.replace(f"%({parameter})s", f"${number}")
        try:
            connection.execute(f'PREPARE "{name}" AS {plain}')
        except psycopg.errors.IndeterminateDatatype:
            # its type is known only with a value; everything around it was understood
            continue


def parameters(statement: str) -> list[str]:
    return [part.partition(")s")[0] for part in statement.split("%(")[1:]]


def delivery(connection: psycopg.Connection, status: str) -> UUID:
    key = uuid7()
    connection.execute(
        "INSERT INTO mailglass.deliveries"
        " (id, tenant_id, message_id, stream, queue, status, recipient, recipient_domain)"
        " VALUES (%s, 'acme', %s, 'bulk', 'mailglass', %s, 'ada@example.com', 'example.com')",
        [key, uuid4(), status],
    )
    return key


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE mailglass.events SET kind = 'delivered'",
        "UPDATE mailglass.events SET kind = 'delivered' WHERE false",
        "DELETE FROM mailglass.events",
        "TRUNCATE mailglass.events",
        "INSERT INTO mailglass.events SELECT * FROM mailglass.events ON CONFLICT (id) DO UPDATE SET kind = 'opened'",
    ],
)
def test_events_are_append_only(connection: psycopg.Connection, change: str) -> None:
    connection.execute(
        "INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at)"
        " VALUES (%s, %s, 'acme', 'queued', 'engine', now())",
        [uuid7(), uuid7()],
    )
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(change)
    assert caught.value.sqlstate == "45A01"
    assert connection.execute("SELECT kind FROM mailglass.events").fetchall() == [("queued",)]


def test_the_database_allows_the_moves_of_the_lifecycle_and_no_other(connection: psycopg.Connection) -> None:
    answers: dict[tuple[Status, Status], str | None] = {}
    for source, target in product(Status, Status):
        key = delivery(connection, source)
        try:
            connection.execute("UPDATE mailglass.deliveries SET status = %s WHERE id = %s", [target, key])
            answers[source, target] = None
        except psycopg.Error as error:
            answers[source, target] = error.sqlstate
    stays = {(status, status) for status in Status}
    assert {pair for pair, state in answers.items() if state is None} == ALLOWED | stays
    assert {state for state in answers.values() if state is not None} == {"45A02"}


@pytest.mark.parametrize(("delay", "waiting"), [("-1 second", False), ("1 hour", True)])
def test_a_statement_that_only_sets_the_moment_has_put_off_noted(
    connection: psycopg.Connection, delay: str, waiting: bool
) -> None:
    key = delivery(connection, "queued")
    connection.execute("UPDATE mailglass.deliveries SET waiting = %s WHERE id = %s", [not waiting, key])
    moved = "UPDATE mailglass.deliveries SET due_at = now() + CAST(%s AS interval) WHERE id = %s"
    connection.execute(moved, [delay, key])
    assert connection.execute("SELECT waiting FROM mailglass.deliveries").fetchall() == [(waiting,)]


def test_a_moment_is_noted_for_a_role_that_may_write_that_column_alone(connection: psycopg.Connection) -> None:
    key, role = delivery(connection, "queued"), f"puts_off_{uuid4().hex}"
    connection.execute(f"CREATE ROLE {role}")
    try:
        connection.execute(f"GRANT USAGE ON SCHEMA mailglass TO {role}")
        connection.execute(f"GRANT SELECT (id), UPDATE (due_at) ON mailglass.deliveries TO {role}")
        connection.execute(f"SET ROLE {role}")
        connection.execute("UPDATE mailglass.deliveries SET due_at = now() + interval '1 hour' WHERE id = %s", [key])
        connection.execute("RESET ROLE")
        assert connection.execute("SELECT waiting FROM mailglass.deliveries").fetchall() == [(True,)]
    finally:
        connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("status", list(Status))
def test_no_move_leads_to_a_state_that_does_not_exist(connection: psycopg.Connection, status: Status) -> None:
    key = delivery(connection, status)
    with pytest.raises(psycopg.Error) as caught:
        connection.execute("UPDATE mailglass.deliveries SET status = 'teleported' WHERE id = %s", [key])
    assert caught.value.sqlstate == "45A02"


def test_a_complaint_never_expires(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(
            "INSERT INTO mailglass.suppressions (id, tenant_id, scope, value, reason, source, expires_at)"
            " VALUES (%s, 'acme', 'address', 'ada@example.com', 'complaint', 'webhook', now())",
            [uuid7()],
        )


def test_sqlalchemy_reads_what_the_schema_holds(database_url: str) -> None:
    engine = sqlalchemy.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as opened:
        for table in metadata.tables.values():
            assert opened.execute(sqlalchemy.select(table)).all() == []
    engine.dispose()
