"""Lease of one batch on its deliveries, and the record of their verdicts."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

from mailglass import clock, telemetry
from mailglass.errors import LedgerError, LedgerUnavailableError
from mailglass.ledger import leases
from mailglass.ledger.database import Runs
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, RefusedCopy, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.suppressions import Suppression
from mailglass.settings import EngineSettings

_RECORD_RETRY: Final = 0.5


@dataclass(frozen=True, slots=True)
class Lease:
    """Lease of one batch, with the moments on the monotonic clock at which it must stop.

    Attributes:
        token: by which its deliveries are leased.
        stop_at: no further piece is begun.
        send_until: no send starts.
        record_until: the lease ends; nothing can be written any more.
        started: it began.
    """

    token: UUID
    stop_at: float
    send_until: float
    record_until: float
    started: float = field(default_factory=clock.monotonic)

    def expiry(self, lifetime: float | None) -> float | None:
        """Return the moment at which a delivery expires that had so many seconds left when it was claimed."""
        return None if lifetime is None else self.started + lifetime

    @property
    def over(self) -> bool:
        """Return whether no further piece may be begun."""
        return clock.monotonic() >= min(self.stop_at, self.send_until)


def new_lease(engine: EngineSettings) -> Lease:
    """Return a lease that begins now."""
    start = clock.monotonic()
    return Lease(
        token=uuid4(),
        # a batch takes a slice; the budget bounds one whose provider turns out slower than it was
        stop_at=start + min(engine.task_budget, engine.slice * 2),
        send_until=start + engine.lease - engine.send_margin,
        record_until=start + engine.lease,
    )


class Recorder:
    """Record of verdicts under one lease, with their counts.

    Args:
        ledger: keeps them.
        lease: of the batch.
        claimed: the leased deliveries.
        wait_for_database: whether a database that is away is waited for to give back what was not sent.
    """

    def __init__(
        self,
        ledger: Runs,
        lease: Lease,
        claimed: Sequence[Claimed],
        *,
        wait_for_database: bool = True,
    ) -> None:
        self._ledger = ledger
        self._wait_for_database = wait_for_database
        self.lease = lease
        self._moved: Counter[Status] = Counter()
        self._untouched = {delivery.id for delivery in claimed}

    @property
    def moved(self) -> Mapping[Status, int]:
        """Return the number of deliveries by the state that was recorded."""
        return self._moved

    def holds(self, delivery_id: UUID) -> bool:
        """Return whether nothing was written of a leased delivery yet, and no provider was asked about it."""
        return delivery_id in self._untouched

    def begin(self, ids: Iterable[UUID]) -> None:
        """Note that these are handed to a provider, whose answers alone tell what becomes of them."""
        self._untouched.difference_update(ids)

    def record(
        self, verdicts: Sequence[Verdict], refused: Sequence[Suppression] = (), copies: Sequence[RefusedCopy] = ()
    ) -> None:
        """Write verdicts down, trying for as long as the lease lives: what a provider answered is known only here.

        Args:
            verdicts: on leased deliveries.
            refused: recipients that a provider refuses, for the suppression list; written with the verdicts or not at
                all.
            copies: those who got no copy.
        """
        self._write(verdicts, refused, self.lease.record_until, copies)

    def _write(
        self,
        verdicts: Sequence[Verdict],
        refused: Sequence[Suppression],
        until: float,
        copies: Sequence[RefusedCopy] = (),
    ) -> None:
        if not verdicts:
            return
        refusal: LedgerError | None = None
        written: Set[UUID] = frozenset()
        while True:
            try:
                written = leases.record(self._ledger, self.lease.token, verdicts, refused, copies)
                break
            except LedgerUnavailableError:
                if clock.monotonic() >= until:
                    raise
                time.sleep(_RECORD_RETRY)
            except LedgerError as error:
                if not error.of_a_value:
                    raise
                refusal = error
                break
        # outside of the handler: what follows must not carry the refusal along
        if refusal is not None:
            self._write_apart(verdicts, refused, until, copies, refusal)
            return
        self.begin(written)
        whole = len(written) == len(verdicts)
        self._moved.update([verdict.status for verdict in verdicts if whole or verdict.id in written])

    def _write_apart(
        self,
        verdicts: Sequence[Verdict],
        refused: Sequence[Suppression],
        until: float,
        copies: Sequence[RefusedCopy],
        refusal: LedgerError,
    ) -> None:
        """Write down each verdict but for the value that the ledger cannot keep: nothing was written of any yet.

        Raises:
            LedgerError: even the bare outcome of one mail is refused.
        """
        if len(verdicts) > 1:
            middle = len(verdicts) // 2
            early = {verdict.id for verdict in verdicts[:middle]}
            try:
                self._write(verdicts[:middle], (), until, [copy for copy in copies if copy.delivery_id in early])
            finally:
                # what one half cannot keep costs the other half nothing
                rest = [copy for copy in copies if copy.delivery_id not in early]
                self._write(verdicts[middle:], refused, until, rest)
            return
        (verdict,) = verdicts
        bare = verdict._replace(provider_message_id=None, enhanced_status=None, refusal=None)
        if bare == verdict and not refused and not copies:
            raise refusal
        telemetry.emit("mailglass.record.refused", level=logging.ERROR, delivery_id=str(verdict.id))
        if bare != verdict:
            # who is to be suppressed, of the other mails too, does not go with what this one cannot keep
            self._write([bare], refused, until, copies)
        else:
            self._write([bare], (), until)

    def expired(self, ids: Set[UUID]) -> None:
        """Note those that the mark has failed, because they had expired by then."""
        self.begin(ids)
        if ids:
            self._moved[Status.FAILED] += len(ids)

    def give_back(self, ids: Iterable[UUID]) -> None:
        """Queue again what was certainly not sent; not counted as an attempt."""
        self.record(_given_back(ids))

    def give_back_rest(self) -> None:
        """Queue again whatever no provider was asked about, when the database is back; unless the lease ends first."""
        self._write(_given_back(self._untouched), (), self.lease.record_until if self._wait_for_database else 0.0)


def _given_back(ids: Iterable[UUID]) -> list[Verdict]:
    return [Verdict(key, Status.QUEUED, EngineEvent.RELEASED, "given_back", counted=False) for key in ids]
