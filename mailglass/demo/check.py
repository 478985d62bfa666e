"""Check that nothing was lost or sent twice: compare the ledger with the lab's counts, delivery by delivery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from uuid import UUID

from mailglass.ledger.lifecycle import FINAL, Status


@dataclass(frozen=True, slots=True)
class Recorded:
    """One delivery as the ledger has it.

    Attributes:
        status: where it stands.
        resends: how often its ledger says it was sent again after an uncertain outcome.
        uncertain: whether an attempt's outcome was unknown for a time.
    """

    status: Status
    resends: int = 0
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """The result. All but `resent` is a fault.

    Attributes:
        unfinished: not final.
        unknown: submitted, and not in the ledger.
        lost: sent by the ledger, never received.
        twice: received more often than the ledger accounts for.
        unrecorded: received, though by the ledger it was never sent.
        repeated: a repeated call that made a delivery of its own, in spite of its idempotency key.
        resent: received more than once, each time beyond the first after an uncertain outcome that the ledger shows.
    """

    unfinished: tuple[UUID, ...] = ()
    unknown: tuple[UUID, ...] = ()
    lost: tuple[UUID, ...] = ()
    twice: tuple[UUID, ...] = ()
    unrecorded: tuple[UUID, ...] = ()
    repeated: tuple[UUID, ...] = ()
    resent: tuple[UUID, ...] = ()

    @property
    def faults(self) -> dict[str, tuple[UUID, ...]]:
        """Problems by kind, or empty when all is well."""
        found = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "resent"}
        return {name: ids for name, ids in found.items() if ids}

    @property
    def ok(self) -> bool:
        """True if nothing was lost and nothing sent twice."""
        return not self.faults


def check(
    submitted: Iterable[UUID],
    ledger: Mapping[UUID, Recorded],
    received: Mapping[UUID, int],
    repeated: Iterable[UUID] = (),
) -> Check:
    """Compare.

    Args:
        submitted: the deliveries of this run; what others have in the ledger is not looked at.
        ledger: what it says of them.
        received: how often each was accepted out there.
        repeated: deliveries made by a repeated call that should have made none.
    """
    found: dict[str, list[UUID]] = {item.name: [] for item in fields(Check)}
    for delivery in dict.fromkeys(submitted):
        for kind in _kinds(ledger.get(delivery), received.get(delivery, 0)):
            found[kind].append(delivery)
    found["repeated"] = list(repeated)
    return Check(**{kind: tuple(ids) for kind, ids in found.items()})


def _kinds(recorded: Recorded | None, times: int) -> Iterable[str]:
    if recorded is None:
        yield "unknown"
        return
    if recorded.status not in FINAL:
        yield "unfinished"
    elif recorded.status is Status.SENT and times == 0:
        yield "lost"
    elif recorded.status is not Status.SENT and times > 0 and not recorded.uncertain:
        yield "unrecorded"
    if times > 1 + recorded.resends:
        yield "twice"
    elif times > 1:
        yield "resent"
