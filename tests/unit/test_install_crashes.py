"""An installation that dies or fails at any of its writes: every file is whole, and a second run does the rest."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailglass.errors import ConfigError
from mailglass.installer.install import plan_install
from mailglass.installer.plan import Plan
from mailglass.installer.uninstall import plan_uninstall
from mailglass.installer.writing import apply
from tests.unit.test_doctor import project
from tests.unit.test_install_identity import tree

FILES = {
    "shop/settings.py": "ROOT_URLCONF = 'shop.urls'\nINSTALLED_APPS = []\n",
    "shop/urls.py": "from django.urls import path\nurlpatterns = []\n",
    ".env.example": "A=1\n",
}
# calls by which a file system changes
WRITES = ("open", "fsync", "replace", "unlink", "mkdir", "rmdir", "fchmod", "fchown", "write")
Planner = Callable[[Path], Plan]
PLANNERS: dict[str, Planner] = {"install": plan_install, "uninstall": plan_uninstall}


@contextmanager
def counted(at: int, act: Callable[[], None]) -> Iterator[list[str]]:
    """Does something in place of the n-th change of the file system; gives the changes that were made."""
    made: list[str] = []
    kept = {name: getattr(os, name) for name in WRITES}

    def counting(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            # opening for reading changes nothing
            if name != "open" or arguments[1] & os.O_WRONLY:
                made.append(name)
                if len(made) == at:
                    act()
            return kept[name](*arguments, **options)

        return call

    for name in WRITES:
        setattr(os, name, counting(name))
    try:
        yield made
    finally:
        for name in WRITES:
            setattr(os, name, kept[name])


def without_empty_directories(root: Path) -> dict[str, bytes]:
    return {name: raw for name, raw in tree(root).items() if raw is not None}


def before_and_after(directory: Path, name: str) -> tuple[Path, Planner, dict[str, bytes], int]:
    """A project before a command, its files after the command, and the number of changes that make them."""
    root = project(directory / "before", FILES)
    if name == "uninstall":
        apply(root, plan_install(root).writes)
    done = shutil.copytree(root, directory / "done")
    plan = PLANNERS[name](done)
    with counted(0, lambda: None) as made:
        apply(done, plan.writes)
    assert len(made) > 12
    return root, PLANNERS[name], without_empty_directories(done), len(made)


def check_runs(files: dict[str, bytes]) -> None:
    """An application never includes URLs whose application is not installed, and a mail never lacks its template."""
    if b"mailglass.integrations.django.urls" in files["shop/urls.py"]:
        assert b'"mailglass.integrations.django"' in files["shop/settings.py"]
    assert "shop/mails.py" not in files or "shop/templates/mails/welcome.html" in files


@pytest.mark.parametrize("name", PLANNERS)
def test_a_run_that_is_killed_at_any_write_leaves_whole_files_and_is_completed_by_a_second(
    tmp_path: Path, name: str
) -> None:
    root, planner, wanted, count = before_and_after(tmp_path, name)
    before = without_empty_directories(root)
    for number in range(1, count + 1):
        copy = shutil.copytree(root, tmp_path / f"killed{number}")
        child = os.fork()
        if child == 0:
            with counted(number, lambda: os._exit(9)):
                apply(copy, planner(copy).writes)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, number
        for path, raw in without_empty_directories(copy).items():
            assert path.endswith(".mailglass_tmp") or raw in (before.get(path), wanted.get(path)), (number, path)
        check_runs(without_empty_directories(copy))
        if name == "install":
            undone = shutil.copytree(copy, tmp_path / f"undone{number}")
            apply(undone, plan_uninstall(undone).writes)
            assert without_empty_directories(undone) == before, number
        apply(copy, planner(copy).writes)
        after = without_empty_directories(copy)
        assert after.keys() == wanted.keys(), number
        # a directory that the killed run made is not made again, and the mark of its file says so
        marked = {path for path in after if path.endswith(".html")}
        assert {path: after[path] for path in after.keys() - marked} == {
            path: wanted[path] for path in after.keys() - marked
        }, number
        if name == "install":
            apply(copy, plan_uninstall(copy).writes)
            assert without_empty_directories(copy) == before, number


@pytest.mark.parametrize("name", PLANNERS)
def test_a_write_that_fails_leaves_everything_as_it_was(tmp_path: Path, name: str) -> None:
    root, planner, wanted, count = before_and_after(tmp_path, name)
    before = tree(root)
    failed = 0

    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for number in range(1, count + 1):
        copy = shutil.copytree(root, tmp_path / f"failed{number}")
        plan = planner(copy)
        refusal = _refusal(copy, plan, number, fail)
        if refusal is None:
            # directories are removed last, and one that stays does no harm
            assert without_empty_directories(copy) == wanted, number
        else:
            failed += 1
            assert "No space left on device" in refusal
            assert tree(copy) == before, number
    assert failed >= count - 4


def _refusal(root: Path, plan: Plan, number: int, fail: Callable[[], None]) -> str | None:
    try:
        with counted(number, fail):
            apply(root, plan.writes)
    except ConfigError as error:
        return str(error)
    return None


def test_a_file_that_changes_while_the_plan_is_made_is_not_overwritten(tmp_path: Path) -> None:
    root = project(tmp_path, FILES)
    plan = plan_install(root)
    (root / "shop/urls.py").write_text("# mine\n")
    before = tree(root)
    with pytest.raises(ConfigError, match="changed in the meantime"):
        apply(root, plan.writes)
    assert tree(root) == before
