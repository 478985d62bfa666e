"""The ledger's statements as PostgreSQL runs them: what the hot ones wait for, and how they find their rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from mailglass.ids import uuid7
from mailglass.ledger import arrays, database
from mailglass.ledger.database import Database, statements

# PostgreSQL stores no NUL, and no lone surrogate can be sent
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])) | st.sampled_from(
    ["", "NULL", "null", "{}", ",", '"', "\\", '\\"', "a b", " ", "\t\n", "{a,b}", "\\x00"]
)


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """As the ledger connects."""
    with psycopg.connect(database_url, autocommit=True, options=database._SESSION) as opened:
        yield opened


def read_back(connection: psycopg.Connection, literal: str, kind: str) -> list[Any]:
    query = sql.SQL("SELECT CAST(%s AS {}[])").format(sql.SQL(kind))
    row = connection.execute(query, (literal,)).fetchone()
    assert row is not None
    return row[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    texts=st.lists(st.none() | TEXTS, max_size=8),
    floats=st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=8),
    integers=st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=8),
    truths=st.lists(st.booleans(), max_size=8),
    ids=st.lists(st.none() | st.uuids(), max_size=8),
)
def test_arrays_mean_to_postgresql_what_they_mean_here(
    connection: psycopg.Connection,
    texts: list[str | None],
    floats: list[float | None],
    integers: list[int | None],
    truths: list[bool],
    ids: list[UUID | None],
) -> None:
    assert read_back(connection, arrays.texts(texts), "text") == texts
    assert read_back(connection, arrays.numbers(floats), "double precision") == floats
    assert read_back(connection, arrays.numbers(integers), "integer") == integers
    assert read_back(connection, arrays.booleans(truths), "boolean") == truths
    assert read_back(connection, arrays.uuids(ids), "uuid") == ids


def test_only_a_claim_commits_without_waiting_for_the_disk() -> None:
    assert [name for name, text in statements().items() if "synchronous_commit" in text] == ["claim"]


def generic_plan(connection: psycopg.Connection, name: str) -> str:
    """How the statement is run, whatever its parameters."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statements()[name])))
    text = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", statements()[name])
    connection.execute(sql.SQL("PREPARE explained AS ") + sql.SQL(text))
    nothing = sql.SQL(", ").join([sql.SQL("NULL")] * len(names))
    rows = connection.execute(sql.SQL("EXPLAIN EXECUTE explained ({})").format(nothing)).fetchall()
    return "\n".join(row[0] for row in rows)


def test_a_mark_finds_its_deliveries_by_key_and_walks_over_no_leases(connection: psycopg.Connection) -> None:
    found = generic_plan(connection, "mark")
    assert "deliveries_pkey" in found
    assert "deliveries_lease" not in found


@pytest.mark.parametrize("name", ["submit", "claim", "mark", "record"])
def test_a_hot_statement_reads_no_table_from_end_to_end(connection: psycopg.Connection, name: str) -> None:
    found = generic_plan(connection, name)
    assert "Index" in found
    assert "Seq Scan" not in found


def test_a_connection_that_was_cut_is_replaced_and_its_statement_run_again(
    database_url: str, connection: psycopg.Connection
) -> None:
    ledger = Database(database_url)
    try:
        ledger.run("schema_version")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'mailglass'"
        )
        assert ledger.run("delivery", {"id": str(uuid7())}) == []
    finally:
        ledger.dispose()


def test_a_connection_whose_statement_was_interrupted_is_not_used_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        pass

    def interrupted(cursor: Any, *args: Any, **kwargs: Any) -> None:
        # the answer is under way when a time limit strikes
        cursor._conn.pgconn.send_query(b"SELECT 'the answer of the interrupted one'")
        raise Interrupted

    ledger = Database(database_url)
    try:
        ledger.run("schema_version")
        with monkeypatch.context() as patched:
            patched.setattr(psycopg.Cursor, "execute", interrupted)
            with pytest.raises(Interrupted):
                ledger.run("schema_version")
        assert ledger.run("delivery", {"id": str(uuid7())}) == []
    finally:
        ledger.dispose()
