"""Secret files of one account: read again when they change, kept as they were while what is new cannot be used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mailglass import clock
from mailglass.settings import Resolve, Secret, SecretFileError, read_secret_file, resolve_secret
from mailglass.settings.problems import Report

LOOK_EVERY: Final = 2.0
"""Seconds between two looks at an account's files."""

# seconds that a file must have rested before it is read: whoever writes in place may be in the middle
_RESTED: Final = 1.0
# looks for which all files wait for one that does not rest, because two of them may belong together
_WAITS: Final = 2
FILE: Final = "file:"
"""Prefix of a reference to a file."""


_Version = tuple[int, int, int, int]


@dataclass(slots=True)
class _File:
    """One file.

    Attributes:
        value: as it was last read well.
        version: of the file that was last read, well or not; None if there was none.
        seen: the version at the last look.
    """

    value: str
    version: _Version | None
    seen: _Version | None


@dataclass(frozen=True, slots=True)
class Look:
    """Result of one look.

    Attributes:
        values: new contents by path.
        faults: by path, why a changed file cannot be used. Each change is told once.
    """

    values: dict[str, str] = field(default_factory=dict)
    faults: dict[str, SecretFileError] = field(default_factory=dict)


class SecretFiles:
    """The values of one account's secrets. Used under the lock of its owner.

    A symbolic link that leads elsewhere is a change, as where Kubernetes mounts a secret.

    Args:
        environ: where `env:` references are looked up.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._files: dict[str, _File] = {}
        self._waited = 0

    def resolver(self, changed: Mapping[str, str] | None = None) -> Resolve:
        """Return a function that resolves references. A file is read at its first use, and then only by `look`.

        Args:
            changed: contents by path, in place of those that are kept.
        """
        changes = changed or {}

        def resolve(value: object, key: str, report: Report) -> Secret | None:
            if not isinstance(value, str) or not value.startswith(FILE):
                return resolve_secret(value, key, self._environ, report)
            path = value.removeprefix(FILE)
            if path not in self._files:
                # of before the reading: what is written meanwhile is another version
                version = _version(path)
                secret = resolve_secret(value, key, self._environ, report)
                if secret is None:
                    return None
                self._files[path] = _File(secret.reveal(), version, version)
            return Secret(changes.get(path, self._files[path].value), value)

        return resolve

    def look(self) -> Look:
        """Return what has changed since the last look, once every changed file rests."""
        versions = {path: _version(path) for path in self._files}
        changed = [path for path, version in versions.items() if version != self._files[path].version]
        resting = [path for path in changed if self._rests(path, versions[path])]
        for path, file in self._files.items():
            file.seen = versions[path]
        if len(resting) < len(changed) and self._waited < _WAITS:
            self._waited += 1
            return Look()
        self._waited = 0
        contents = {path: _content(path) for path in resting}
        if resting and any(_version(path) != version for path, version in versions.items()):
            # written meanwhile: the next look sees all of it
            return Look()
        look = Look()
        for path, content in contents.items():
            file = self._files[path]
            file.version = versions[path]
            if isinstance(content, SecretFileError):
                look.faults[path] = content
            elif content != file.value:
                look.values[path] = content
        return look

    def value(self, path: str) -> str:
        """Return the content that is in use."""
        return self._files[path].value

    def keep(self, values: Mapping[str, str]) -> None:
        """Take these contents from now on."""
        for path, value in values.items():
            self._files[path].value = value

    def _rests(self, path: str, version: _Version | None) -> bool:
        if version == self._files[path].seen:
            return True
        # by the file system's clock, which may be another machine's: then two looks decide
        return version is not None and clock.now().timestamp() - version[3] / 1e9 >= _RESTED


def _version(path: str) -> _Version | None:
    """Return what changes with a file's content, or None if there is no file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    # the inode's own time is set at each write, whatever else `cp -p` and `touch` say
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


def _content(path: str) -> str | SecretFileError:
    try:
        return read_secret_file(path)
    except SecretFileError as error:
        return error
