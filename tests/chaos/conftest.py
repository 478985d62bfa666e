"""What chaos tests share: the servers they may kill, progress, and the table that the long form prints at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mailglass.celery import forget_broker
from mailglass.ledger import schema
from mailglass.runtime import close_runtime
from mailglass.settings import configure, load_settings
from mailglass.stack.postgres import EmbeddedPostgres
from mailglass.stack.process import Guardian
from mailglass.stack.valkey import EmbeddedValkey
from tests.chaos.site import Site
from tests.chaos.table import HEADER, LEGEND, Tally, total
from tests.cluster import outside

__all__ = ["outside"]

TALLIES = pytest.StashKey["list[Tally]"]()


@pytest.fixture
def progress(pytestconfig: pytest.Config) -> Callable[[Tally], None]:
    """Keeps a tally for the table and writes its line as it stands."""
    tallies = pytestconfig.stash.setdefault(TALLIES, [])
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")

    def note(tally: Tally) -> None:
        if tally not in tallies:
            tallies.append(tally)
        if terminal is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                terminal.ensure_newline()
                terminal.write_line(tally.line())

    return note


@pytest.fixture
def site(
    stack_root: Path, outside, servers, broker_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Site]:
    with ExitStack() as stack:
        guardian = Guardian()
        stack.callback(guardian.close)
        postgres = stack.enter_context(EmbeddedPostgres(stack_root / "postgres", durable=True, guardian=guardian))
        if servers.on_rabbit:
            broker = request.getfixturevalue("broker")
        else:
            # of its own: one that keeps its data on disk
            broker = stack.enter_context(EmbeddedValkey(stack_root / "valkey", append_only=True, guardian=guardian))
        url = postgres.create_database("mailglass")
        schema.upgrade(url)
        environment = {
            "MAILGLASS_CONFIG": str(stack_root / "mailglass.toml"),
            "MAILGLASS_DATABASE_URL": url,
            "MAILGLASS_BROKER_URL": broker.url(),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        site = Site(stack_root, postgres, broker, guardian, environment)
        stack.callback(site.end_round)
        site.configure(outside.port)
        configure(load_settings())
        yield site
        close_runtime()
        forget_broker()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tallies = config.stash.get(TALLIES, [])
    if tallies:
        terminalreporter.section("chaos")
        for line in (HEADER, *(tally.line() for tally in tallies), total(tallies).line(), LEGEND):
            terminalreporter.write_line(line)
