"""Commands that are run in this process, on the test's own ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailglass.cli import run
from mailglass.ledger.database import Database, close_databases
from mailglass.runtime import close_runtime
from mailglass.settings import configure

Command = Callable[..., tuple[int, Any]]


@pytest.fixture
def ledger(database_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Database]:
    """The ledger that commands find in the environment, in a directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    for name, value in database_environment.items():
        monkeypatch.setenv(name, value)
    database = Database(database_environment["MAILGLASS_DATABASE_URL"])
    yield database
    database.dispose()
    configure(None)
    close_runtime()
    close_databases()


@pytest.fixture
def mailglass(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command; the exit code, and the JSON it printed."""

    def command(*arguments: Any) -> tuple[int, Any]:
        capsys.readouterr()
        code = run([*[str(argument) for argument in arguments], "--json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    return command


@pytest.fixture
def deliveries_command(mailglass: Command) -> Command:
    """Run a command of `mailglass deliveries`."""
    return lambda *arguments: mailglass("deliveries", *arguments)
