"""Edit of one Python file: a managed block, and the managed imports that it needs."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mailglass.errors import ConfigError
from mailglass.installer import managed
from mailglass.installer.managed import Kind, Piece
from mailglass.installer.places import Place, Reading
from mailglass.installer.plan import Action, ByHand, Step
from mailglass.installer.source import Source

CONFLICT: Final = ".mailglass_conflict"


@dataclass(frozen=True, slots=True)
class Code:
    """Code of a block.

    Attributes:
        lines: with `{name}` in place of each imported name.
        imports: the full name of each, such as `{"path": "django.urls.path"}`.
    """

    lines: tuple[str, ...]
    imports: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A block that a file is to have.

    Attributes:
        path: the file, relative to the project.
        block: the block's name.
        place: finds the place in the file, or returns None.
        code: returns the code for a place.
        imports: True if the code imports names.
        detail: the purpose, for people.
        by_hand: the same for a person, where no place is certain.
        wired: True if the doctor finds it in place.
    """

    path: str
    block: str
    place: Callable[[Reading], Place | None]
    code: Callable[[Place], Code]
    imports: bool
    detail: str
    by_hand: ByHand
    wired: bool


@dataclass(frozen=True, slots=True)
class _Addition:
    """Lines that are added to a file, without marks.

    Attributes:
        place: of the block.
        body: the block's lines.
        imports: lines that stand above, at `import_line`.
        import_line: the number of lines before them.
    """

    place: Place
    body: tuple[str, ...]
    imports: tuple[str, ...]
    import_line: int


def has_block(raw: bytes, name: str) -> bool:
    """Return whether a file speaks of a managed block of this name, edited or not."""
    return any(f"# mailglass: {word} {name}".encode() in raw for word in ("begin", "end"))


def edit(root: Path, wanted: Wanted) -> Step | ByHand:
    """Return the step that gives a file its block, or what a person must do where no place for it is certain.

    Args:
        root: the project.
        wanted: the block.

    Raises:
        ConfigError: the file cannot be read as Python, or something else has the name of the conflict file.
    """
    raw = (root / wanted.path).read_bytes()
    source = Source.read(wanted.path, raw)
    try:
        found = managed.pieces(source)
        blocks = [piece for piece in found if piece.name == wanted.block]
        lines = [piece for piece in found if piece.kind is Kind.LINE and piece.intact and wanted.imports]
        bare = managed.without(source, sorted([*blocks, *lines], key=lambda piece: piece.start))
        addition = _addition(Reading(bare), wanted)
    except (SyntaxError, RecursionError):
        raise ConfigError(
            wanted.path, "it cannot be parsed", "Mend its syntax, or run the command by the Python that runs it"
        ) from None
    kept = Step(Action.KEEP, wanted.path, "is wired already", raw, raw)
    if addition is None:
        return kept if wanted.wired and all(piece.intact for piece in blocks) else wanted.by_hand
    if not all(piece.intact for piece in blocks):
        return _conflict(root, wanted, source, addition)
    if _is_same(addition, blocks, lines):
        return kept
    after = _with(bare, wanted, addition).encode()
    try:
        ast.parse(after)
    except (SyntaxError, ValueError):
        return wanted.by_hand
    return Step(Action.CHANGE, wanted.path, wanted.detail, raw, after)


def _addition(reading: Reading, wanted: Wanted) -> _Addition | None:
    place = wanted.place(reading)
    if place is None:
        return None
    code = wanted.code(place)
    names: dict[str, str] = {}
    missing: dict[str, list[str]] = {}
    for name, full in code.imports.items():
        module, _, attribute = full.rpartition(".")
        known = reading.imported(full, place.line)
        names[name] = known or (name if reading.is_free(name) else f"mailglass_{name.lower()}")
        if known is None:
            as_name = "" if names[name] == attribute else f" as {names[name]}"
            missing.setdefault(module, []).append(f"{attribute}{as_name}")
    imports = tuple(f"from {module} import {', '.join(sorted(given))}" for module, given in sorted(missing.items()))
    body = tuple(line.format(**names) for line in code.lines)
    import_line = reading.last_import(place.line) if imports else None
    if import_line is None:
        # beside code that imports nothing above, the imports are part of the block
        return _Addition(place, (*imports, *body), (), 0)
    return _Addition(place, body, imports, import_line)


def _is_same(addition: _Addition, blocks: list[Piece], lines: list[Piece]) -> bool:
    return [piece.body for piece in blocks] == [addition.body] and sorted(piece.body[0] for piece in lines) == sorted(
        addition.imports
    )


def _with(bare: Source, wanted: Wanted, addition: _Addition) -> Source:
    place = addition.place
    added = {place.line: managed.block(wanted.block, addition.body, place.indent)}
    if addition.imports:
        added[addition.import_line] = [managed.line(code) for code in addition.imports]
    return bare.insert(added)


def _conflict(root: Path, wanted: Wanted, source: Source, addition: _Addition) -> Step:
    """Return the step that writes beside an edited block the one that would have been written."""
    path = f"{wanted.path}{CONFLICT}"
    lines = [managed.line(code) for code in addition.imports]
    lines += managed.block(wanted.block, addition.body)
    after = "".join(f"{line}\n" for line in lines).encode()
    file = root / path
    before = file.read_bytes() if file.is_file() else None
    if before is not None and not is_conflict(before):
        raise ConfigError(path, "it is no conflict file of mailglass", "Move it away, and run the command again")
    return Step(
        Action.CONFLICT, path, f"holds the block {wanted.block} of {wanted.path}, which was edited", before, after
    )


def is_conflict(raw: bytes) -> bool:
    """Return whether bytes are a conflict file as it was written: managed pieces and nothing else."""
    try:
        source = Source.read("", raw)
        found = managed.pieces(source)
    except (ConfigError, SyntaxError):
        return False
    return bool(found) and all(piece.intact for piece in found) and not managed.without(source, found).lines
