"""The tasks. Their names are public, arguments hold lanes and account names, and each may run twice or get lost."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import mailglass.engine
import mailglass.limits  # noqa: F401 - both before the pool forks, so that its processes share them
from mailglass import telemetry
from mailglass.celery import app
from mailglass.doorbell import (
    BACKLOG,
    DISPATCH,
    DOMAINS,
    POLL,
    PUMP,
    RATES,
    RECONCILE,
    RETENTION,
    SETTLE,
    SUPPRESSIONS,
    WEBHOOKS,
)
from mailglass.errors import MailglassError
from mailglass.ledger import webhooks
from mailglass.limits import learn_granted_rates, prune
from mailglass.routing import Lane
from mailglass.runtime import get_runtime
from mailglass.suppressions import sync
from mailglass.webhooks import poll, process, reconcile
from mailglass_workers import pumping, slots, stopping
from mailglass_workers.webhook_share import WebhookShare

# rate limits that one statement forgets
PRUNED = 10_000
# seconds after which a ring for one account's suppression list is lost
SYNC_RING_TIMEOUT = 600.0
# seconds after which a ring for a backlog of webhooks is lost; it may wait as long as there is mail
BACKLOG_RING_TIMEOUT = 60.0

# of this process
webhook_share = WebhookShare()


def guarded(work: Callable[..., Any]) -> Callable[..., Any]:
    """Report known errors by one event: the ledger still owes the work, and the pump rings again."""

    @functools.wraps(work)
    def run(*args: Any) -> None:
        try:
            work(*args)
        except MailglassError as error:
            telemetry.emit(
                "mailglass.task.failed",
                level=logging.ERROR,
                task=work.__name__,
                error_type=type(error).__name__,
                reason=str(error),
            )

    return run


def in_slot(run: Callable[[Callable[[], None]], None]) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Run a task that calls providers without blocking its slot.

    Args:
        run: runs it in the slot: `slots.run` or a `slots.SideThreads`.
    """

    def decorate(work: Callable[..., Any]) -> Callable[..., None]:
        @functools.wraps(work)
        def task(*args: Any) -> None:
            run(lambda: work(*args))

        return task

    return decorate


@app.task(name=DISPATCH)
@in_slot(slots.run)
@guarded
def dispatch(lane: str) -> None:
    """Claim a batch of one lane, send, record.

    Args:
        lane: `queue/tenant/stream`.
    """
    runtime, claimed_lane = get_runtime(), Lane.parse(lane)
    runtime.doorbell.answer(claimed_lane)

    def ring_again(full: bool) -> None:
        webhook_share.note_mail(full)
        if full:
            runtime.doorbell.ring([claimed_lane])

    try:
        report = runtime.engine.run(claimed_lane, after_claim=ring_again, should_stop=stopping.is_set)
    finally:
        if webhook_share.take_up():
            runtime.doorbell.answer_task(WEBHOOKS)
            runtime.doorbell.ring_task(WEBHOOKS)
    if report.more:
        runtime.doorbell.ring([claimed_lane])
    if report.orphans_waiting:
        runtime.doorbell.ring_task(RECONCILE)


@app.task(name=PUMP)
@guarded
def pump() -> None:
    """Take expired leases back and ring lanes with due work, unless another worker does."""
    runtime = get_runtime()
    runtime.doorbell.answer_task(PUMP)
    pumping.take_turn(runtime, eager=True)


@app.task(name=SETTLE)
@in_slot(slots.SideThreads())
@guarded
def settle() -> None:
    """Search at the providers for uncertain deliveries, and settle those that are found."""
    runtime = get_runtime()
    more = False
    try:
        more = runtime.settler.run(runtime.doorbell.ring).more
    finally:
        # not before: it waits for providers, and must never be what all workers are busy with
        runtime.doorbell.answer_task(SETTLE)
    if more:
        runtime.doorbell.ring_task(SETTLE)


