"""A batch is recorded but for the value that the ledger cannot keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.engine.recorder import Recorder, new_lease
from mailglass.errors import LedgerError
from mailglass.ids import uuid7
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import RefusedCopy, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.suppressions import Suppression
from mailglass.settings import EngineSettings

POISON = "poison"


class Picky:
    """A ledger that refuses each statement in which one word stands, and keeps what the others held."""

    def __init__(self) -> None:
        self.recorded: list[UUID] = []
        self.copies: list[UUID] = []
        self.suppressed: list[str] = []

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        """Keep what `record` is given, or refuse it whole."""
        given = params or {}
        if any(POISON in str(value) for value in given.values()):
            raise LedgerError(name, "22021", "UntranslatableCharacter")
        ids = _ids(given["ids"])
        self.recorded += ids
        self.copies += [key for key in _ids(given["copy_ids"]) if key in ids]
        self.suppressed += [value for value in given["refused_values"].strip("{}").split(",") if value]
        return [SimpleNamespace(position=number, suppressed=False) for number in range(1, len(ids) + 1)]


def _ids(column: str) -> list[UUID]:
    return [UUID(value) for value in column.strip("{}").split(",") if value]


def record(verdicts: Sequence[Verdict], copied: Sequence[UUID]) -> Picky:
    ledger = Picky()
    refused = [Suppression("acme", "ada@example.com", "hard_bounce", "provider")]
    copies = [RefusedCopy(key, 550, None, "hard", "recipient_unknown/permanent") for key in copied]
    Recorder(ledger, new_lease(EngineSettings()), []).record(verdicts, refused, copies)
    return ledger


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_values_that_the_ledger_refuses_cost_no_suppression_and_no_refused_copy(poisoned: list[bool]) -> None:
    ids = [uuid7() for _ in poisoned]
    verdicts = [
        Verdict(key, Status.SENT, EngineEvent.ATTEMPTED, provider_message_id=POISON if bad else "known")
        for key, bad in zip(ids, poisoned, strict=True)
    ]
    ledger = record(verdicts, ids)
    assert sorted(ledger.recorded) == sorted(ids)
    assert sorted(ledger.copies) == sorted(ids)
    assert [value.strip('"') for value in ledger.suppressed] == ["ada@example.com"]


def test_verdict_that_the_ledger_refuses_even_bare_is_told() -> None:
    verdict = Verdict(uuid7(), Status.FAILED, EngineEvent.ATTEMPTED, reason=POISON)
    with pytest.raises(LedgerError):
        record([verdict], [])
