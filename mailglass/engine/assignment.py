"""Assignment of a batch's deliveries to accounts, as values that each step replaces and none changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from mailglass.engine.bulkhead import Call
from mailglass.engine.prepare import ReadyDelivery
from mailglass.ledger.leases import Verdict
from mailglass.limits import Grant
from mailglass.mail.addresses import Address
from mailglass.providers.base import Provider
from mailglass.settings import Route


@dataclass(frozen=True, slots=True)
class AccountBatch:
    """Deliveries that one account is to send.

    Attributes:
        account: its name.
        provider: opened for it.
        sender: From of those that name none.
        route: for failover, the other accounts.
        deliveries: to be sent, in the order of the claim.
        probing: the account's breaker is half-open, and the one delivery tries it.
        call: leave to call the provider from one of this worker's slots; None in a process that is no worker.
        cap_keys: keys under which the account's plan for the day counts deliveries, by delivery.
    """

    account: str
    provider: Provider
    sender: Address | None
    route: Route
    deliveries: tuple[ReadyDelivery, ...]
    probing: bool = False
    call: Call | None = None
    cap_keys: Mapping[UUID, str] = field(default_factory=dict)

    @property
    def quick(self) -> bool:
        """Return whether nobody need fear that the account's provider is slow."""
        return self.call is None or self.call.quick

    def release(self) -> None:
        """Give back the worker's slot for the provider call, because none follows."""
        if self.call is not None:
            self.call.release()


@dataclass(frozen=True, slots=True)
class Assignment:
    """Accounts of a batch's deliveries, and verdicts on those that no account sends now.

    Attributes:
        by_account: deliveries by account.
        ended: verdicts on those that are never sent.
        waiting: verdicts on those that are due later.
        left: deliveries whose only usable accounts were excluded.
        without_slot: accounts whose slow calls hold all the slots that they may have.
    """

    by_account: tuple[AccountBatch, ...] = ()
    ended: tuple[Verdict, ...] = ()
    waiting: tuple[Verdict, ...] = ()
    left: tuple[ReadyDelivery, ...] = ()
    without_slot: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Admitted:
    """Deliveries that may be sent now within the rate limits, and verdicts on the others.

    Attributes:
        batches: deliveries by account, with their `cap_keys`.
        ended: verdicts on those that are never sent.
        waiting: verdicts on those that are due later.
        limited: the last limit that was reached, or None.
        without_slot: accounts whose slow calls hold all the slots that they may have.
    """

    batches: tuple[AccountBatch, ...] = ()
    ended: tuple[Verdict, ...] = ()
    waiting: tuple[Verdict, ...] = ()
    limited: Grant | None = None
    without_slot: frozenset[str] = frozenset()
