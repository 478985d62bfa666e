"""Webhook wiring: by the application's source, or by the webhooks that came."""

from __future__ import annotations

from pathlib import Path

from mailglass.errors import ConfigError
from mailglass.go_live.report import Answer, Status, judged
from mailglass.go_live.site import Site
from mailglass.ledger import recent
from mailglass.providers.base import Provider
from mailglass.providers.registry import provider_class
from mailglass.wiring.doctor import diagnose
from mailglass.wiring.findings import CANNOT_DIAGNOSE
from mailglass.wiring.findings import Status as WiringStatus


def webhook_wiring(site: Site) -> Answer:
    """Check that webhooks reach the endpoint: read the source if it is known, else look for webhooks in the ledger."""
    read = None if site.project is None else _by_source(site.project)
    return read or _by_arrival(site)


def _by_source(project: Path) -> Answer | None:
    """Return what the source says, or None if it holds no application."""
    diagnosis = diagnose(project)
    if diagnosis.exit_code == CANNOT_DIAGNOSE:
        return None
    failed = [finding for finding in diagnosis.findings if finding.status is WiringStatus.FAIL]
    return judged(
        f"{project}: the endpoint is mounted, and nothing changes a body before it",
        [f"{finding.observed} ({finding.place})" if finding.place else finding.observed for finding in failed],
        failed[0].remedy if failed else "",
    )


def _by_arrival(site: Site) -> Answer:
    posting = [name for name, account in site.configured.items() if _posts(account.provider)]
    if not posting:
        return Answer(Status.PASS, "no account's provider posts webhooks")
    came = recent.webhooks(site.database)
    problems = [f"no webhook of {name} has come yet" for name in posting if name not in came]
    details = [
        f"{name}: the newest webhook came at {came[name]:%Y-%m-%d %H:%M:%S} UTC" for name in posting if name in came
    ]
    return judged(
        f"webhooks of {', '.join(posting)} arrive",
        problems,
        "Send one mail through the account, or check your application's source: `mailglass go-live --project PATH`",
        details,
    )


def _posts(provider: str) -> bool:
    """Return whether a provider posts webhooks, or lays them into a queue."""
    try:
        cls = provider_class(provider)
    except ConfigError:
        return False
    return cls.polled or cls.verify is not Provider.verify
