"""Telemetry in an application: it says nothing on its own account, and everything where logging is configured."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from mailglass import telemetry

EMIT = """
import logging, sys
{before}
from mailglass import telemetry
telemetry.emit("mailglass.doorbell.unreachable", level=logging.WARNING, error_type="OSError")
{after}
"""


def run(before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    program = EMIT.format(before=before, after=after)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)


@pytest.mark.parametrize("before", ["", "import structlog"], ids=["plain", "structlog is there"])
def test_an_application_that_has_not_configured_logging_sees_nothing_printed(before: str) -> None:
    done = run(before)
    assert (done.stdout, done.stderr) == ("", "")


def test_an_application_that_has_configured_logging_sees_one_line() -> None:
    done = run("logging.basicConfig()")
    assert done.stdout == ""
    assert done.stderr == "WARNING:mailglass:mailglass.doorbell.unreachable error_type=OSError\n"


def test_later_configuration_counts_from_then_on() -> None:
    again = 'telemetry.configure_logging("info", "json"); telemetry.emit("mailglass.pump", rung=1)'
    done = run(after=again)
    assert done.stdout == ""
    line = json.loads(done.stderr)
    assert (line["event"], line["rung"]) == ("mailglass.pump", 1)


def test_subscribers_hear_of_events_whether_or_not_anybody_logs() -> None:
    heard: list[str] = []
    end = telemetry.subscribe(lambda event, fields: heard.append(event))
    try:
        telemetry.emit("mailglass.pump", level=logging.DEBUG, rung=1)
    finally:
        end()
    assert heard == ["mailglass.pump"]


RINGS = """
import logging
telemetry.configure_logging({level!r}, "json")
logging.getLogger("celery.worker.strategy").info("Task mailglass.pump[1] received")
logging.getLogger("celery.app.trace").info("Task mailglass.pump[1] succeeded in 0.01s: None")
logging.getLogger("celery.beat").info("Scheduler: Sending due task pump (mailglass.pump)")
logging.getLogger("celery.beat").info("beat: Starting...")
logging.getLogger("celery.app.trace").error("Task mailglass.pump[1] raised unexpected")
import warnings
warnings.warn("an odd thing")
"""


@pytest.mark.parametrize(("level", "lines"), [("info", 3), ("debug", 6), ("warning", 2)])
def test_lines_about_single_rings_are_left_out_unless_everything_is_asked_for(level: str, lines: int) -> None:
    said = [json.loads(line) for line in run(after=RINGS.format(level=level)).stderr.splitlines()]
    assert len(said) == lines
    assert {line["level"] for line in said} >= {"error", "warning"}
