"""Edit of one Python file: a managed block, and the managed imports that it needs."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mailglass.installer import managed
from mailglass.installer.conflicts import conflict
from mailglass.installer.managed import Kind, Piece
from mailglass.installer.places import Place, Reading
from mailglass.installer.plan import Action, ByHand, Step
from mailglass.installer.source import Source


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


def edit(root: Path, wanted: Wanted, raw: bytes) -> Step | ByHand:
    """Return the step that gives a file its block, or what a person must do where no place for it is certain.

    Args:
        root: the project.
        wanted: the block.
        raw: the file's bytes, or those that an earlier step will have written.

    Raises:
        ConfigError: the file is not in its own encoding, or something else has the name of the conflict file.
    """
    source = Source.read(wanted.path, raw)
    try:
        found = managed.pieces(source)
        blocks = [piece for piece in found if piece.name == wanted.block]
        imports = [piece for piece in found if piece.kind is Kind.LINE and piece.intact and wanted.imports]
        bare = managed.without(source, [*blocks, *imports])
        addition = _addition(Reading(bare), wanted)
    except (SyntaxError, RecursionError):
        # Python reads the file, for it was found by its syntax tree
        return replace(wanted.by_hand, reason="libcst cannot read this file")
    kept = Step(Action.KEEP, wanted.path, "is wired already", raw, raw)
    if addition is None:
        return kept if wanted.wired and all(piece.intact for piece in blocks) else wanted.by_hand
    if not all(piece.intact for piece in blocks):
        lines = [*map(managed.line, addition.imports), *managed.block(wanted.block, addition.body)]
        return conflict(root, wanted.path, wanted.block, lines)
    if _is_same(addition, blocks, imports):
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
    names, imports = _imports(reading, code, place)
    body = tuple(line.format(**names) for line in code.lines)
    import_line = reading.last_import(place.line) if imports else None
    if import_line is None:
        # beside code that imports nothing above, the imports are part of the block
        return _Addition(place, (*imports, *body), (), 0)
    return _Addition(place, body, imports, import_line)


def _imports(reading: Reading, code: Code, place: Place) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the name that each import has in the file, and the lines that are missing for it."""
    names: dict[str, str] = {}
    plain: dict[str, list[str]] = {}
    renamed: list[str] = []
    for name, full in code.imports.items():
        module, _, attribute = full.rpartition(".")
        known = reading.imported(full, place.line)
        names[name] = known or name
        if known is not None:
            continue
        # import sorters join a plain import to others from the same module, and leave a renamed one as it is
        if name == attribute and reading.is_free(name) and not reading.imports_from(module):
            plain.setdefault(module, []).append(name)
            continue
        others = (given for given in (name, f"_{name}", f"mailglass_{name}") if given != attribute)
        names[name] = next((given for given in others if reading.is_free(given)), f"_mailglass_{name}")
        renamed.append(f"from {module} import {attribute} as {names[name]}")
    lines = [f"from {module} import {', '.join(sorted(given))}" for module, given in plain.items()]
    return names, tuple(sorted([*lines, *renamed]))


def _is_same(addition: _Addition, blocks: Sequence[Piece], imports: Sequence[Piece]) -> bool:
    lines = tuple(sorted(piece.body[0] for piece in imports))
    return [piece.body for piece in blocks] == [addition.body] and lines == tuple(sorted(addition.imports))


def _with(bare: Source, wanted: Wanted, addition: _Addition) -> Source:
    place = addition.place
    added = {place.line: managed.block(wanted.block, addition.body, place.indent)}
    if addition.imports:
        added[addition.import_line] = [managed.line(code) for code in addition.imports]
    return bare.insert(added)
