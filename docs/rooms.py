"""Draw the rooms of mailglass and the imports between them, as `docs/rooms.svg`.

Run `python docs/rooms.py` after an import between two rooms was added or removed. A room is a package or a module right
under `mailglass`, or one of the two packages that run inside Celery. Each row imports from rows below it only. An arrow
that follows from two others is left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PICTURE: Final = ROOT / "docs" / "rooms.svg"
SOURCES: Final = (ROOT / "mailglass", ROOT / "workers" / "mailglass_workers", ROOT / "beat" / "mailglass_beat")

_WIDTH, _HEIGHT, _GAP, _ROW, _MARGIN = 132, 30, 18, 74, 20
_STYLE: Final = (
    "text{font-family:Menlo,Consolas,monospace;font-size:13px;fill:#1f2937;text-anchor:middle;"
    "dominant-baseline:central}"
    "rect.room{fill:#f8fafc;stroke:#64748b}rect.celery{fill:#ecfdf5;stroke:#059669}"
    "path{fill:none;stroke:#94a3b8}"
)


def imports() -> dict[str, set[str]]:
    """Return the rooms that each room imports, by name.

    Returns:
        Every room, with an empty set where it imports none. Imports inside functions and for type checkers count.
    """
    found: dict[str, set[str]] = {}
    modules = [(path, source) for source in SOURCES for path in sorted(source.rglob("*.py"))]
    for path, source in modules:
        if (room := _room_of(path, source)) is not None:
            found.setdefault(room, set())
    for path, source in modules:
        if (room := _room_of(path, source)) is not None:
            found[room] |= {name for name in _imported(path) if name in found and name != room}
    return found


def _room_of(path: Path, source: Path) -> str | None:
    """Name the room of a module; None for the public names, which are loaded from all rooms."""
    if source.name != "mailglass":
        return source.name
    first = path.relative_to(source).parts[0].removesuffix(".py")
    return None if first in ("__init__", "__main__") else first


def _imported(path: Path) -> Iterator[str]:
    """Yield the rooms that a module imports, and other names."""
    for node in _statements(ast.parse(path.read_text(encoding="utf-8")).body):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "mailglass":
            names = [f"mailglass.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            parts = name.split(".")
            yield parts[1] if parts[0] == "mailglass" and len(parts) > 1 else parts[0]


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements and those within them; no expression imports anything."""
    for statement in body:
        yield statement
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            for inner in getattr(statement, part, ()):
                yield from _statements([inner] if isinstance(inner, ast.stmt) else inner.body)


def rows(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Sort rooms into rows, the lowest last: each stands just above the highest that it imports.

    Raises:
        ValueError: two rooms import each other, directly or by way of others.
    """
    level: dict[str, int] = {}
    while len(level) < len(graph):
        ready = [room for room in sorted(graph) if room not in level and graph[room] <= level.keys()]
        if not ready:
            raise ValueError(f"these rooms import in a circle: {sorted(graph.keys() - level.keys())}")
        level |= {room: 1 + max((level[name] for name in graph[room]), default=-1) for room in ready}
    return [sorted(room for room in level if level[room] == floor) for floor in range(max(level.values()), -1, -1)]


def reduced(graph: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows of a graph without those that follow from others."""
    reach: dict[str, set[str]] = {}
    for row in reversed(rows(graph)):
        for room in row:
            reach[room] = set().union(graph[room], *(reach[name] for name in graph[room]))
    return sorted(
        (room, name) for room in graph for name in graph[room] if not any(name in reach[by] for by in graph[room])
    )


def draw(graph: Mapping[str, set[str]]) -> str:
    """Draw the picture.

    Args:
        graph: the rooms that each room imports.

    Returns:
        The text of an SVG file, the same for the same imports.
    """
    floors = rows(graph)
    routes = [_route(arrow, floors) for arrow in reduced(graph)]
    for route in routes:
        for point in route[1:-1]:
            floors[_floor(point)].append(point)
    _order(floors, [pair for route in routes for pair in pairwise(route)])
    middle, width = _middles(floors)
    height = 2 * _MARGIN + (len(floors) - 1) * _ROW + _HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<title>The rooms of mailglass: each imports from rooms below it</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" style="fill:#94a3b8;stroke:none"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    lines += [f'<path d="{_curve([middle[point] for point in route])}" marker-end="url(#tip)"/>' for route in routes]
    for room in sorted(graph):
        x, y = middle[room]
        kind = "celery" if room.startswith("mailglass_") else "room"
        lines.append(f'<rect class="{kind}" x="{x - _WIDTH // 2}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="5"/>')
        lines.append(f'<text x="{x}" y="{y + _HEIGHT // 2}">{room.removeprefix("mailglass_")}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _route(arrow: tuple[str, str], floors: list[list[str]]) -> list[str]:
    """Lead an arrow from room to room by a point of its own on every row between them."""
    start, end = (next(number for number, row in enumerate(floors) if room in row) for room in arrow)
    return [arrow[0], *(f"{number}:{arrow[0]}:{arrow[1]}" for number in range(start + 1, end)), arrow[1]]


def _floor(point: str) -> int:
    return int(point.partition(":")[0])


def _order(floors: list[list[str]], joins: list[tuple[str, str]]) -> None:
    """Order each row by the middle of what its rooms are joined to, so that few arrows cross."""
    joined: dict[str, list[str]] = {}
    for a, b in joins:
        joined.setdefault(a, []).append(b)
        joined.setdefault(b, []).append(a)
    place = {room: (number + 0.5) / len(row) for row in floors for number, room in enumerate(row)}
    for _ in range(24):
        for row in floors:
            wanted = {room: [place[name] for name in joined.get(room, [room])] for room in row}
            row.sort(key=lambda room: (sum(wanted[room]) / len(wanted[room]), room))
            place |= {room: (number + 0.5) / len(row) for number, room in enumerate(row)}


def _middles(floors: list[list[str]]) -> tuple[dict[str, tuple[int, int]], int]:
    """Return the middle of each upper edge, and the width of the picture."""

    def wide(room: str) -> int:
        return _GAP if ":" in room else _WIDTH + _GAP

    width = 2 * _MARGIN + max(sum(map(wide, row)) for row in floors)
    middle = {}
    for floor, row in enumerate(floors):
        x = (width - sum(map(wide, row))) // 2
        for room in row:
            middle[room] = (x + wide(room) // 2, _MARGIN + floor * _ROW)
            x += wide(room)
    return middle, width


def _curve(points: list[tuple[int, int]]) -> str:
    """Return the path through points that lie on rows one below the other."""
    (x, y), *others = points
    path = f"M{x} {y + _HEIGHT}"
    for number, (to_x, to_y) in enumerate(others, 1):
        bend = (_ROW - _HEIGHT) // 2
        path += f"C{x} {to_y - bend} {to_x} {to_y - bend} {to_x} {to_y}"
        path += f"V{to_y + _HEIGHT}" if number < len(others) else ""
        x = to_x
    return path


if __name__ == "__main__":
    PICTURE.write_text(draw(imports()), encoding="utf-8")
    print(PICTURE)
