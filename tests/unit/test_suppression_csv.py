"""CSV files of suppressed addresses: their records, columns, reasons and moments."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.suppressions.csv_columns import columns_of, moment_of, reason_of
from mailglass.suppressions.csv_records import MAX_LINES, MAX_RECORD, records
from tests.growth import exponent

cells = st.text(st.characters(exclude_characters="\x00\r", exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.lists(cells, min_size=2, max_size=4).filter(lambda row: "".join(row).strip()), min_size=1))
def test_records_that_the_csv_module_writes_are_read_back(rows: list[list[str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["a,b", "c"], *rows])
    file.seek(0)
    found = list(records(file))
    assert [list(record.cells) for record in found] == [["a,b", "c"], *rows]


@given(st.lists(st.sampled_from(["a@example.com", '"', '"x', "y\n", 'z"\n', "\r", ";", ","]), max_size=60))
def test_good_lines_after_anything_are_read(parts: list[str]) -> None:
    after = [f"u{number}@example.com,x" for number in range(MAX_LINES * 3)]
    file = io.StringIO("value,reason\n" + "".join(parts) + "\n" + "\n".join(after), newline="")
    found = {record.cells[0] for record in records(file) if record.cells}
    assert {line.split(",")[0] for line in after[MAX_LINES + 2 :]} <= found


def test_an_open_quote_costs_its_own_line_only() -> None:
    file = io.StringIO('value\n"open\n' + "\n".join(f"u{number}@example.com" for number in range(200)), newline="")
    found = list(records(file))
    assert [(record.line, record.refusal) for record in found if record.refusal] == [(2, "quote_not_closed")]
    assert [record.line for record in found] == [1, *range(2, 203)]


def test_an_endless_line_costs_its_own_line_only() -> None:
    file = io.StringIO("value\n" + "x" * (MAX_RECORD * 3) + "\nada@example.com\n", newline="")
    assert [(record.line, record.refusal) for record in records(file)] == [(1, None), (2, "line_too_long"), (3, None)]


def test_the_delimiter_is_the_one_of_the_heading() -> None:
    for delimiter in ",;\t":
        file = io.StringIO(f"value{delimiter}reason\nada@example.com{delimiter}bounce\n", newline="")
        assert [record.cells for record in records(file)][1] == ("ada@example.com", "bounce")


@pytest.mark.parametrize("line", ['"', '"a\n', 'x"y"', "a,"])
def test_records_are_read_in_linear_time(line: str) -> None:
    def read(text: str) -> None:
        for _ in records(io.StringIO(text, newline="")):
            pass

    assert exponent(read, lambda size: line * size, 20_000) < 1.3


@pytest.mark.parametrize(
    ("heading", "reason"),
    [
        ("EmailAddress,SuppressionReason,Origin,CreatedAt", None),
        ("EmailAddress,Reason,LastUpdateTime", None),
        ("email;reason;blockedAt", None),
        ("address,code,error,created_at", "hard_bounce"),
        ("address,tags,created_at", "unsubscribe"),
        ("status,email,created", None),
        ("value,scope,stream,tenant,reason,source,account,created_at,expires_at,id", None),
    ],
)
def test_headings_of_exports_are_known(heading: str, reason: str | None) -> None:
    delimiter = ";" if ";" in heading else ","
    found = columns_of(heading.split(delimiter), {})
    assert found is not None
    assert found.reason == reason
    assert {"value", "created_at"} <= set(found.positions)


def test_a_heading_of_the_callers_own_is_taken() -> None:
    found = columns_of(["Customer", "email", "Why"], {"value": "customer", "reason": "why"})
    assert found is not None
    assert (found.positions["value"], found.positions["reason"]) == (0, 2)
    assert columns_of(["Customer"], {}) is None


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("HardBounce", "hard_bounce"),
        ("BOUNCE", "hard_bounce"),
        ("SpamComplaint", "complaint"),
        ("contactFlaggedAsSpam", "complaint"),
        ("ManualSuppression", "manual"),
        ("unsubscribedViaEmail", "unsubscribe"),
        ("hard_bounce", "hard_bounce"),
        ("550 5.1.1 no such user", None),
    ],
)
def test_reasons_of_providers_are_known_by_their_words(word: str, reason: str | None) -> None:
    assert reason_of(word) == reason


@given(st.text(max_size=40))
def test_moments_never_raise_and_have_a_zone(text: str) -> None:
    moment = moment_of(text)
    assert moment is None or moment.tzinfo is not None


def test_moments_of_exports_are_read() -> None:
    expected = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for text in (
        "2026-01-02T03:04:05Z",
        "2026-01-02 03:04:05",
        "2026-01-02T04:04:05+01:00",
        "Fri, 02 Jan 2026 03:04:05 UTC",
        "Fri, 02 Jan 2026 03:04:05 +0000",
        "1767323045",
    ):
        assert moment_of(text) == expected, text
