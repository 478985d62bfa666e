"""`mailglass domains`: list the sending domains with what the watch has seen of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from mailglass.cli.moments import format_moment
from mailglass.cli.output import JSON, format_option, note, print_json, print_table

if TYPE_CHECKING:
    from mailglass.ledger.domains import WatchedDomain


@click.command()
@click.option("--metrics", is_flag=True, help="Print the statuses as Prometheus metrics, for a textfile collector.")
@format_option
def domains(metrics: bool, output_format: str) -> None:
    """List sending domains: their status, and since when.

    A worker checks each about once an hour. `mailglass mail-doctor --domain DOMAIN` shows the findings in full.
    """
    from mailglass.domains.configured import sending_domains
    from mailglass.ledger.database import get_database
    from mailglass.ledger.domains import WatchedDomain, known
    from mailglass.settings import get_settings

    settings = get_settings()
    names = [subject.domain for subject in sending_domains(settings)]
    found = known(get_database(settings.require_database(), settings.pooled), names) if names else {}
    watched = [found.get(name, WatchedDomain(name)) for name in names]
    if metrics:
        click.echo("\n".join(metric_lines(watched)))
        return
    if output_format == JSON:
        print_json(watch=settings.domains.watch, domains=[_as_json(item) for item in watched])
        return
    print_table(("DOMAIN", "STATUS", "SINCE", "CHECKED", "FINDINGS"), [_row(item) for item in watched])
    if not watched:
        note("The settings name no sending domain: give an account a `from`, or domains under [accounts.NAME.dns].")


def metric_lines(watched: Sequence[WatchedDomain]) -> list[str]:
    """Return the statuses in Prometheus's text format; a domain that was never checked has no sample.

    Args:
        watched: the domains.
    """
    from mailglass.domains.findings import RANKS, Status

    ranks = ", ".join(f"{RANKS[status]} {status}" for status in sorted(Status, key=RANKS.__getitem__))
    name, since = "mailglass_domain_status", "mailglass_domain_status_since_timestamp_seconds"
    lines = [f"# HELP {name} Worst finding of a sending domain: {ranks}.", f"# TYPE {name} gauge"]
    for item in watched:
        if item.status is not None:
            lines.append(f'{name}{{domain="{item.domain}"}} {RANKS[Status(item.status)]}')
    lines += [f"# HELP {since} When a sending domain got this status.", f"# TYPE {since} gauge"]
    for item in watched:
        if item.since is not None:
            lines.append(f'{since}{{domain="{item.domain}"}} {item.since.timestamp():.0f}')
    return lines


def _worst(item: WatchedDomain) -> str:
    """Return the ids that make up the status."""
    ids = [identity for identity, status in item.statuses.items() if status == item.status and status != "info"]
    more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
    return ", ".join(ids[:5]) + more


def _as_json(item: WatchedDomain) -> dict[str, Any]:
    return {
        "domain": item.domain,
        "status": item.status,
        "since": _iso(item.since),
        "checked_at": _iso(item.checked_at),
        "due_at": _iso(item.due_at),
        "summary": dict(item.summary),
        "findings": [{"id": identity, "status": status} for identity, status in item.statuses.items()],
    }


def _row(item: WatchedDomain) -> tuple[str, ...]:
    checked = format_moment(item.checked_at)
    return (item.domain, item.status or "not checked yet", format_moment(item.since), checked, _worst(item))


def _iso(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
