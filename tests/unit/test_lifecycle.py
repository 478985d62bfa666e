"""The life of a delivery as data: read aloud by the documentation, reachable, and with ends."""

from __future__ import annotations

import re
from pathlib import Path

from mailglass.ledger.lifecycle import ALLOWED, FINAL, MEANING, MOVES, Status, describe

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_table_in_the_documentation_is_the_one_in_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+) \|$", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(move.source.value, move.target.value, move.cause) for move in MOVES]


def test_every_state_has_a_meaning_and_is_reached() -> None:
    assert set(MEANING) == set(Status)
    begins = {Status.QUEUED, Status.SUPPRESSED}
    assert {move.target for move in MOVES} | begins == set(Status)


def test_a_final_state_is_never_left() -> None:
    assert not [move for move in MOVES if move.source in FINAL]


def test_every_state_leads_to_a_final_one() -> None:
    leads_to_end = set(FINAL)
    while grown := {source for source, target in ALLOWED if target in leads_to_end} - leads_to_end:
        leads_to_end |= grown
    assert leads_to_end == set(Status)


def test_nothing_is_sent_without_passing_through_sending() -> None:
    assert [move.source for move in MOVES if move.target is Status.SENDING] == [Status.CLAIMED]


def test_every_transition_has_a_sentence() -> None:
    assert "sending -> uncertain: answer lost, or the worker died" in describe().splitlines()
