"""The test commands for other versions: which Python is taken, and what is said where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.versions import NEWEST, ROOT, newest_python


def python(directory: Path, minor: int, body: str = "exit 0") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"python3.{minor}"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="ascii")
    path.chmod(0o755)
    return path


def test_the_newest_python_that_starts_is_taken(tmp_path: Path) -> None:
    python(tmp_path / "shims", 99, "exit 127")
    python(tmp_path / "bin", 97)
    newest = python(tmp_path / ".pyenv" / "versions" / "3.98.1" / "bin", 98)
    environ = {"PATH": f"{tmp_path / 'shims'}:{tmp_path / 'bin'}:{tmp_path / 'missing'}", "HOME": str(tmp_path)}
    assert newest_python(environ) == str(newest)
    assert newest_python(environ | {"NEWEST_PYTHON": "/mine"}) == "/mine"


@pytest.mark.parametrize(("variables", "code"), [({}, 0), ({"CI": "true"}, 1)], ids=["by hand", "in CI"])
def test_without_a_newer_python_the_run_says_so_and_fails_in_ci_alone(
    tmp_path: Path, variables: dict[str, str], code: int
) -> None:
    python(tmp_path, sys.version_info.minor)
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "versions.py", "newest"],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), **variables},
    )
    assert done.returncode == code, done.stderr
    assert "No Python newer than" in done.stdout
    assert ("NEWEST_PYTHON" in done.stderr) == bool(code)


def test_the_newest_python_runs_djangos_tests_too() -> None:
    assert {"tests/unit", "tests/integration/test_django.py"} <= set(NEWEST)
    assert all((ROOT / path).exists() for path in NEWEST)
