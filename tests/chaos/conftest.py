"""What chaos tests share, and the table that the long form prints."""

from __future__ import annotations

import pytest

from tests.house import outside

__all__ = ["outside"]

ROWS = pytest.StashKey["list[str]"]()


@pytest.fixture
def report(pytestconfig: pytest.Config) -> list[str]:
    """Lines for the table at the end of the run."""
    return pytestconfig.stash.setdefault(ROWS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(ROWS, [])
    if lines:
        terminalreporter.section("chaos")
        terminalreporter.write_line(f"{'fault':<24}{'rounds':>7}{'mails':>8}{'lost':>6}{'resent':>8}{'twice':>7}")
        for line in lines:
            terminalreporter.write_line(line)
