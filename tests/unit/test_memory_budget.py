"""The memory budget of webhook bodies: whatever comes and goes, the bounds hold and nothing is lost."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.web import memory_budget
from mailglass.web.memory_budget import BodyReading, MemoryBudget, network_of

MEMORY = 1000
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "take", "keep", "drop", "release"]),
        st.sampled_from(["one", "two"]),
        st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]),
        st.integers(0, 700),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(ACTIONS)
def test_bounds_hold_and_memory_comes_back_whatever_happens(actions: list[tuple[str, str, str, int, int]]) -> None:
    budget, reading, kept, stopped = MemoryBudget(MEMORY), [], [], Counter[int]()
    with pytest.MonkeyPatch.context() as patch:
        for name, bound in (("PER_PEER", 2), ("PER_ACCOUNT", 3), ("IN_ALL", 4)):
            patch.setattr(memory_budget, name, bound)
        for number, (action, account, peer, size, which) in enumerate(actions):
            reading = [one for one in reading if not one.dropped]
            if action == "begin":
                reading.append(budget.begin(account, peer, lambda number=number: stopped.update([number])))
            elif action == "release" and kept:
                budget.release(kept.pop(which % len(kept)))
            elif action != "release" and reading:
                one = reading[which % len(reading)]
                if action == "take" and budget.take(one, size):
                    continue
                reading.remove(one)
                budget.end(one, keep=action == "keep")
                kept += [one] if action == "keep" else []
            _holds(budget, [one for one in reading if not one.dropped], kept)
    assert set(stopped.values()) <= {1}


def _holds(budget: MemoryBudget, reading: list[BodyReading], kept: list[BodyReading]) -> None:
    assert budget.free == MEMORY - sum(one.size for one in (*reading, *kept)) >= 0
    assert len(budget) == len(reading) <= 4
    for kind, bound in ((0, 2), (1, 3)):
        assert max(Counter(one.groups[kind] for one in reading).values(), default=0) <= bound


def test_a_host_that_may_choose_among_many_addresses_is_one_peer() -> None:
    assert network_of("2001:db8:1:2::5") == network_of("2001:db8:1:2:ffff::1") != network_of("2001:db8:1:3::5")
    assert network_of("fe80::1%eth0") == network_of("fe80::2")
    assert [network_of(peer) for peer in ("192.0.2.1", "", "a:b")] == ["192.0.2.1", "", "a:b"]
