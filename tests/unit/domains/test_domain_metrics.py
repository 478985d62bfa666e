"""Statuses of sending domains as metrics."""

from __future__ import annotations

from datetime import UTC, datetime

from mailglass.cli.domains import metric_lines
from mailglass.domains.findings import RANKS, Status
from mailglass.ledger.domains import WatchedDomain


def test_a_worse_domain_has_a_higher_number_and_an_unchecked_one_none() -> None:
    since = datetime(2030, 1, 31, 9, tzinfo=UTC)
    watched = [WatchedDomain(f"{status.value}.example", status.value, since=since) for status in Status]
    lines = metric_lines([*watched, WatchedDomain("new.example")])
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    for status in Status:
        assert samples[f'mailglass_domain_status{{domain="{status.value}.example"}}'] == str(RANKS[status])
    assert len(samples) == 2 * len(Status)
    assert float(samples['mailglass_domain_status_since_timestamp_seconds{domain="fail.example"}']) == since.timestamp()
