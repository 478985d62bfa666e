"""Conflict files: beside a file whose block was edited, the block that would have been written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mailglass.errors import ConfigError
from mailglass.installer import managed
from mailglass.installer.plan import Action, Step
from mailglass.installer.source import Source, read

CONFLICT: Final = ".mailglass_conflict"


def conflict(root: Path, path: str, block: str, lines: Sequence[str]) -> Step:
    """Return the step that writes beside an edited block the lines that would have been written.

    Args:
        root: the project.
        path: the file with the block, relative to the project.
        block: the block's name.
        lines: with their marks.

    Raises:
        ConfigError: something else has the name of the conflict file.
    """
    name = f"{path}{CONFLICT}"
    after = "".join(f"{line}\n" for line in lines).encode()
    before = read(root, name) if os.path.lexists(root / name) else None
    if before is not None and not is_conflict(before):
        raise ConfigError(name, "it is no conflict file of mailglass", "Move it away, and run the command again")
    return Step(Action.CONFLICT, name, f"the block {block} of {path} was edited, and stays as it is", before, after)


def is_conflict(raw: bytes) -> bool:
    """Return whether bytes are a conflict file as it was written: managed pieces and nothing else."""
    try:
        source = Source.read("", raw)
        found = managed.pieces(source)
    except (ConfigError, SyntaxError):
        return False
    return bool(found) and all(piece.intact for piece in found) and not managed.without(source, found).lines
