"""Run all checks, each apart from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from mailglass.errors import MailglassError
from mailglass.preflight import broker, configuration, ledger, workers
from mailglass.preflight.findings import Finding, Report, unchecked
from mailglass.preflight.surroundings import Surroundings

Check = Callable[[Surroundings], Iterator[Finding]]

CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("settings", configuration.settings_are_whole),
    ("recipients", configuration.recipients_are_told),
    ("logging", configuration.logging_is_for_production),
    ("accounts", configuration.accounts_open),
    ("database", ledger.schema_is_migrated),
    ("database.triggers", ledger.triggers_stand),
    ("broker", broker.broker_is_reached),
    ("eviction", broker.eviction_is_safe),
    ("workers", workers.queues_have_consumers),
    ("workers.versions", workers.versions_are_equal),
    ("database.connections", ledger.connections_suffice),
    ("clocks", ledger.clocks_agree),
    ("beat", ledger.beat_leads),
    ("work", ledger.nothing_is_stuck),
)
"""The checks in their order, each with the id of its finding where it cannot be made."""


def run(
    surroundings: Surroundings,
    on_finding: Callable[[Finding], object] = lambda finding: None,
    checks: Sequence[tuple[str, Check]] = CHECKS,
) -> Report:
    """Make every check. A check that fails to run is a finding, and the next one is made.

    Args:
        surroundings: the deployment.
        on_finding: called with each finding as soon as it is there.
        checks: the checks to make.
    """
    findings: list[Finding] = []
    for name, check in checks:
        for finding in _apart(name, check, surroundings):
            findings.append(finding)
            on_finding(finding)
    return Report(findings)


def _apart(name: str, check: Check, surroundings: Surroundings) -> Iterator[Finding]:
    try:
        yield from check(surroundings)
    except MailglassError as error:
        yield unchecked(name, str(error), "Mend the finding before it, then run this again")
    except Exception as error:
        # of the broker's or the driver's library, whose text may quote a URL
        yield unchecked(name, type(error).__name__, "Mend the finding before it, then run this again")
