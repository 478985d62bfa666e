"""The watch: check every sending domain about once an hour, keep the result, tell when one gets worse or better.

A claim is kept in the ledger first, then DNS is asked, then the result is kept, then the event is told. A process that
dies after the claim leaves the domain to be checked by another one after `ANSWER_WITHIN`. One that dies after the
result was kept has told nobody: `mailglass domains` still shows it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from mailglass import telemetry
from mailglass.domains.configured import sending_domains
from mailglass.domains.findings import RANKS, Area, Status
from mailglass.domains.report import Report
from mailglass.domains.subject import Subject
from mailglass.ledger import domains as ledger
from mailglass.ledger.database import Runs
from mailglass.settings import Settings

BATCH: Final = 5
"""Domains that one task checks, at the same time."""

ANSWER_WITHIN: Final = 300.0
AGAIN_AFTER: Final = (3600.0, 4200.0)
BUDGET: Final = 40.0
MAX_REASON: Final = 300

# greenlets share a thread, and a thread runs one event loop
_ONE_LOOP: Final = threading.Lock()
# what cannot be seen where that area could not be looked up
_RESTS_ON: Final = {
    Area.ALIGNMENT: {Area.SPF, Area.DKIM, Area.DMARC},
    Area.BIMI: {Area.DMARC},
    Area.DANE: {Area.MX},
    Area.PROVIDER: {Area.SPF, Area.DKIM},
}


@dataclass(frozen=True, slots=True)
class Change:
    """Difference of a domain from its last check.

    Attributes:
        statuses: of the findings that are not `pass`, by their ids; what could not be looked up stays as it was.
        status: the worst of them.
        worse: ids whose status is worse than before.
        better: ids whose status is better.
    """

    statuses: Mapping[str, str]
    status: Status
    worse: tuple[str, ...]
    better: tuple[str, ...]


def run(settings: Settings, database: Runs) -> bool:
    """Check the domains that are due, a few at a time.

    Args:
        settings: the process's settings.
        database: the ledger.

    Returns:
        Whether more may be due.

    Raises:
        ConfigError: the resolver of the settings is not one.
        LedgerUnavailableError: the database cannot be reached; what was kept is kept.
    """
    subjects = {subject.domain: subject for subject in sending_domains(settings)} if settings.domains.watch else {}
    if not subjects:
        return False
    token = uuid4()
    claimed = ledger.claim(database, list(subjects), token, BATCH, ANSWER_WITHIN)
    reports = _examined([subjects[name] for name in claimed], settings.domains.resolver)
    for report in reports:
        domain = report.subject.domain
        change = compare(claimed[domain], report)
        kept = ledger.save(
            database,
            domain,
            token,
            status=change.status.value,
            statuses=change.statuses,
            summary=report.counts(),
            again_after=random.uniform(*AGAIN_AFTER),  # noqa: S311 - spreads, hides nothing
        )
        if kept:
            _tell(domain, change)
    return len(claimed) == BATCH


def compare(known: Mapping[str, str] | None, report: Report) -> Change:
    """Return how a report differs from the statuses before it.

    A resolver's fault changes nothing: what could not be looked up keeps its status.

    Args:
        known: statuses by the ids of findings; what is not there was `pass`. None: the domain was never checked.
        report: of this check.
    """
    before = known or {}
    after = _statuses(known, report)
    worse = tuple(identity for identity in after if _rank(after[identity]) > _rank(before.get(identity)))
    better = tuple(identity for identity in before if _rank(after.get(identity)) < _rank(before[identity]))
    worst = max((Status(status) for status in after.values()), key=lambda status: RANKS[status], default=Status.PASS)
    return Change(after, worst, worse, better)


def _statuses(known: Mapping[str, str] | None, report: Report) -> dict[str, str]:
    """Return the statuses that are not `pass`; those that could not be looked up are as before."""
    before = known or {}
    unclear = _unclear_areas(report)
    after: dict[str, str] = {}
    for finding in report.findings:
        status = finding.status.value
        if finding.area in unclear and finding.status is Status.CANNOT_VERIFY and known is not None:
            status = before.get(finding.id, Status.PASS.value)
        if status != Status.PASS:
            after[finding.id] = status
    seen = {finding.id for finding in report.findings}
    for identity, status in before.items():
        if identity not in seen and Area(identity.partition(".")[0]) in unclear:
            after[identity] = status
    return after


def _unclear_areas(report: Report) -> set[Area]:
    """Return the areas in which a look-up failed, and those that rest on them."""
    unclear = {
        finding.area
        for finding in report.findings
        if finding.status is Status.CANNOT_VERIFY and any(lookup.failed for lookup in finding.evidence)
    }
    return unclear | {area for area, others in _RESTS_ON.items() if others & unclear}


def _rank(status: str | None) -> int:
    """Return how bad a status is. Only warnings and failures make a domain worse."""
    return {Status.WARN.value: 1, Status.FAIL.value: 2}.get(status or "", 0)


def _examined(subjects: Sequence[Subject], where: str) -> list[Report]:
    if not subjects:
        return []
    from mailglass.domains.collector import Collector, examine, parse_resolver

    resolver = parse_resolver(where, "domains.resolver")

    async def together() -> list[Report]:
        return list(
            await asyncio.gather(*(examine(subject, Collector(resolver), budget=BUDGET) for subject in subjects))
        )

    with _ONE_LOOP:
        return asyncio.run(together())


def _tell(domain: str, change: Change) -> None:
    """Say that a domain got worse or better; both where some findings did the one and some the other."""
    for kind, ids, level in (("worse", change.worse, logging.WARNING), ("better", change.better, logging.INFO)):
        if ids:
            telemetry.emit(
                f"mailglass.domain.{kind}",
                level=level,
                domain=domain,
                status=change.status.value,
                count=len(ids),
                reason=", ".join(ids)[:MAX_REASON],
            )
