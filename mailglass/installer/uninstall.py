"""Plan of taking mailglass out of an application's source: what carries its own digest, and nothing that was edited."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from mailglass.errors import ConfigError
from mailglass.installer import managed, starter
from mailglass.installer.conflicts import CONFLICT, is_conflict
from mailglass.installer.managed import Piece
from mailglass.installer.plan import Action, Plan, Step
from mailglass.installer.source import Source, read
from mailglass.installer.writing import TEMPORARY, temporary_of
from mailglass.wiring.project import MAX_BYTES, source_files

_NAMES: Final = frozenset({starter.SETTINGS, starter.ENVIRONMENT, PurePosixPath(starter.TEMPLATE).name})
_IMPORT: Final = re.compile(rb"(?m)^[ \t]*(?:from|import)\b[^\n]*\bmails\b")
# the mount goes before the application that it includes, files that were written as a whole go last
_ORDER: Final = ("mount", "app", "env")


def plan_uninstall(root: Path) -> Plan:
    """Plan what takes out everything that an installation put in. Nothing is written.

    Args:
        root: the directory that it was installed into.

    Returns:
        The plan. Files and blocks that were edited since are kept, each with the reason.

    Raises:
        ConfigError: it is no directory, or holds too many files.
    """
    if not root.is_dir():
        raise ConfigError("directory", "it is no directory", "Name the directory that mailglass was installed into")
    paths = source_files(root, _may_be_ours)
    found = [(rank, step) for rank, step in (_step(root, path) for path in paths) if step is not None]
    steps = [_kept_if_used(root, paths, step) for _, step in sorted(found, key=lambda item: item[0])]
    steps = [_kept_with_its_mail(step, steps) for step in steps]
    # what a killed run left beside a file is replaced when the file is changed
    replaced = {temporary_of(step.path) for step in steps if step.action is Action.CHANGE}
    return Plan(None, [step for step in steps if step.path not in replaced], keeps_matter=True)


def _kept_if_used(root: Path, paths: Sequence[str], step: Step) -> Step:
    """Keep the module of the first mail where another module seems to import it."""
    if step.action is not Action.REMOVE or PurePosixPath(step.path).name != starter.MAILS:
        return step
    for path in paths:
        if path != step.path and path.endswith(".py") and _imports_mails(root / path):
            return Step(Action.KEEP, step.path, f"seems to be imported by {path}", step.before, step.before)
    return step


def _imports_mails(file: Path) -> bool:
    try:
        return file.stat().st_size <= MAX_BYTES and _IMPORT.search(file.read_bytes()) is not None
    except OSError:
        # to be sure
        return True


def _kept_with_its_mail(step: Step, steps: Sequence[Step]) -> Step:
    """Keep the template of a mail that is kept."""
    kept = [PurePosixPath(item.path) for item in steps if item.action is Action.KEEP]
    mails = [path for path in kept if path.name == starter.MAILS and str(path.parent / starter.TEMPLATE) == step.path]
    if not mails or step.action is not Action.REMOVE:
        return step
    return Step(Action.KEEP, step.path, f"belongs to {mails[0]}", step.before, step.before)


def _may_be_ours(name: str) -> bool:
    return name in _NAMES or name.endswith((".py", CONFLICT, TEMPORARY))


def _step(root: Path, path: str) -> tuple[int, Step | None]:
    """Return the step of one file with its rank, None if nothing of ours is in it."""
    file = root / path
    last = len(_ORDER)
    if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_BYTES:
        return last, None
    try:
        raw = read(root, path)
    except ConfigError as error:
        return last, Step(Action.KEEP, path, f"may hold blocks of mailglass, and {error.problem}")
    if path.endswith(TEMPORARY):
        return last, Step(Action.REMOVE, path, "is left from a run that was killed", raw)
    if path.endswith(CONFLICT):
        return last, _whole(path, raw, intact=is_conflict(raw))
    if (mark := managed.file_mark(raw)) is not None:
        return last, _whole(path, raw, intact=mark.intact, directories=mark.directories)
    if managed.MARK not in raw:
        return last, None
    return _pieces(path, raw)


def _whole(path: str, raw: bytes, *, intact: bool, directories: int = 0) -> Step:
    if intact:
        return Step(Action.REMOVE, path, "is as it was written", raw, None, directories)
    return Step(Action.KEEP, path, "was edited: delete it if you need it no more", raw, raw)


def _pieces(path: str, raw: bytes) -> tuple[int, Step | None]:
    python = path.endswith(".py")
    try:
        source = Source.read(path, raw)
        found = managed.pieces(source, python=python)
    except (ConfigError, SyntaxError):
        return 0, Step(Action.KEEP, path, "cannot be read: mend its syntax, and run the command again", raw, raw)
    if not found:
        return 0, None
    rank = min((_ORDER.index(piece.name) for piece in found if piece.name in _ORDER), default=0)
    edited = [piece for piece in found if not piece.intact]
    if edited:
        reason = f"line {edited[0].start + 1} and what belongs to it were edited: take it out by hand"
        return rank, Step(Action.KEEP, path, reason, raw, raw)
    after = managed.without(source, found)
    try:
        used = _still_used(found, after) if python else ""
    except SyntaxError:
        used = "the block"
    if used:
        return rank, Step(Action.KEEP, path, f"needs {used} elsewhere: take it out by hand", raw, raw)
    return rank, Step(Action.CHANGE, path, "loses the blocks of mailglass", raw, after.encode())


def _still_used(found: Sequence[Piece], after: Source) -> str:
    """Return a name that a managed import binds and the rest of the file uses, or ""."""
    code = [ast.parse("\n".join(piece.body)) for piece in found]
    bound = {node.asname or node.name for tree in code for node in ast.walk(tree) if isinstance(node, ast.alias)}
    names = {node.id for node in ast.walk(ast.parse(after.plain)) if isinstance(node, ast.Name)}
    return min(bound & names, default="")
