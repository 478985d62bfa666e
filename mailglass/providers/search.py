"""Looking at a provider for mails whose answer was lost: what is searched for, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from mailglass.mail.events import ProviderEvent


class SearchResultKind(StrEnum):
    """Kinds of results."""

    FOUND = "found"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """A delivery that may have reached the provider.

    Attributes:
        delivery_id: ours, which the provider got as metadata.
        recipient: its address.
        sent_after: it was not handed over before.
        sent_before: nor after.
        provider_message_id: the provider's id, where an earlier attempt learnt one.
    """

    delivery_id: UUID
    recipient: str = field(repr=False)
    sent_after: datetime
    sent_before: datetime
    provider_message_id: str | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Result of a provider's search for one delivery.

    Attributes:
        kind: found: the provider took it. absent: its search looked at everything it knows and has nothing; whether
            that proves anything is for the account to say. unknown: it could not be asked, or not to the end.
        delivery_id: where found: ours, as the provider told it. Nothing else makes a mail ours.
        provider_message_id: where found: in the form `Outcome.provider_message_id` has; None where it was not told.
        events: what the provider told by the way, as its webhooks would tell it.
    """

    kind: SearchResultKind
    delivery_id: UUID | None = None
    provider_message_id: str | None = None
    events: tuple[ProviderEvent, ...] = ()


ABSENT: Final = SearchResult(SearchResultKind.ABSENT)
UNKNOWN: Final = SearchResult(SearchResultKind.UNKNOWN)


def taken(
    delivery_id: UUID, provider_message_id: str | None = None, events: Sequence[ProviderEvent] = ()
) -> SearchResult:
    """Return the result of a mail that the provider took.

    Args:
        delivery_id: ours, as the provider told it.
        provider_message_id: its id there.
        events: what it told by the way.
    """
    return SearchResult(SearchResultKind.FOUND, delivery_id, provider_message_id, tuple(events))
