"""A delivery's life as data: the states, the causes, the moves that are allowed. Nothing else moves a delivery.

The database refuses any other move (trigger `deliveries_lifecycle`, SQLSTATE 45A02); the table in
docs/architecture.md is this one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """The states of a delivery."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    UNCERTAIN = "uncertain"
    HELD = "held"
    CANCELED = "canceled"


MEANING: dict[Status, str] = {
    Status.QUEUED: "recorded and owed; due at a time",
    Status.CLAIMED: "leased by a worker; nothing was sent",
    Status.SENDING: "the provider call may be under way",
    Status.SENT: "the provider accepted it",
    Status.FAILED: "ended without being sent; in doubt, it was given up or expired, or its recipient is refused",
    Status.SUPPRESSED: "never sent, because the recipient is suppressed",
    Status.UNCERTAIN: "it may have been sent; evidence is awaited",
    Status.HELD: "waits for a person",
    Status.CANCELED: "taken back before it was claimed",
}


class Doubt(StrEnum):
    """The effect of a verdict on a delivery's doubt, the column `in_doubt` beside its status.

    A delivery is in doubt while the outcome of one of its attempts is not known: it may have been sent. Only an answer
    ends that, whatever states it passes through: the provider's, its search's or its webhook's, or a person's word.
    It cannot be canceled, and ends as `failed` only where it expired, its recipient cannot be reached, or a person gave
    it up.

    asked: an attempt's outcome is not known, and its account is to be asked again under the same idempotency key.
    open: an attempt's outcome is not known, and its account is not asked.
    answered: the account that was asked again has answered that it never took it.
    """

    ASKED = "asked"
    OPEN = "open"
    ANSWERED = "answered"


FINAL: frozenset[Status] = frozenset({Status.SENT, Status.FAILED, Status.SUPPRESSED, Status.CANCELED})


class Move(NamedTuple):
    """One allowed move: from a state, for a cause, to a state."""

    source: Status
    cause: str
    target: Status


MOVES: tuple[Move, ...] = (
    Move(Status.QUEUED, "claimed by a worker under a lease", Status.CLAIMED),
    Move(Status.QUEUED, "canceled by the application or an operator", Status.CANCELED),
    Move(Status.QUEUED, "in doubt, and given up by an operator", Status.FAILED),
    Move(Status.QUEUED, "held by an operator after a restore, because it may have been sent", Status.HELD),
    Move(Status.QUEUED, "evidence that an earlier attempt was accepted", Status.SENT),
    Move(Status.CLAIMED, "lease expired, or given back unsent", Status.QUEUED),
    Move(Status.CLAIMED, "recipient found suppressed", Status.SUPPRESSED),
    Move(Status.CLAIMED, "expired, or too old", Status.FAILED),
    Move(
        Status.CLAIMED,
        "no account can be used, no mail can be made, it ended its workers, or it ends in doubt",
        Status.HELD,
    ),
    Move(Status.CLAIMED, "marked just before the provider call", Status.SENDING),
    Move(Status.CLAIMED, "evidence that an earlier attempt was accepted", Status.SENT),
    Move(Status.CLAIMED, "may have been sent, and cannot be asked about again now", Status.UNCERTAIN),
    Move(Status.SENDING, "accepted", Status.SENT),
    Move(Status.SENDING, "throttled, transient, quota, next account, or to be asked again: due later", Status.QUEUED),
    Move(Status.SENDING, "rejected, or out of attempts", Status.FAILED),
    Move(Status.SENDING, "provider refuses the recipient", Status.SUPPRESSED),
    Move(Status.SENDING, "account misconfigured and no other left, or it is in doubt and ends here", Status.HELD),
    Move(Status.SENDING, "answer lost, or the worker died", Status.UNCERTAIN),
    Move(Status.UNCERTAIN, "evidence that it was accepted", Status.SENT),
    Move(Status.UNCERTAIN, "hold time over and policy resend, proved never taken, or by an operator", Status.QUEUED),
    Move(Status.UNCERTAIN, "hold time over, policy hold", Status.HELD),
    Move(Status.UNCERTAIN, "expired while waiting for evidence, or given up by an operator", Status.FAILED),
    Move(Status.HELD, "released by an operator", Status.QUEUED),
    Move(Status.HELD, "canceled by an operator", Status.CANCELED),
    Move(Status.HELD, "in doubt, and given up by an operator", Status.FAILED),
    Move(Status.HELD, "evidence that it was accepted", Status.SENT),
)

ALLOWED: frozenset[tuple[Status, Status]] = frozenset((move.source, move.target) for move in MOVES)


def describe() -> str:
    """Return the life of a delivery as sentences, one a line."""
    return "\n".join(f"{move.source.value} -> {move.target.value}: {move.cause}" for move in MOVES)
