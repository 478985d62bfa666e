"""The process of mailglass's worker beside an application's own worker."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mailglass.integrations import celery
from mailglass.integrations.celery import Child


def test_a_process_that_cannot_be_started_is_tried_again(
    tmp_path: Path, wait_for: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery, "_FIRST_PAUSE", 0.05)
    program, started = tmp_path / "program", tmp_path / "started"
    tries = []
    emit = celery.telemetry.emit
    monkeypatch.setattr(celery.telemetry, "emit", lambda name, **given: (tries.append(name), emit(name, **given)))
    child = Child([str(program)])
    child.start()
    wait_for(lambda: tries)
    program.write_text(f"#!/bin/sh\ntouch {started}\nexec sleep 60\n")
    program.chmod(0o755)
    wait_for(started.exists)
    child.stop(signal.SIGTERM)
