"""Let one system user through directories that are closed to others, and nobody else: by an entry of their ACL."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path
from typing import Final

_ATTRIBUTE: Final = "system.posix_acl_access"
_VERSION: Final = struct.pack("<I", 2)
_ENTRY: Final = struct.Struct("<HHI")
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_BOUNDED: Final = (_USER, _GROUP, _NAMED_GROUP)
_NOBODY: Final = 0xFFFFFFFF
_SEARCH: Final = 1

Entry = tuple[int, int, int]


def let_through(directory: Path, uid: int) -> bool:
    """Let a user pass a directory. What its mode says of others does not change.

    Args:
        directory: one of ours.
        uid: the user's.

    Returns:
        Whether the user passes. False where the file system keeps no ACLs.
    """
    mode = directory.stat().st_mode
    if mode & stat.S_IXOTH:
        return True
    if not hasattr(os, "setxattr"):
        return False
    entries = _entries(directory, mode)
    if (_USER, _SEARCH, uid) in [(tag, permissions & _SEARCH, owner) for tag, permissions, owner in entries]:
        return True
    kept = [entry for entry in entries if entry[::2] != (_USER, uid)]
    # the mask bounds what users and groups get, so it becomes what they had and this user's
    mask = _SEARCH
    for tag, permissions, _ in kept:
        mask |= permissions if tag in _BOUNDED else 0
    acl = sorted([*kept, (_USER, _SEARCH, uid), (_MASK, mask, _NOBODY)], key=lambda entry: (entry[0], entry[2]))
    try:
        os.setxattr(directory, _ATTRIBUTE, _VERSION + b"".join(_ENTRY.pack(*entry) for entry in acl))
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


def _entries(directory: Path, mode: int) -> list[Entry]:
    """Return the ACL of a directory with its mask applied, or its mode in the same form."""
    try:
        found = os.getxattr(directory, _ATTRIBUTE)
    except (OSError, AttributeError):
        return [(_OWNER, mode >> 6 & 7, _NOBODY), (_GROUP, mode >> 3 & 7, _NOBODY), (_OTHERS, mode & 7, _NOBODY)]
    entries = list(_ENTRY.iter_unpack(found[len(_VERSION) :]))
    # whoever changed the mode since has changed the mask: what it takes away stays away
    mask = next((permissions for tag, permissions, _ in entries if tag == _MASK), 7)
    return [
        (tag, permissions & mask if tag in _BOUNDED else permissions, owner)
        for tag, permissions, owner in entries
        if tag != _MASK
    ]
