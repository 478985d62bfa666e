"""`flask mailglass ...`: the commands, errors and exit codes of `mailglass`."""

from __future__ import annotations

import pytest
from flask import Flask

from mailglass.integrations.flask import Mailglass


def flask_mailglass(*arguments: str) -> tuple[int, str]:
    """Run a command through an application. Returns the exit code and all that it printed."""
    app = Flask("shop")
    Mailglass(app)
    result = app.test_cli_runner().invoke(args=["mailglass", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("deliveries", "show", "no-id"), ("pause",), ("mail-doctor", "--domain", "localhost")]
)
def test_wrong_usage_through_flask_exits_with_64(arguments: tuple[str, ...]) -> None:
    code, output = flask_mailglass(*arguments)
    assert code == 64
    assert "Usage: flask mailglass" in output
    assert "Traceback" not in output


def test_errors_through_flask_are_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAILGLASS_DATABASE_URL", raising=False)
    monkeypatch.setenv("MAILGLASS_CONFIG", "/nowhere.toml")
    code, output = flask_mailglass("config", "check")
    assert (code, output.count("\n")) == (1, 1)
    assert "MAILGLASS_CONFIG" in output


def test_exit_codes_of_commands_come_through_flask() -> None:
    assert flask_mailglass("mail-doctor", "--explain", "5.7.515")[0] == 0
    assert flask_mailglass("doctor", "docs")[0] == 2


def test_help_of_commands_comes_through_flask() -> None:
    assert "Stop a tenant's mail" in flask_mailglass("--help")[1]
    assert "--tenant" in flask_mailglass("pause", "--help")[1]
