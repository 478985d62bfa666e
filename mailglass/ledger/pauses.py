"""Pauses: accounts that are not called and lanes that are not claimed until somebody says so, kept in the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from mailglass import clock
from mailglass.ids import uuid7
from mailglass.ledger.audit import Actor
from mailglass.ledger.breakers import wake
from mailglass.ledger.database import Runs
from mailglass.mail.streams import Stream
from mailglass.routing import Lane


@dataclass(frozen=True, slots=True)
class Pause:
    """Something that is paused: an account, or a tenant's mail, or one stream of it.

    Attributes:
        account: its name; "" where lanes are paused.
        tenant: whose mail; "" where an account is paused.
        stream: of the tenant; "" for all of its streams.
        since: the moment it began.
        actor: who paused it.
    """

    account: str
    tenant: str
    stream: str
    since: datetime
    actor: str

    def covers(self, lane: Lane) -> bool:
        """Return whether a lane is paused by it."""
        return bool(self.tenant) and self.tenant == lane.tenant and self.stream in ("", lane.stream)


@dataclass(frozen=True, slots=True)
class AccountState:
    """The state of an account at this moment.

    Attributes:
        breaker: misconfigured, quota or transient; None while it is closed.
        failures: of the breaker, in a row.
        open_until: when it is tried again.
        last_error: what opened it, a short closed code.
        paused_at: since when somebody has paused it, and `paused_by` who.
        throttled_until: its provider asked to wait until then.
        slowed: its limits are slowed down by this factor for a while.
        waiting: deliveries that are queued because they wait for it.
    """

    account: str
    breaker: str | None
    failures: int | None
    open_until: datetime | None
    last_error: str | None
    paused_at: datetime | None
    paused_by: str | None
    throttled_until: datetime | None
    slowed: float | None
    waiting: int


def account_states(ledger: Runs, accounts: Sequence[str]) -> list[AccountState]:
    """Return what stands against accounts, by name."""
    return [AccountState(*row) for row in ledger.run("account_states", {"accounts": list(accounts)})]


def pauses(ledger: Runs) -> list[Pause]:
    """Return all that is paused."""
    rows = ledger.run("pauses")
    return [Pause(row.account, row.tenant_id, row.stream, row.paused_at, row.actor) for row in rows]


def unpaused(known: Sequence[Pause], lanes: Iterable[Lane]) -> Iterator[Lane]:
    """Yield the lanes that none of these pauses covers, in their order."""
    ours = [pause for pause in known if pause.tenant]
    return (lane for lane in lanes if not any(pause.covers(lane) for pause in ours))


def pause_account(ledger: Runs, account: str, actor: str) -> bool:
    """Let no worker call an account; return whether it was not paused yet.

    Its mail goes to the next account of its route, or waits. No attempt is counted.
    """
    return _change(ledger, "pause", "accounts.pause", actor, account=account)


def resume_account(ledger: Runs, account: str, actor: str) -> bool:
    """Let an account be called again, and mail go that waited for one; return whether it was paused."""
    ended = _change(ledger, "unpause", "accounts.resume", actor, account=account)
    wake(ledger)
    return ended


def pause_lanes(ledger: Runs, tenant: str, stream: Stream | None, actor: str) -> bool:
    """Let no worker claim a tenant's mail, or one stream of it; return whether it was not paused yet."""
    return _change(ledger, "pause", "lanes.pause", actor, tenant=tenant, stream=stream or "")


def resume_lanes(ledger: Runs, tenant: str, stream: Stream | None, actor: str) -> bool:
    """Let a tenant's mail go again; return whether it was paused.

    The time that the pause has lasted makes no mail too old.

    Args:
        ledger: runs the statements.
        tenant: whose mail.
        stream: one of its streams; None for the pause of all of them.
        actor: who resumes it.
    """
    found = [pause for pause in pauses(ledger) if (pause.tenant, pause.stream) == (tenant, stream or "")]
    for pause in found:
        # before it ends: whoever dies in between finds it paused still
        params = {"tenant": tenant, "stream": pause.stream, "since": pause.since, "until": clock.now()}
        ledger.run("keep_paused_age", params)
    return _change(ledger, "unpause", "lanes.resume", actor, tenant=tenant, stream=stream or "")


def _change(
    ledger: Runs, statement: str, action: str, actor: str, *, account: str = "", tenant: str = "", stream: str = ""
) -> bool:
    subject = {name: value for name, value in (("account", account), ("stream", stream)) if value}
    params = {**Actor(actor, subject).params(), "audit_id": str(uuid7())}
    rows = ledger.run(
        statement, {**params, "action": action, "account": account, "tenant": tenant, "stream": str(stream)}
    )
    return bool(rows)
