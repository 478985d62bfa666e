"""The whole suite, as `make test` runs it: sees to what the system must have, and that no test was lost on the way.

With `MAILGLASS_TEST_BROKER=rabbitmq` it runs on RabbitMQ, as `make test-rabbitmq` does, and with
`MAILGLASS_TEST_POOLER=pgbouncer` through PgBouncer, as `make test-pgbouncer` does. Arguments are pytest's. Without
a path or a selection the number of tests that ran must reach tests/floor.txt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOOR = ROOT / "tests" / "floor.txt"
NOT_BY_DEFAULT = "not bench and not chaos"


@dataclass(frozen=True)
class Need:
    """A program that some tests run.

    Attributes:
        name: what it is.
        commands: any one of them on PATH will do.
        package: the Debian package that brings it.
    """

    name: str
    commands: tuple[str, ...]
    package: str

    def met(self) -> bool:
        return any(shutil.which(command) for command in self.commands)


NEEDS: tuple[Need, ...] = ()
PGBOUNCER = Need("PgBouncer", ("/usr/sbin/pgbouncer", "pgbouncer"), "pgbouncer")
# Debian's command of that name serves the system's own server; the script behind it serves anybody
RABBITMQ = Need("RabbitMQ", ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"), "rabbitmq-server")
POLICY = Path("/usr/sbin/policy-rc.d")
NO_SERVICE = "#!/bin/sh\n# a test run of mailglass installs programs and starts no service\nexit 101\n"


class Count:
    """A pytest plugin that counts what ran, and knows whether everything was asked for."""

    def __init__(self) -> None:
        self.ran = 0
        self.whole = False

    def pytest_configure(self, config: pytest.Config) -> None:
        narrowing = (
            *("keyword", "with_broker", "with_database", "deselect", "ignore", "ignore_glob", "collectonly"),
            *("lf", "stepwise"),
        )
        self.whole = (
            config.args_source is pytest.Config.ArgsSource.TESTPATHS
            and config.option.markexpr == NOT_BY_DEFAULT
            and not any(getattr(config.option, name, None) for name in narrowing)
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.outcome in ("passed", "failed"):
            self.ran += 1

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_xdist_auto_num_workers(self) -> int:
        # most tests wait for other processes most of the time
        return max(2, 2 * (os.cpu_count() or 1))


def provide(
    needs: Sequence[Need], *, root: bool, ci: bool, install: Callable[[Sequence[str]], object]
) -> tuple[list[str], bool]:
    """See to it that the needs are met.

    Args:
        needs: what to look for.
        root: whether packages may be installed.
        ci: whether what is missing is a failure.
        install: installs these Debian packages.

    Returns:
        A line for each need that is still not met, and whether the tests may run.
    """
    missing = [need for need in needs if not need.met()]
    if missing and root:
        install([need.package for need in missing])
        missing = [need for need in missing if not need.met()]
    lines = [f"{need.name} is missing, its tests are skipped: apt-get install {need.package}" for need in missing]
    return lines, not (missing and ci)


def apt_install(packages: Sequence[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with no_services():
        for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *command], env=environment, check=False, stdout=subprocess.DEVNULL)


@contextmanager
def no_services(policy: Path = POLICY) -> Iterator[None]:
    """Keep packages from starting the services they bring, of which tests run their own.

    Debian asks this program for leave (invoke-rc.d(8), policy-rc.d). One that is there already stays as it is.
    """
    ours = not policy.exists() or policy.read_text(encoding="utf-8", errors="replace") == NO_SERVICE
    if ours:
        policy.write_text(NO_SERVICE, encoding="ascii")
        policy.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def verdict(code: int, ran: int, floor: int, whole: bool) -> tuple[int, str | None]:
    """The exit code, and what to say about it beyond pytest's closing line."""
    if code != 0 or not whole or ran >= floor:
        return code, None
    return 1, (
        f"only {ran} tests ran, tests/floor.txt asks for {floor}: some were skipped, lost or removed. "
        "Find out why; lower the floor only together with the tests it counted."
    )


def main(arguments: Sequence[str]) -> int:
    os.chdir(ROOT)
    # tests/ is no place to import from, though it is where this script lies
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != FLOOR.parent]
    root = shutil.which("apt-get") is not None and os.geteuid() == 0
    on_rabbitmq = os.environ.get("MAILGLASS_TEST_BROKER") == "rabbitmq"
    on_pgbouncer = os.environ.get("MAILGLASS_TEST_POOLER") == "pgbouncer"
    needs = (*NEEDS, *([RABBITMQ] if on_rabbitmq else []), *([PGBOUNCER] if on_pgbouncer else []))
    # without its broker or its pooler no test would run at all
    required = on_rabbitmq or on_pgbouncer or os.environ.get("CI") == "true"
    lines, may_run = provide(needs, root=root, ci=required, install=apt_install)
    for line in lines:
        print(line, file=sys.stderr)
    if not may_run:
        return 1
    counter = Count()
    selection = [] if any(argument.startswith("-m") for argument in arguments) else ["-m", NOT_BY_DEFAULT]
    # each process takes neighbouring tests, which share what a module starts, and then from who has most left
    spread = ["--dist", "worksteal"] if "-n" in arguments else []
    code = int(pytest.main([*spread, *selection, *arguments], plugins=[counter]))
    code, complaint = verdict(code, counter.ran, int(FLOOR.read_text(encoding="ascii")), counter.whole)
    if complaint:
        print(complaint, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
