"""The demo's check: it finds what was lost and what was sent twice, and lets pass what the ledger accounts for."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.demo.check import Check, Recorded, check
from mailglass.ledger.lifecycle import FINAL, Status

SENT = Recorded(Status.SENT)


def one(recorded: Recorded | None, received: int) -> tuple[UUID, Check]:
    delivery = uuid4()
    return delivery, check([delivery], {delivery: recorded} if recorded else {}, {delivery: received})


def test_each_sent_once_is_well() -> None:
    ids = [uuid4() for _ in range(5)]
    result = check(ids, dict.fromkeys(ids, SENT), dict.fromkeys(ids, 1))
    assert result.ok
    assert result == Check()


def test_a_sent_delivery_that_nobody_received_is_lost() -> None:
    delivery, result = one(SENT, 0)
    assert result.faults == {"lost": (delivery,)}
    assert not result.ok


def test_a_delivery_received_twice_without_a_resend_in_its_ledger_is_a_fault() -> None:
    delivery, result = one(SENT, 2)
    assert result.faults == {"twice": (delivery,)}


def test_a_delivery_received_twice_is_accounted_for_by_one_resend_after_an_uncertain_outcome() -> None:
    delivery, result = one(Recorded(Status.SENT, resends=1, uncertain=True), 2)
    assert result.ok
    assert result.resent == (delivery,)


def test_single_resend_does_not_account_for_three() -> None:
    delivery, result = one(Recorded(Status.SENT, resends=1, uncertain=True), 3)
    assert result.faults == {"twice": (delivery,)}


def test_an_uncertain_outcome_alone_does_not_account_for_two() -> None:
    delivery, result = one(Recorded(Status.SENT, uncertain=True), 2)
    assert result.faults == {"twice": (delivery,)}


@pytest.mark.parametrize("status", sorted(set(Status) - FINAL))
def test_a_delivery_that_is_not_final_is_a_fault(status: Status) -> None:
    delivery, result = one(Recorded(status), 0)
    assert result.faults == {"unfinished": (delivery,)}


@pytest.mark.parametrize("status", sorted(FINAL - {Status.SENT}))
def test_mail_that_was_never_sent_must_not_have_been_received(status: Status) -> None:
    assert one(Recorded(status), 0)[1].ok
    delivery, result = one(Recorded(status), 1)
    assert result.faults == {"unrecorded": (delivery,)}


def test_a_delivery_that_failed_while_its_outcome_was_uncertain_may_have_been_received() -> None:
    assert one(Recorded(Status.FAILED, uncertain=True), 1)[1].ok


def test_a_delivery_that_is_not_in_the_ledger_is_a_fault() -> None:
    delivery, result = one(None, 1)
    assert result.faults == {"unknown": (delivery,)}


def test_a_delivery_made_by_a_repeated_call_is_a_fault() -> None:
    delivery, extra = uuid4(), uuid4()
    result = check([delivery], {delivery: SENT}, {delivery: 1, extra: 1}, [extra])
    assert result.faults == {"repeated": (extra,)}


def test_deliveries_of_other_runs_do_not_count() -> None:
    ours, theirs = uuid4(), uuid4()
    assert check([ours], {ours: SENT}, {ours: 1, theirs: 7}).ok


@given(st.lists(st.tuples(st.sampled_from(sorted(Status)), st.integers(0, 3), st.integers(0, 2), st.booleans())))
def test_run_is_well_exactly_when_every_delivery_is(rows: list[tuple[Status, int, int, bool]]) -> None:
    ids = [uuid4() for _ in rows]
    ledger = {
        key: Recorded(status, resends, uncertain)
        for key, (status, _, resends, uncertain) in zip(ids, rows, strict=True)
    }
    received = {key: row[1] for key, row in zip(ids, rows, strict=True)}
    fine = all(
        status in FINAL
        and (times > 0 or status is not Status.SENT)
        and (times == 0 or status is Status.SENT or uncertain)
        and times <= 1 + resends
        for status, times, resends, uncertain in rows
    )
    assert check(ids, ledger, received).ok is fine
