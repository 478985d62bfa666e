"""Telemetry: events that somebody listens to."""

from __future__ import annotations

from mailglass.go_live.report import Answer, Status
from mailglass.go_live.site import Site


def telemetry_subscribers(site: Site) -> Answer:
    """Tell what is missing: subscribers live in the workers' processes, and nothing registers them yet."""
    return Answer(
        Status.TODO,
        f"telemetry.attach is not there yet, log lines go out as {site.settings.log_format}",
        "Subscribe by code in a module of your workers (mailglass.telemetry.subscribe): docs/architecture.md",
    )
