"""What makes a domain worse or better: faults of its records, never those of a resolver."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailglass.domains.findings import Area, Finding, Status
from mailglass.domains.lookups import Lookup, LookupStatus, Question
from mailglass.domains.report import Report
from mailglass.domains.subject import Subject
from mailglass.domains.watch import compare
from tests.domain_zones import DOMAIN, doctor, good

FAILED = Lookup(Question(DOMAIN, "TXT"), LookupStatus.FAILED, error="SERVFAIL")


def report(**statuses: Status) -> Report:
    findings = tuple(
        Finding(Area.SPF, check, status, "t", "w", "o", evidence=(FAILED,) if status is Status.CANNOT_VERIFY else ())
        for check, status in statuses.items()
    )
    return Report(Subject(DOMAIN), findings, (), {}, ())


def test_a_record_that_breaks_makes_a_domain_worse_and_mending_it_better() -> None:
    first = compare(None, doctor())
    assert (first.worse, first.better) == ((), ())
    broken = compare(first.statuses, doctor({f"_dmarc.{DOMAIN} TXT": None}))
    assert "dmarc.record" in broken.worse
    assert broken.status is Status.FAIL
    mended = compare(broken.statuses, doctor())
    assert "dmarc.record" in mended.better
    assert (mended.worse, mended.statuses) == ((), first.statuses)


@pytest.mark.parametrize("changes", [{}, {f"{DOMAIN} TXT": ["v=spf1 ptr +all"], f"_dmarc.{DOMAIN} TXT": None}])
def test_a_resolver_that_fails_changes_nothing(changes: dict[str, Any]) -> None:
    known = compare(None, doctor(changes))
    names = {name.rpartition(" ")[0] for name in (good() | changes)} | {"_dmarc.com"}
    lost = compare(known.statuses, doctor(changes, server={"servfail": names}))
    assert (lost.worse, lost.better) == ((), ())
    assert lost.status is known.status
    back = compare(lost.statuses, doctor(changes))
    assert (back.worse, back.better) == ((), ())


def test_a_fault_that_ends_is_forgotten_where_its_check_says_nothing_of_good_records() -> None:
    known = compare(None, doctor({f"{DOMAIN} TXT": ["v=spf1 mx ptr -all"]}))
    assert known.statuses["spf.ptr"] == Status.WARN
    mended = compare(known.statuses, doctor())
    assert mended.better == ("spf.ptr",)


_STATUSES = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(list(Status)), max_size=4)


def test_a_resolver_that_fails_makes_a_domain_without_faults_no_worse() -> None:
    lost = compare({}, report(a=Status.CANNOT_VERIFY))
    assert (lost.worse, lost.statuses, lost.status) == ((), {}, Status.PASS)
    assert compare(None, report(a=Status.CANNOT_VERIFY)).status is Status.CANNOT_VERIFY


@given(_STATUSES, _STATUSES)
@example({"a": Status.INFO}, {"a": Status.PASS, "b": Status.CANNOT_VERIFY})
def test_nothing_is_worse_and_better_at_once_and_the_same_again_is_no_change(
    before: dict[str, Status], after: dict[str, Status]
) -> None:
    known = compare(None, report(**before))
    change = compare(known.statuses, report(**after))
    assert not set(change.worse) & set(change.better)
    again = compare(change.statuses, report(**after))
    assert (again.worse, again.better, again.statuses) == ((), (), change.statuses)


@given(_STATUSES)
def test_unverifiable_check_is_neither_worse_nor_better(before: dict[str, Status]) -> None:
    known = compare(None, report(**before))
    change = compare(known.statuses, report(**dict.fromkeys(before, Status.CANNOT_VERIFY)))
    assert (change.worse, change.better) == ((), ())
