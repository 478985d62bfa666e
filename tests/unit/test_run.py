"""`make test` counts what ran, and looks for what the system must have."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

RUN = Path(__file__).parents[1] / "run.py"


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mailglass_tests_run", RUN)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A project with a suite of its own: three tests that pass, two that are skipped, one for bench only."""
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "run.py").write_text(RUN.read_text(encoding="utf-8"), encoding="utf-8")
    (tests / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('n', [1, 2, 3])\n"
        "def test_passes(n): pass\n"
        "@pytest.mark.skip\n"
        "def test_is_skipped(): pass\n"
        "def test_skips_itself(): pytest.skip()\n"
        "@pytest.mark.bench\n"
        "def test_bench(): pass\n",
        encoding="utf-8",
    )
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\ntestpaths = tests\naddopts = --import-mode=importlib\nmarkers =\n    bench\n    chaos\n",
        encoding="utf-8",
    )
    return tmp_path


def run_suite(suite: Path, floor: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    (suite / "tests" / "floor.txt").write_text(f"{floor}\n", encoding="ascii")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # the plugins that are installed here cost more than these suites
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plugins = ["-p", "no:cacheprovider", *(["-p", "xdist"] if "-n" in arguments else [])]
    return subprocess.run(
        [sys.executable, suite / "tests" / "run.py", *plugins, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_a_whole_run_that_reaches_the_floor_passes_and_ends_with_pytests_line(suite: Path, workers: list[str]) -> None:
    done = run_suite(suite, 3, *workers)
    assert done.returncode == 0
    assert "3 passed, 2 skipped" in done.stdout.splitlines()[-1]
    assert done.stderr == ""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_a_whole_run_below_the_floor_fails_though_every_test_passed(suite: Path, workers: list[str]) -> None:
    done = run_suite(suite, 4, *workers)
    assert done.returncode == 1
    assert "only 3 tests ran, tests/floor.txt asks for 4" in done.stderr


@pytest.mark.parametrize("selection", [["-k", "2"], ["tests/test_some.py"], ["-m", "bench"]])
def test_a_selection_has_no_floor(suite: Path, selection: list[str]) -> None:
    assert run_suite(suite, 100, *selection).returncode == 0


def test_a_failing_test_fails_the_run_and_counts(suite: Path) -> None:
    (suite / "tests" / "test_more.py").write_text("def test_fails(): assert False\n", encoding="utf-8")
    done = run_suite(suite, 4)
    assert done.returncode == 1
    assert "floor" not in done.stderr


def test_bench_runs_only_when_it_is_asked_for(suite: Path) -> None:
    assert "1 passed" in run_suite(suite, 0, "-m", "bench").stdout
    assert "1 deselected" in run_suite(suite, 0).stdout


def missing(runner: ModuleType, name: str = "no-such-program") -> object:
    return runner.Need("Nothing", (name, f"{name}-2"), "nothing")


def test_a_need_is_met_by_any_of_its_commands(runner: ModuleType) -> None:
    assert runner.Need("a shell", ("no-such-program", "sh"), "dash").met()
    assert not missing(runner).met()


@pytest.mark.parametrize(("ci", "may_run"), [(False, True), (True, False)])
def test_without_root_a_missing_need_is_said_and_is_a_failure_in_ci(
    runner: ModuleType, ci: bool, may_run: bool
) -> None:
    asked: list[Sequence[str]] = []
    found = runner.provide([missing(runner)], root=False, ci=ci, install=asked.append)
    assert found == (["Nothing is missing, its tests are skipped: apt-get install nothing"], may_run)
    assert asked == []


def test_with_root_what_is_missing_is_installed_and_nothing_else(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def install(packages: Sequence[str]) -> None:
        assert packages == ["nothing"]
        (tmp_path / "no-such-program-2").touch(mode=0o755)

    needs = [missing(runner), runner.Need("a shell", ("sh",), "dash")]
    assert runner.provide(needs, root=True, ci=True, install=install) == ([], True)


def test_while_packages_are_installed_no_service_starts(runner: ModuleType, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    for _ in ("first", "again"):
        with runner.no_services(policy):
            assert subprocess.run([policy, "some", "start"], check=False).returncode == 101
        assert not policy.exists()
    # one of ours that a killed run has left
    policy.write_text(runner.NO_SERVICE)
    with runner.no_services(policy):
        pass
    assert not policy.exists()


def test_a_policy_of_the_machines_own_is_left_alone(runner: ModuleType, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    with runner.no_services(policy):
        assert policy.read_text() == "#!/bin/sh\nexit 101\n"
    assert policy.exists()


def test_a_run_on_rabbitmq_does_not_start_without_it(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = suite / "tests" / "run.py"
    absent = '("no-such-program",), "nothing")'
    text = run.read_text(encoding="utf-8")
    present = text[text.index('("/usr/lib/rabbitmq') : text.index("\nPOLICY")]
    run.write_text(text.replace(present, absent).replace("os.geteuid() == 0", "False"), encoding="utf-8")
    monkeypatch.setenv("MAILGLASS_TEST_BROKER", "rabbitmq")
    done = run_suite(suite, 0)
    assert done.returncode == 1
    assert "RabbitMQ is missing" in done.stderr
    assert done.stdout == ""
