"""Ids: UUIDv7, in order, alone and many at once."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import ids
from mailglass.ids import uuid7, uuid7s

LAST_RANDOM_BITS = (1 << 62) - 1


def test_an_id_is_a_uuid_of_version_7() -> None:
    made = uuid7()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")


@given(count=st.integers(0, 1000))
def test_many_ids_are_distinct_ascending_and_of_version_7(count: int) -> None:
    made = uuid7s(count)
    assert len(set(made)) == count
    assert made == sorted(made)
    assert {item.version for item in made} <= {7}


@pytest.mark.parametrize("below_the_end", [0, 1, 5, 9, 10, 11])
def test_many_ids_never_count_into_the_variant(monkeypatch: pytest.MonkeyPatch, below_the_end: int) -> None:
    first = UUID(int=uuid7().int | LAST_RANDOM_BITS)
    monkeypatch.setattr(ids, "uuid7", lambda: UUID(int=first.int - below_the_end))
    made = uuid7s(10)
    assert len(set(made)) == 10
    assert {item.int >> 62 for item in made} == {first.int >> 62}
