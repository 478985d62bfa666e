"""The answers of a batch: a sequence like any other, in a few bytes each."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import MessageError
from mailglass.ids import uuid7
from mailglass.outbound.batch_results import BatchResults, ItemOutcome, ItemResult

RESULTS = st.lists(
    st.builds(
        ItemResult,
        st.sampled_from(ItemOutcome),
        st.lists(st.uuids(), max_size=3).map(tuple),
        st.one_of(st.none(), st.just(MessageError("to", "wrong"))),
    ),
    max_size=20,
)


def collected(results: list[ItemResult]) -> BatchResults:
    found = BatchResults()
    for result in results:
        found.append(result)
    return found


@given(RESULTS)
def test_results_come_out_in_the_order_they_were_put_in(results: list[ItemResult]) -> None:
    found = collected(results)
    assert len(found) == len(results)
    assert list(found) == results
    assert found == results
    assert [found[-position - 1] for position in range(len(results))] == results[::-1]
    assert found[1:3] == results[1:3]


def test_counts_are_by_outcome() -> None:
    found = collected([ItemResult(ItemOutcome.QUEUED), ItemResult(ItemOutcome.INVALID), ItemResult(ItemOutcome.QUEUED)])
    assert found.counts == {ItemOutcome.QUEUED: 2, ItemOutcome.INVALID: 1}
    assert repr(found) == "<BatchResults: 2 queued, 1 invalid>"


def test_a_result_takes_a_few_bytes() -> None:
    found = BatchResults()
    for _ in range(10_000):
        found.append(ItemResult(ItemOutcome.QUEUED, (uuid7(),)))
    size = sys.getsizeof(found._outcomes) + sys.getsizeof(found._ids) + sys.getsizeof(found._ends)
    assert size < 10_000 * 32
