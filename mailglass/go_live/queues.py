"""Queue sizing: workers and connections against measured latency, limits and what waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mailglass.go_live.report import Answer, counted, judged
from mailglass.go_live.site import Site
from mailglass.ledger import recent
from mailglass.ledger.recent import Calls
from mailglass.preflight import ledger, workers
from mailglass.preflight.findings import Finding, Status
from mailglass.preflight.sizing import size
from mailglass.settings import LimitRule, LimitScope
from mailglass.settings.limits import ANY

# the share of mails that a provider may throttle before its limit should be configured, and how many tell a share
_THROTTLED = 0.2
_ENOUGH = 1000


def queue_sizing(site: Site) -> Answer:
    """Check that workers serve every queue and keep up, and that no provider throttles what has no limit."""
    findings = [*workers.queues_have_consumers(site), *ledger.connections_suffice(site), *ledger.nothing_is_stuck(site)]
    problems = [_said(finding) for finding in findings if finding.status is Status.FAIL or _is_late(finding)]
    calls = recent.calls(site.database)
    slots = sum(worker.processes for worker in site.workers)
    problems += _throttled(site, calls)
    details = [_account(site, name, calls.get(name), slots) for name in site.configured]
    measured = f"{len(calls)} of {len(site.configured)} accounts are measured"
    return judged(
        f"nothing waits for {counted(len(site.workers), 'worker')} with {counted(slots, 'slot')}, {measured}",
        problems,
        "`mailglass sizing --rate R --latency L` gives the figures: docs/guides/queue-sizing.md",
        details,
    )


def _is_late(finding: Finding) -> bool:
    return finding.id == "work.lanes" and finding.status is Status.WARN


def _said(finding: Finding) -> str:
    return f"{finding.id}: {finding.observed}"


def _throttled(site: Site, calls: Mapping[str, Calls]) -> Iterator[str]:
    """Yield the accounts that their providers throttle much though nothing limits them here."""
    for name, found in calls.items():
        much = found.attempts >= _ENOUGH and found.throttled > found.attempts * _THROTTLED
        if much and not limits_of(site.settings.limits, LimitScope.ACCOUNT, name):
            yield f"{name}: the provider throttled {found.throttled} of {found.attempts} mails, and no limit binds it"


def limits_of(rules: tuple[LimitRule, ...], scope: LimitScope, key: str) -> list[LimitRule]:
    """Return the rules of a scope that bind a key: its own, else those for everybody."""
    own = [rule for rule in rules if rule.scope is scope and rule.key == key]
    return own or [rule for rule in rules if rule.scope is scope and rule.key == ANY]


def rate_of(rule: LimitRule) -> str:
    """Return a rule's rate as it is configured."""
    period = {1: "s", 60: "m", 3600: "h", 86400: "d"}.get(rule.period, f"{rule.period}s")
    return f"{rule.amount}/{period}"


def _too_small(limits: list[LimitRule], latency: float, in_flight: int, slots: int) -> str:
    """Return the slots that would use a limit to the full, if there are fewer."""
    needed = max((size(1 / rule.interval, latency, concurrency=in_flight).slots for rule in limits), default=0)
    return f", which takes {counted(needed, 'slot')}" if needed > slots else ""


def _account(site: Site, name: str, calls: Calls | None, slots: int) -> str:
    """Return what is known of an account's speed: latency, requests in flight, limit."""
    limits = ", ".join(rate_of(rule) for rule in limits_of(site.settings.limits, LimitScope.ACCOUNT, name))
    limit = f"limit {limits}" if limits else "no limit"
    if calls is None:
        return f"{name}: no call is measured yet, 10 slots are where to start, {limit}"
    in_flight = int(site.configured[name].options.get("concurrency", 1) or 1)
    carried = slots * in_flight / calls.latency if calls.latency > 0 else 0.0
    figure = f"{slots} slots x {in_flight} carry {carried:.0f} requests/s" if carried else "a call takes no time"
    limit += _too_small(limits_of(site.settings.limits, LimitScope.ACCOUNT, name), calls.latency, in_flight, slots)
    return f"{name}: 95 % of {calls.attempts} mails within {calls.latency * 1000:.0f} ms, {figure}, {limit}"
