"""Plan of an installation: the blocks that wire the application, and its first files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mailglass.errors import ConfigError
from mailglass.installer import starter
from mailglass.installer.edits import edit
from mailglass.installer.frameworks import Wiring, frameworks_of, wiring_of
from mailglass.installer.plan import Action, ByHand, Plan, Step
from mailglass.installer.source import read
from mailglass.wiring.project import Project

_NAMES: Final = "Django, Flask, FastAPI, Starlette or Litestar"


def plan_install(root: Path, framework: str | None = None) -> Plan:
    """Plan what wires an application and gives it its first files. Nothing is written.

    Args:
        root: the directory with the application's source.
        framework: one of `mailglass.installer.frameworks.FRAMEWORKS`, or None to take the one that the source uses.

    Returns:
        The plan. Its steps are ordered: first files, which nothing imports yet, then the application's own.

    Raises:
        ConfigError: a file cannot be read.
    """
    project = Project(root)
    found = [framework] if framework is not None else frameworks_of(project)
    if len(found) != 1:
        _check_readable(project)
        reason = (
            f"applications of {', '.join(found)} were found: name one with --framework"
            if found
            else f"no application of {_NAMES} was found: name its directory"
        )
        return Plan(None, (), [ByHand(reason, None, None, ())])
    wiring = wiring_of(project, found[0])
    steps: list[Step] = []
    by_hand = [*wiring.by_hand, *_edit(root, wiring, steps)]
    if by_hand or wiring.home is None:
        _check_readable(project)
        return Plan(found[0], (), by_hand)
    return Plan(found[0], [*starter.steps(root, wiring.home, wiring.settings), *steps])


def _edit(root: Path, wiring: Wiring, steps: list[Step]) -> list[ByHand]:
    """Add the steps that wire an application, and return what is left to a person."""
    by_hand: list[ByHand] = []
    for wanted in wiring.wanted:
        earlier = next((step for step in steps if step.path == wanted.path), None)
        raw = read(root, wanted.path) if earlier is None else earlier.after or b""
        step = edit(root, wanted, raw)
        if isinstance(step, ByHand):
            by_hand.append(step)
        elif earlier is None or step.path != earlier.path:
            steps.append(step)
        elif step.action is Action.CHANGE:
            # both blocks in one file
            detail = f"{earlier.detail}, {step.detail}" if earlier.action is Action.CHANGE else step.detail
            steps[steps.index(earlier)] = Step(Action.CHANGE, step.path, detail, earlier.before, step.after)
    return by_hand


def _check_readable(project: Project) -> None:
    """Refuse where the place is not found, and may be in a file that cannot be parsed."""
    if project.unreadable:
        raise ConfigError(
            project.unreadable[0],
            f"it cannot be parsed{_line(project)}, and may hold the application",
            "Mend its syntax, or run the command by the Python that runs it",
        )


def _line(project: Project) -> str:
    try:
        compile(read(project.root, project.unreadable[0]), "", "exec", dont_inherit=True)
    except SyntaxError as error:
        return f" (line {error.lineno})" if error.lineno else ""
    except (ValueError, RecursionError, MemoryError):
        pass
    return ""