@app.task(name=WEBHOOKS)
@guarded
def process_webhooks(kind: str = "") -> None:
    """Normalise, match, append, project and suppress a batch of stored webhooks, unless mail goes first.

    A ring that is put off keeps its mark, so that webhooks that arrive meanwhile ring nobody. If this process dies
    with it, the pump rings again.

    Args:
        kind: "", or `BACKLOG` for a ring that let all others go first.
    """
    runtime = get_runtime()
    doorbell = runtime.doorbell

    def ring_backlog() -> None:
        doorbell.ring_task(WEBHOOKS, BACKLOG_RING_TIMEOUT, BACKLOG, last=True)

    if webhook_share.put_off(was_last=kind == BACKLOG):
        if kind != BACKLOG:
            ring_backlog()
        return
    doorbell.answer_task(WEBHOOKS)
    doorbell.answer_task(WEBHOOKS, BACKLOG)

    def ring_again(more: bool) -> None:
        if more:
            ring_backlog()

    with webhook_share.taken() as taken:
        report = process.run(
            runtime.settings,
            runtime.database,
            runtime.accounts,
            after_claim=ring_again,
            mark=runtime.low_water.webhooks,
            max_bytes=taken.max_bytes,
        )
        taken.more = report.more


@app.task(name=RECONCILE)
@guarded
def reconcile_webhooks() -> None:
    """Link orphans whose delivery is known by now."""
    runtime = get_runtime()
    runtime.doorbell.answer_task(RECONCILE)
    if reconcile.run(runtime.database):
        runtime.doorbell.ring_task(RECONCILE)


@app.task(name=POLL)
@in_slot(slots.SideThreads())
@guarded
def poll_webhooks() -> None:
    """Fetch webhooks from providers' queues, for accounts that have one."""
    runtime = get_runtime()
    runtime.doorbell.answer_task(POLL)
    if poll.run(runtime.settings, runtime.database, runtime.accounts, runtime.router, runtime.doorbell.ring_task):
        runtime.doorbell.ring_task(POLL)


@app.task(name=SUPPRESSIONS)
@in_slot(slots.SideThreads())
@guarded
def sync_suppressions(account: str = "") -> None:
    """Continue the synchronisation of one account's suppression list.

    Args:
        account: its name; "" rings the task for every account.
    """
    runtime = get_runtime()
    runtime.doorbell.answer_task(SUPPRESSIONS, account)
    if not account:
        for name in sync.accounts_to_sync(runtime.settings, runtime.accounts):
            runtime.doorbell.ring_task(SUPPRESSIONS, SYNC_RING_TIMEOUT, name)
    elif sync.run(runtime.settings, runtime.database, runtime.accounts, account).status is sync.SyncStatus.MORE:
        runtime.doorbell.ring_task(SUPPRESSIONS, argument=account)


@app.task(name=RATES)
@in_slot(slots.SideThreads())
@guarded
def learn_rates() -> None:
    """Request the rates that providers grant accounts, if they are due."""
    runtime = get_runtime()
    runtime.doorbell.answer_task(RATES)
    learn_granted_rates(runtime.settings.accounts, runtime.database, runtime.accounts, runtime.limiter)


@app.task(name=DOMAINS)
@in_slot(slots.SideThreads())
@guarded
def check_domains() -> None:
    """Check the DNS of sending domains that are due, a few at a time; nothing where none is watched."""
    # no mail waits for what this needs
    from mailglass.domains import watch

    runtime = get_runtime()
    runtime.doorbell.answer_task(DOMAINS)
    if watch.run(runtime.settings, runtime.database):
        runtime.doorbell.ring_task(DOMAINS)


@app.task(name=RETENTION)
@guarded
def retention() -> None:
    """Delete rate limits that were unused for days, and expired proofs of webhooks."""
    runtime = get_runtime()
    runtime.doorbell.answer_task(RETENTION)
    pruned = [prune(runtime.database, PRUNED), webhooks.prune_proofs(runtime.database, PRUNED)]
    if PRUNED in pruned:
        runtime.doorbell.ring_task(RETENTION)
