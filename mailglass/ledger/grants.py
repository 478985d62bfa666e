"""Privileges in the ledger of each kind of process, read from the statements that it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from mailglass.ledger.statements import statements

Grants = Mapping[str, frozenset[str]]


class Role(StrEnum):
    """A kind of process.

    producer: calls `deliver_later` and `deliver_many`, looks at results, cancels and releases.
    worker: a Celery worker, beat, or an application that calls `deliver()`.
    web: `mailglass web`.
    suppressions: an application that reads and edits the suppression list with `mailglass.suppressions`, beside what
        else it is.
    reader: counts what waits, for a dashboard or an autoscaler. It sees no address and no content.
    """

    PRODUCER = "producer"
    WORKER = "worker"
    WEB = "web"
    SUPPRESSIONS = "suppressions"
    READER = "reader"


_BELLS: Final = ("ring", "bell_ages")
_PRODUCER: Final = (
    "submit",
    "submit_one",
    "existing",
    "delivery",
    "delivery_states",
    "timeline",
    "cancel",
    "release",
    "has_ledger",
    "ledger_identity",
    *_BELLS,
)
_SUPPRESSIONS: Final = (
    "suppress",
    "unsuppress",
    "unsuppress_these",
    "suppressions_of",
    "suppressions_after",
    "count_suppressions",
    "count_suppressed",
    "suppression",
    "audit",
    "has_ledger",
    "ledger_identity",
)
_WEB: Final = ("store_webhooks", "note_secrets", "ledger_identity", *_BELLS)
# what only people run, from the command line
_BY_HAND: Final = frozenset(
    {
        "settle",
        "hold",
        "reschedule",
        "audit",
        "audit_entries",
        "replay_webhooks",
        "unsuppress",
        "unsuppress_these",
        "suppressions_of",
        "suppressions_after",
        "suppressions_before",
        "suppressions_of_value",
        "suppression",
        "count_suppressions",
        "count_suppressed",
        "cancel",
        "release",
        "timeline",
        "counts",
        "recent_attempts",
        "recent_webhooks",
        "recent_tenants",
        "live_suppressions",
    }
)
# what functions read and write for whom calls them
_FUNCTIONS: Final[Mapping[str, Grants]] = {
    "room_for": {"deliveries": frozenset({"SELECT"})},
    "suppressions_of": {"suppressions": frozenset({"SELECT"})},
    "suppressions_where": {"suppressions": frozenset({"SELECT"})},
    "suppress": {"suppressions": frozenset({"SELECT", "INSERT", "UPDATE"})},
    "suppress_at": {
        "suppressions": frozenset({"SELECT", "INSERT", "UPDATE"}),
        "suppression_removals": frozenset({"SELECT"}),
    },
    "has_evidence": {"events": frozenset({"SELECT"})},
    "moved_by": {"deliveries": frozenset({"SELECT"}), "events": frozenset({"SELECT"})},
    "in_other_doubt": {"events": frozenset({"SELECT"})},
    "crashes_by_itself": {"deliveries": frozenset({"SELECT"}), "events": frozenset({"SELECT"})},
    "take_limits": {
        "rate_limits": frozenset({"SELECT", "INSERT", "UPDATE"}),
        "rate_lessons": frozenset({"SELECT"}),
    },
    "teach_limit": {"rate_lessons": frozenset({"SELECT", "INSERT", "UPDATE"})},
}
# no address, no name, no key, nothing of a provider's
_COUNTED: Final = (
    "id",
    "tenant_id",
    "stream",
    "queue",
    "mailable",
    "status",
    "account",
    "provider",
    "priority",
    "due_at",
    "scheduled_at",
    "expires_at",
    "lease_expires_at",
    "attempts",
    "in_doubt",
    "last_error",
    "created_at",
    "sent_at",
)
_TABLE: Final = r"mailglass\.(\w+)"
_TOUCHES: Final = (
    (re.compile(rf"INSERT INTO {_TABLE}"), ("INSERT",)),
    (re.compile(rf"(?<!DO )UPDATE {_TABLE}"), ("UPDATE", "SELECT")),
    (re.compile(r"DELETE FROM mailglass\.(\w+)"), ("DELETE", "SELECT")),
    (re.compile(rf"(?:FROM|JOIN|USING) (?:ONLY )?{_TABLE}(?!\w*\()"), ("SELECT",)),
)
_CALL: Final = re.compile(rf"{_TABLE}\(")
_UPSERT: Final = re.compile(rf"INSERT INTO {_TABLE}(?:(?!INSERT INTO).)*?ON CONFLICT[^;]*?DO UPDATE", re.DOTALL)
_RETURNING: Final = re.compile(rf"INSERT INTO {_TABLE}(?:(?!INSERT INTO|\n\), ).)*?RETURNING", re.DOTALL)


def grants(role: Role) -> dict[str, frozenset[str]]:
    """Return the privileges by table that a kind of process needs; of a reader those for all columns."""
    needed: dict[str, set[str]] = {"schema_version": {"SELECT"}, "schema_support": {"SELECT"}}
    for name in statements_of(role):
        for table, privileges in _of(statements()[name]):
            needed.setdefault(table, set()).update(privileges)
    return {table: frozenset(privileges) for table, privileges in sorted(needed.items())}


def statements_of(role: Role) -> tuple[str, ...]:
    """Return the names of the statements that a kind of process runs."""
    match role:
        case Role.PRODUCER:
            return _PRODUCER
        case Role.WEB:
            return _WEB
        case Role.SUPPRESSIONS:
            return _SUPPRESSIONS
        case Role.WORKER:
            return tuple(name for name in statements() if name not in _BY_HAND)
        case Role.READER:
            return ()


def sql(role: Role, name: str) -> list[str]:
    """Return the SQL that grants a database role what a kind of process needs, and nothing more.

    Args:
        role: the kind of process.
        name: of the role in the database; it is there already.
    """
    to = '"' + name.replace('"', '""') + '"'
    lines = [f"GRANT USAGE ON SCHEMA mailglass TO {to};"]
    for table, privileges in grants(role).items():
        order = [word for word in ("SELECT", "INSERT", "UPDATE", "DELETE") if word in privileges]
        lines.append(f"GRANT {', '.join(order)} ON mailglass.{table} TO {to};")
    if role is Role.READER:
        lines.append(f"GRANT SELECT ({', '.join(_COUNTED)}) ON mailglass.deliveries TO {to};")
    return lines


def _of(statement: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield tables and privileges that a statement needs."""
    code = "\n".join(line for line in statement.splitlines() if not line.lstrip().startswith("--"))
    locks = "FOR UPDATE" in code
    for pattern, privileges in _TOUCHES:
        for table in pattern.findall(code):
            if table not in _FUNCTIONS:
                yield table, (*privileges, "UPDATE") if locks and "DELETE" in privileges else privileges
    for table in _UPSERT.findall(code):
        yield table, ("UPDATE", "SELECT")
    for table in _RETURNING.findall(code):
        yield table, ("SELECT",)
    for function in _CALL.findall(code):
        for table, needed in _FUNCTIONS.get(function, {}).items():
            yield table, tuple(needed)
