"""Counts of one batch, made once from what its steps returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from mailglass.ledger.leases import Claimed
from mailglass.ledger.lifecycle import Status
from mailglass.limits import Grant


@dataclass(frozen=True, slots=True)
class Claim:
    """Deliveries that one batch has leased.

    Attributes:
        deliveries: leased, in the order in which they were due.
        full: there was more to claim.
        capped: the tenant's cap may have cut the claim short, so that it looks like the lane's last one.
    """

    deliveries: Sequence[Claimed]
    full: bool = False
    capped: bool = False


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """Result of one provider call.

    Attributes:
        attempted: mails that were handed to the provider.
        usable: the account can take more now.
        provider_message_ids: ids that the provider gave them.
    """

    attempted: int
    usable: bool
    provider_message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepResult:
    """Result of one step: of a whole batch, or of a delivery that is worked on alone.

    Attributes:
        held_up: most of it waits for limits or breakers. Its lane comes back when the pump rings it.
        unsent: some was given back for want of time, though its account can take more.
        limited: the last limit that was reached, or None.
    """

    held_up: bool = False
    unsent: bool = False
    limited: Grant | None = None


@dataclass(frozen=True, slots=True)
class BatchReport:
    """Counts of one batch: deliveries by their next state, and whether its lane has more to do.

    Attributes:
        claimed: deliveries that were leased.
        full: there was more to claim.
        more: the end of this batch has made room for the rest of its lane, under the tenant's cap or in time.
        attempted: mails that were handed to providers.
        orphans_waiting: events wait for a provider id that was learnt.
        limited: the last limit that was reached, or None.
        moved: deliveries by the state that was recorded.
    """

    claimed: int = 0
    full: bool = False
    more: bool = False
    attempted: int = 0
    orphans_waiting: bool = False
    limited: Grant | None = None
    moved: Mapping[Status, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        claim: Claim,
        moved: Mapping[Status, int],
        steps: Sequence[StepResult],
        attempts: Sequence[AttemptResult],
        *,
        orphans_waiting: bool,
    ) -> Self:
        """Return the report of a claim.

        Args:
            claim: the leased deliveries.
            moved: deliveries by the state that was recorded.
            steps: one of the whole batch, or one of each delivery that was worked on alone.
            attempts: every provider call.
            orphans_waiting: events wait for a provider id that was learnt.
        """
        limits = [step.limited for step in steps if step.limited is not None]
        made_room = claim.capped and not any(step.held_up for step in steps)
        return cls(
            claimed=len(claim.deliveries),
            full=claim.full,
            more=made_room or any(step.unsent for step in steps),
            attempted=sum(attempt.attempted for attempt in attempts),
            orphans_waiting=orphans_waiting,
            limited=limits[-1] if limits else None,
            moved=dict(moved),
        )
