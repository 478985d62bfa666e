"""Results of `deliver_many`: one for each message, in input order, in a few bytes each."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from mailglass.errors import MailglassError


class ItemOutcome(StrEnum):
    """Outcome of one message of a batch."""

    QUEUED = "queued"
    SUPPRESSED = "suppressed"
    INVALID = "invalid"
    DUPLICATE = "duplicate"
    UNKNOWN = "unknown"


_OUTCOMES = tuple(ItemOutcome)
_CODES = {outcome: code for code, outcome in enumerate(_OUTCOMES)}


@dataclass(frozen=True, slots=True)
class ItemResult:
    """Result of one message.

    >>> from mailglass import Message, deliver_many
    >>> (result,) = deliver_many([Message(to="ada@example.com", subject="News", text="Hello.")])
    >>> result.outcome.value, len(result.ids), result.error
    ('queued', 1, None)

    Attributes:
        outcome: queued, suppressed, invalid or duplicate; unknown if the database was lost.
        ids: the deliveries, one for each recipient; none for an invalid message. With an unknown outcome, the ids that
            the deliveries have if they were recorded.
        error: the error of an invalid message.
    """

    outcome: ItemOutcome
    ids: tuple[UUID, ...] = ()
    error: MailglassError | None = None


class BatchResults(Sequence[ItemResult]):
    """Sequence of `ItemResult`. A million of them take some 25 MB, because ids and outcomes are stored as bytes.

    >>> from mailglass import Message, deliver_many
    >>> results = deliver_many([Message(to="ada@example.com", subject="News", text="Hello.")])
    >>> len(results), results[0].outcome.value
    (1, 'queued')
    """

    def __init__(self) -> None:
        self._outcomes = bytearray()
        self._ids = bytearray()
        self._ends = array("Q")
        self._errors: dict[int, MailglassError] = {}

    def append(self, result: ItemResult) -> None:
        """Add the next message's result."""
        if result.error is not None:
            self._errors[len(self._outcomes)] = result.error
        self._outcomes.append(_CODES[result.outcome])
        for delivery_id in result.ids:
            self._ids += delivery_id.bytes
        self._ends.append(len(self._ids))

    def extend(self, results: Iterable[ItemResult]) -> None:
        """Add the results of the next messages."""
        for result in results:
            self.append(result)

    @property
    def counts(self) -> dict[ItemOutcome, int]:
        """Return the number of messages by outcome."""
        return {_OUTCOMES[code]: number for code, number in sorted(Counter(self._outcomes).items())}

    def __len__(self) -> int:
        return len(self._outcomes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        start = self._ends[position - 1] if position else 0
        ids = tuple(UUID(bytes=bytes(self._ids[at : at + 16])) for at in range(start, self._ends[position], 16))
        return ItemResult(_OUTCOMES[self._outcomes[position]], ids, self._errors.get(position))

    def __iter__(self) -> Iterator[ItemResult]:
        return (self[position] for position in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<BatchResults: {', '.join(f'{number} {name}' for name, number in self.counts.items()) or 'empty'}>"
