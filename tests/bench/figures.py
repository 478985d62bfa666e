"""What a measurement comes to, and the one table that shows all of them."""

from __future__ import annotations

import json
import operator
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: the same figure, once for each round.

    Attributes:
        label: what was measured.
        rounds: one figure each.
        unit: of the figures, for example `ms` or `mails/s`.
    """

    label: str
    rounds: Sequence[float]
    unit: str

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def __str__(self) -> str:
        return f"{_short(self.median)} {self.unit}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours against theirs, from rounds that alternated.

    Attributes:
        bench: the benchmark it belongs to.
        goal: of the ratio, `<= 1.3` or `>= 30`, or of our own figure, `< 2 s`; empty where it only informs.
    """

    bench: str
    ours: Side
    theirs: Side
    goal: str = ""

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return self.ours.median / self.theirs.median

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest ratio of two neighbouring rounds: what the machine's unrest comes to."""
        ratios = [ours / theirs for ours, theirs in zip(self.ours.rounds, self.theirs.rounds, strict=False)]
        return min(ratios), max(ratios)

    @property
    def verdict(self) -> str:
        if not self.goal:
            return ""
        relation, limit, *unit = self.goal.split()
        figure = self.ours.median if unit else self.ratio
        return "met" if _RELATIONS[relation](figure, float(limit)) else "missed"

    def cells(self) -> tuple[str, ...]:
        low, high = self.spread
        return (
            self.bench,
            f"{self.ours.label}: {self.ours}",
            f"{self.theirs.label}: {self.theirs}",
            f"{_short(self.ratio)} x",
            f"{_short(low)} to {_short(high)}",
            self.goal,
            self.verdict,
        )


_RELATIONS = {"<": operator.lt, "<=": operator.le, ">=": operator.ge}
HEADINGS = ("bench", "mailglass", "against", "ratio", "rounds", "goal", "")


def table(figures: Sequence[Comparison]) -> str:
    """All figures as one table of plain text."""
    rows = [HEADINGS, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths).rstrip())
    return "\n".join(lines)


def as_json(figures: Sequence[Comparison]) -> str:
    """All figures with every round."""
    return json.dumps([_plain(figure) for figure in figures], indent=2)


def _plain(figure: Comparison) -> dict[str, object]:
    return asdict(figure) | {"ratio": figure.ratio, "spread": figure.spread, "verdict": figure.verdict}


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
