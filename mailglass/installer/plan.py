"""Plan of what an installation changes, conflicts with and leaves: made as a whole before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DONE: Final = 0
LEFT: Final = 1
NOT_FOUND: Final = 2


class Action(StrEnum):
    """Treatment of one file."""

    CREATE = "create"
    CHANGE = "change"
    REMOVE = "remove"
    CONFLICT = "conflict"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Step:
    """One file of a plan.

    Attributes:
        action: its treatment.
        path: relative to the project, with `/`.
        detail: the reason, for people.
        before: its bytes, or None if it is not there.
        after: its bytes once the plan is carried out, or None if it is gone then. Equal to `before` if it is kept.
        directories: how many directories above a removed file go with it where nothing else is in them.
    """

    action: Action
    path: str
    detail: str
    before: bytes | None = None
    after: bytes | None = None
    directories: int = 0


@dataclass(frozen=True, slots=True)
class ByHand:
    """Lines that a person must add, because their place is not certain.

    Attributes:
        reason: the obstacle.
        file: the file that they belong to, relative to the project, or None if that is not certain either.
        line: the line that they belong after, from 1, or None.
        lines: the lines.
    """

    reason: str
    file: str | None
    line: int | None
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are carried out.

    A process that dies between two of them leaves an application that runs, and a second run does the rest.

    Attributes:
        framework: the application's, or None if that is not certain.
        steps: the files, also those that are kept.
        by_hand: what a person must do first. If there is any, there are no steps.
        keeps_matter: True if a file that is kept means that the aim is missed.
    """

    framework: str | None
    steps: Sequence[Step]
    by_hand: Sequence[ByHand] = ()
    keeps_matter: bool = False

    @property
    def writes(self) -> list[Step]:
        """The steps that change a file."""
        return [step for step in self.steps if step.before != step.after]

    @property
    def exit_code(self) -> int:
        """0 if all is as it should be after the plan, 1 if edited text is in the way, 2 if a person must add lines."""
        if self.by_hand:
            return NOT_FOUND
        missed = {Action.CONFLICT, Action.KEEP} if self.keeps_matter else {Action.CONFLICT}
        return LEFT if any(step.action in missed for step in self.steps) else DONE
