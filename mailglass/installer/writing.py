"""Writing of a plan: all of its files, each as a whole, or none as far as the file system allows."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from mailglass.errors import ConfigError
from mailglass.installer.plan import Step
from mailglass.installer.source import read

TEMPORARY: Final = ".mailglass_tmp"
_AGAIN: Final = "Run the command again"


def check(root: Path, steps: Sequence[Step]) -> None:
    """Check that every file of a plan may be written, before one is.

    Args:
        root: the project.
        steps: that change a file.

    Raises:
        ConfigError: names the first file that may not, and the remedy.
    """
    for step in steps:
        _check_parents(root, step.path)
        try:
            found = os.lstat(root / step.path)
        except FileNotFoundError:
            found = None
        if found is not None:
            _check_file(step.path, found, root / step.path)
        _check_unchanged(root, step)


def _check_parents(root: Path, path: str) -> None:
    directory = root
    for part in Path(path).parts[:-1]:
        if part in ("..", "/"):
            raise ConfigError(path, "it is outside the project", "Name the directory that holds the whole project")
        if not (directory / part).exists() and not (directory / part).is_symlink():
            break
        directory /= part
        if directory.is_symlink():
            raise ConfigError(
                path, "a directory of its path is a symbolic link", "Run the command in the project that it points into"
            )
        if not directory.is_dir():
            raise ConfigError(path, "a part of its path is no directory", "Move that file away")
    if not os.access(directory, os.W_OK | os.X_OK) or not directory.stat().st_mode & stat.S_IWUSR:
        raise ConfigError(path, "its directory is read-only", "Make it writable (chmod u+w), and run the command again")


def _check_file(path: str, found: os.stat_result, file: Path) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(path, "it is a symbolic link", "Run the command in the project of the file it points to")
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(path, "it is no regular file", "Move it away, and run the command again")
    if found.st_nlink > 1:
        raise ConfigError(
            path, "it has another name (a hard link)", "Make it a file of its own: copy it, and move it back"
        )
    if not found.st_mode & stat.S_IWUSR or not os.access(file, os.W_OK):
        raise ConfigError(path, "it is read-only", "Make it writable (chmod u+w), and run the command again")
    if found.st_uid != os.geteuid() != 0:
        raise ConfigError(path, "it belongs to another user", "Run the command as that user")


def _check_unchanged(root: Path, step: Step) -> None:
    found = read(root, step.path) if os.path.lexists(root / step.path) else None
    if found != step.before:
        raise ConfigError(step.path, "it was changed in the meantime", _AGAIN)


@dataclass(frozen=True, slots=True)
class _Staged:
    step: Step
    temporary: Path | None


def apply(root: Path, steps: Sequence[Step]) -> None:
    """Carry out the steps of a plan in their order.

    Every new file is first written beside its place and brought to the disk. Then each is renamed to its place, by
    which it appears as a whole. If one of this fails, what was done is undone. If the process dies, the files that were
    renamed are complete, and a second run does the rest.

    Args:
        root: the project.
        steps: that change a file.

    Raises:
        ConfigError: a file may not be written, or the file system refuses.
    """
    check(root, steps)
    made: list[Path] = []
    staged: list[_Staged] = []
    done: list[Step] = []
    current = ""
    try:
        for step in steps:
            current = step.path
            _make_parents(root, step, made)
            staged.append(_Staged(step, None if step.after is None else _stage(root / step.path, step.after)))
        for item in staged:
            current = item.step.path
            _check_unchanged(root, item.step)
            done.append(item.step)
            _commit(root, item)
    except BaseException as error:
        _undo(root, done, staged, made)
        if isinstance(error, OSError):
            problem = f"it cannot be written ({error.strerror})"
            raise ConfigError(current, problem, "Nothing was changed. Mend that, and run the command again") from None
        raise
    for step in steps:
        _remove_parents(root, step)


def _make_parents(root: Path, step: Step, made: list[Path]) -> None:
    """Make the directories of a file, and note each as soon as it is made."""
    missing = [root / parent for parent in Path(step.path).parents if not (root / parent).exists()]
    for directory in reversed(missing):
        directory.mkdir()
        made.append(directory)
        _sync_directory(directory.parent)


def temporary_of(path: str) -> str:
    """Return the path of the file that is written before it takes the place of another."""
    file = PurePosixPath(path)
    return str(file.with_name(f".{file.name}{TEMPORARY}"))


def _stage(file: Path, content: bytes) -> Path:
    """Write a file beside its place, with the mode and the owner of the one that it replaces."""
    temporary = Path(temporary_of(file.as_posix()))
    temporary.unlink(missing_ok=True)
    old = file.stat() if file.exists() else None
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            if old is not None:
                os.fchown(stream.fileno(), old.st_uid, old.st_gid)
                os.fchmod(stream.fileno(), stat.S_IMODE(old.st_mode))
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _commit(root: Path, item: _Staged) -> None:
    file = root / item.step.path
    if item.temporary is None:
        file.unlink()
    else:
        item.temporary.replace(file)
    # on the disk before the next one: after a power failure the order holds too
    _sync_directory(file.parent)


def _undo(root: Path, done: Sequence[Step], staged: Sequence[_Staged], made: Sequence[Path]) -> None:
    for step in reversed(done):
        file = root / step.path
        try:
            if step.before is None:
                file.unlink()
            else:
                _stage(file, step.before).replace(file)
        except OSError:
            # each file is whole, and the next run goes on from here
            continue
    for item in staged:
        if item.temporary is not None:
            item.temporary.unlink(missing_ok=True)
    for directory in reversed(made):
        try:
            directory.rmdir()
        except OSError:
            continue


def _remove_parents(root: Path, step: Step) -> None:
    for parent in list(Path(step.path).parents)[: step.directories]:
        try:
            (root / parent).rmdir()
        except OSError:
            # something else is in it
            return


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some file systems cannot synchronise a directory
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
