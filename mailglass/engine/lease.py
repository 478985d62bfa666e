"""One batch's hold on its deliveries, and writing down what became of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

from mailglass import clock
from mailglass.errors import LedgerUnavailableError
from mailglass.ledger import leases
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Runs, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.limits import Grant
from mailglass.providers.base import Outgoing
from mailglass.settings import EngineSettings

_RECORD_RETRY: Final = 0.5


@dataclass(slots=True)
class BatchReport:
    """What one batch came to: deliveries by where they went, and whether the claim was full."""

    claimed: int = 0
    full: bool = False
    attempted: int = 0
    orphans_waiting: bool = False
    limited: Grant | None = None
    moved: dict[Status, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lease:
    """When this batch must stop. Moments on the monotonic clock.

    Attributes:
        stop_at: no further piece is begun.
        send_until: no send starts.
        record_until: the lease ends; nothing can be written any more.
    """

    token: UUID
    stop_at: float
    send_until: float
    record_until: float

    @property
    def over(self) -> bool:
        """Whether no further piece may be begun."""
        return clock.monotonic() >= min(self.stop_at, self.send_until)


def new_lease(engine: EngineSettings) -> Lease:
    """A lease that begins now."""
    start = clock.monotonic()
    return Lease(
        token=uuid4(),
        # a batch takes a slice; the budget bounds one whose provider turns out slower than it was
        stop_at=start + min(engine.task_budget, engine.slice * 2),
        send_until=start + engine.lease - engine.send_margin,
        record_until=start + engine.lease,
    )


class Recorder:
    """Writes verdicts down under one lease.

    Args:
        ledger: where.
        lease: by whose token.
        report: counts what was written.
    """

    def __init__(self, ledger: Runs, lease: Lease, report: BatchReport) -> None:
        self._ledger = ledger
        self.lease = lease
        self.report = report

    def record(self, verdicts: Sequence[Verdict]) -> None:
        """Write verdicts down, trying for as long as the lease lives: what a provider answered is known only here."""
        if not verdicts:
            return
        while True:
            try:
                written = leases.record(self._ledger, self.lease.token, verdicts)
                break
            except LedgerUnavailableError:
                if clock.monotonic() >= self.lease.record_until:
                    raise
                time.sleep(_RECORD_RETRY)
        for verdict in verdicts:
            if verdict.id in written:
                self.report.moved[verdict.status] = self.report.moved.get(verdict.status, 0) + 1

    def give_back(self, mails: Sequence[Outgoing]) -> None:
        """Queue again what was certainly not sent; not counted as an attempt."""
        self.record(
            [
                Verdict(mail.delivery_id, Status.QUEUED, EngineEvent.RELEASED, "given_back", counted=False)
                for mail in mails
            ]
        )
