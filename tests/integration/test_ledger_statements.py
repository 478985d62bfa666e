"""The ledger's statements as PostgreSQL runs them: what the hot ones wait for, and how they find their rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.rows import namedtuple_row

from mailglass.errors import SuppressionType
from mailglass.ids import uuid7
from mailglass.ledger import arrays
from mailglass.ledger.database import Database
from mailglass.ledger.low_water import BEGINNING
from mailglass.ledger.pooler import STARTUP_OPTIONS
from mailglass.ledger.statements import statements
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.suppressions import Suppression, suppress
from mailglass.mail.addresses import Address
from mailglass.routing import Lane

# PostgreSQL stores no NUL, and no lone surrogate can be sent
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])) | st.sampled_from(
    ["", "NULL", "null", "{}", ",", '"', "\\", '\\"', "a b", " ", "\t\n", "{a,b}", "\\x00"]
)


@pytest.fixture
def connection(direct_url: str) -> Iterator[psycopg.Connection]:
    """As the ledger connects."""
    with psycopg.connect(direct_url, autocommit=True, options=STARTUP_OPTIONS) as opened:
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


@pytest.mark.parametrize("name", ["submit", "submit_one", "claim", "mark", "record", "sweep", "resume"])
def test_a_hot_statement_reads_no_table_from_end_to_end(connection: psycopg.Connection, name: str) -> None:
    found = generic_plan(connection, name)
    assert "Index" in found
    assert "Seq Scan" not in found


@pytest.mark.parametrize("name", [name for name, text in statements().items() if "mailglass.suppressions_of(" in text])
def test_suppressions_are_found_by_their_value_whatever_collation_it_has(
    connection: psycopg.Connection, name: str
) -> None:
    found = generic_plan(connection, name)
    assert re.search(r"Scan using suppressions_entry on [^\n]*\n *Index Cond: \(*(\w+\.)?value = ANY", found)


def pages_read(connection: psycopg.Connection, name: str, params: dict[str, Any]) -> int:
    """The pages that a statement looks at, its changes undone."""
    with connection.transaction(force_rollback=True):
        row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statements()[name]}", params).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def test_a_long_suppression_list_costs_a_claim_no_more_than_a_short_one(connection: psycopg.Connection) -> None:
    ledger, lane = OnConnection(connection), Lane("mailglass", "acme", "bulk")
    items = [Item(uuid7(), lane, uuid7(), "{}", Address(f"u{number}@example.com")) for number in range(50)]
    submit(ledger.run, items)
    params = {
        "queue": lane.queue,
        "tenant": lane.tenant,
        "stream": lane.stream,
        "token": str(uuid7()),
        "lease": 60.0,
        "size": 50,
        **BEGINNING.params,
        "cap": None,
        "max_bytes": 1_000_000,
        "suspects_first": False,
        "again": False,
    }
    costs = []
    for size in (10, 5000):
        suppress(ledger, [Suppression("acme", f"x{n}@example.com", "manual", "manual") for n in range(size)])
        connection.execute("ANALYZE mailglass.suppressions")
        costs.append(pages_read(connection, "claim", params))
    assert costs[1] < costs[0] * 1.5


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


RECIPIENTS = ("ada@example.com", "Gone@Example.com", "left@example.org", "x@blocked.example")
SUPPRESSED = [
    Suppression("acme", "gone@example.com", "hard_bounce", "webhook"),
    Suppression("*", "gone@example.com", "complaint", "webhook"),
    Suppression("acme", "left@example.org", "unsubscribe", "webhook", SuppressionType.ADDRESS_STREAM, stream="b"),
    Suppression("acme", "blocked.example", "manual", "manual", SuppressionType.DOMAIN),
    # these stand in nobody's way: no address, ended, somebody else's
    Suppression("acme", "example.org", "manual", "manual"),
    Suppression("acme", "ada@example.com", "manual", "manual", expires_at=datetime(2020, 1, 1, tzinfo=UTC)),
    Suppression("initech", "ada@example.com", "manual", "manual"),
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.data())
def test_a_delivery_is_recorded_alone_as_it_is_among_others(
    connection: psycopg.Connection, data: st.DataObject
) -> None:
    ledger = OnConnection(connection)
    suppress(ledger, SUPPRESSED)
    message_id, key = uuid7(), data.draw(st.none() | st.text("abc", min_size=1))
    item = Item(
        id=uuid7(),
        lane=Lane(
            "mailglass", data.draw(st.sampled_from(["acme", "globex"])), data.draw(st.sampled_from(["bulk", "x"]))
        ),
        message_id=message_id,
        content='{"v": 1}',
        recipient=Address(data.draw(st.sampled_from(RECIPIENTS)), data.draw(st.sampled_from(["", 'A "B" \\']))),
        frozen=data.draw(st.booleans()),
        group_id=data.draw(st.sampled_from([None, message_id])),
        mailable=data.draw(st.sampled_from([None, "shop:Receipt"])),
        idempotency_key=key and f"{key}-{message_id}",
        digest=data.draw(st.sampled_from([None, "d"])),
        priority=data.draw(st.integers(0, 9)),
        delay=data.draw(st.sampled_from([0.0, 0.5, 3600.0])),
        grace=data.draw(st.sampled_from([0.0, 60.0])),
        lifetime=data.draw(st.sampled_from([None, 60.0])),
    )
    other = Item(uuid7(), Lane("mailglass", "other", "bulk"), uuid7(), "{}", Address("other@example.com"))
    stood = []
    for among in ([item], [item, other]):
        with connection.transaction(force_rollback=True):
            answer = submit(ledger.run, among)[0]
            again = submit(ledger.run, among)[0]
            rows = [
                connection.execute("SELECT * FROM mailglass.deliveries WHERE id = %s", (item.id,)).fetchone(),
                connection.execute(
                    "SELECT content::text, frozen FROM mailglass.messages WHERE id = %s", (message_id,)
                ).fetchone(),
                connection.execute(
                    "SELECT kind, source, status, reason, tenant_id FROM mailglass.events WHERE delivery_id = %s",
                    (item.id,),
                ).fetchall(),
            ]
            start = connection.execute("SELECT statement_timestamp()").fetchone()[0]
        # each is a statement of its own, some milliseconds after the other
        moments = [
            round((value - start).total_seconds()) if isinstance(value, datetime) else value for value in rows[0]
        ]
        stood.append((answer, again, moments, rows[1:]))
    assert stood[0] == stood[1]


class OnConnection:
    """The ledger's statements on one connection, within its transaction."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def run(self, name: str, params: Any = None) -> Any:
        with self._connection.cursor(row_factory=namedtuple_row) as cursor:
            cursor.execute(statements()[name], params)
            return cursor.fetchall()
