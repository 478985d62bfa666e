"""The checklist before going live, run against the demo's own stack and DNS."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mailglass.demo.assembly import Platform
from mailglass.demo.lab_dns import lab_dns
from mailglass.go_live import Report, Site, run
from mailglass.go_live.human import lines
from mailglass.runtime import close_runtime

# seconds: the one worker answers at once, unless the machine is busy
_TIMEOUT = 10.0


def checklist(platform: Platform) -> Report:
    """Run `mailglass go-live` against a platform that runs."""
    try:
        with lab_dns() as server:
            site = Site(
                platform.settings,
                resolver=server.address,
                environ={**os.environ, **platform.environment},
                timeout=_TIMEOUT,
                expected=1,
            )
            return run(site)
    finally:
        close_runtime()


def rows(report: Report) -> Iterator[tuple[str, str]]:
    """Yield the checklist as rows of the demo's report."""
    heading = "Go live"
    for line in lines(report):
        yield heading, line.text if line.status is None else f"[{line.status}] {line.text}"
        heading = ""
