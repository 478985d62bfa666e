"""The seam to a provider's own suppression list: read it page by page, add to it, take from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ListedAddress:
    """One entry of a provider's list.

    Attributes:
        address: as the provider wrote it.
        reason: `hard_bounce`, `complaint`, `unsubscribe`, `manual` or `provider`.
        created_at: when it was listed, by the provider's clock; None where it does not say.
        origin: which of the provider's lists it stands on, in the provider's words; "" where there is only one.
    """

    address: str = field(repr=False)
    reason: str
    created_at: datetime | None = None
    origin: str = ""


class SuppressionList(Protocol):
    """One account's list at its provider. Every call may raise `ProviderCallError`."""

    def pull(self, cursor: str | None) -> tuple[list[ListedAddress], str | None]:
        """One page, and the cursor for the next one; None at the end.

        Args:
            cursor: from the page before; None begins at the beginning.
        """

    def push(self, entries: Sequence[ListedAddress]) -> list[bool]:
        """Add entries; says of each, in order, whether it stands there now."""

    def remove(self, addresses: Sequence[str]) -> list[bool]:
        """Take addresses off the list; says of each, in order, whether it stands there no more."""
