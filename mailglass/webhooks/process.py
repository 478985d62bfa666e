"""Processing of stored webhooks in batches: normalise, match, append, project, suppress.

If the process dies before `finish`, the lease expires and another worker processes the batch again, which changes
nothing that is done already. After `finish` the batch is done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from mailglass import clock, telemetry
from mailglass.errors import ConfigError, ProviderCallError, WebhookBodyError, failure
from mailglass.ledger import webhooks
from mailglass.ledger.database import Database
from mailglass.ledger.low_water import LowWater
from mailglass.ledger.webhooks import IncomingEvent, StoredWebhook, WebhookClaim, WebhookResult, WebhookStatus
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts
from mailglass.settings import Settings
from mailglass.webhooks.applying import Applied, apply, link, retryable_ledger_errors
from mailglass.webhooks.incoming_events import incoming_event

LEASE = 60.0
# parsed, a body takes some ten times its size in memory, and a slot is taken for a fifth of a second
MAX_BYTES = 512 * 1024
RETRY_AFTER = 60.0


@dataclass(slots=True)
class WebhookReport:
    """Counts of one batch of webhooks.

    Attributes:
        claimed: webhooks claimed.
        more: whether other webhooks were waiting at that moment.
        events: events in the webhooks.
        matched: new events with a known delivery.
        duplicates: events that the ledger had already.
        orphans: events that wait for their delivery.
        unmatched: events that name no delivery at all.
        settled: deliveries that evidence settled as sent.
        suppressed: suppressions written.
        dead: webhooks that cannot be read, or not in full.
    """

    claimed: int = 0
    more: bool = False
    events: int = 0
    matched: int = 0
    duplicates: int = 0
    orphans: int = 0
    unmatched: int = 0
    settled: int = 0
    suppressed: int = 0
    dead: int = 0


@dataclass(slots=True)
class _Reading:
    """One webhook with its events, and with the reason if they are incomplete."""

    webhook: StoredWebhook
    events: list[IncomingEvent]
    status: WebhookStatus = WebhookStatus.PROCESSED
    reason: str | None = None


def run(
    settings: Settings,
    database: Database,
    accounts: Accounts,
    *,
    after_claim: Callable[[bool], None],
    mark: LowWater[UUID] | None = None,
    max_bytes: int = MAX_BYTES,
) -> WebhookReport:
    """Process one batch of stored webhooks.

    Args:
        settings: of the worker.
        database: the ledger.
        accounts: normalise their webhooks.
        after_claim: called after the claim, with whether more webhooks are waiting: the moment to ring again.
        mark: how far this process's claims have come; None to start at the beginning.
        max_bytes: bodies claimed at once at the most, unless the first one is larger.

    Returns:
        The counts of the batch.

    Raises:
        LedgerUnavailableError: the database cannot be reached, or refuses to write; the batch is processed later.
    """
    started = clock.monotonic()
    with retryable_ledger_errors():
        claim = webhooks.claim(database, settings.webhooks.batch_size, max_bytes, LEASE, mark)
        after_claim(claim.more)
        report = _work(settings, database, accounts, claim)
    if report.claimed:
        telemetry.emit(
            "mailglass.webhooks.batch",
            claimed=report.claimed,
            events=report.events,
            matched=report.matched,
            duplicates=report.duplicates,
            orphans=report.orphans,
            settled=report.settled,
            suppressed=report.suppressed,
            dead=report.dead,
            duration_ms=round((clock.monotonic() - started) * 1000),
        )
    return report


def waiting(database: Database, mark: LowWater[UUID] | None = None) -> bool:
    """Return whether stored webhooks wait to be processed.

    Args:
        database: the ledger.
        mark: how far this process's looks have come; None to start at the beginning.
    """
    return webhooks.waiting(database, mark)


def _work(settings: Settings, database: Database, accounts: Accounts, claim: WebhookClaim) -> WebhookReport:
    readings = [_read(webhook, settings, accounts) for webhook in claim.webhooks]
    applied = apply(database, (event for reading in readings for event in reading.events))
    orphans = _keep_orphans(database, applied)
    for reading in readings:
        _conclude(reading, applied, orphans)
    webhooks.finish(
        database,
        [WebhookResult(reading.webhook.id, reading.status, reading.reason) for reading in readings],
        RETRY_AFTER,
    )
    events = sum(len(reading.events) for reading in readings)
    dead = [reading for reading in readings if reading.status is WebhookStatus.DEAD]
    for reading in dead:
        _report_dead(reading)
    unlinked = len(applied.unlinked)
    return WebhookReport(
        claimed=len(readings),
        more=claim.more,
        events=events,
        matched=applied.appended,
        duplicates=events - applied.appended - unlinked - len(applied.refused),
        orphans=len(orphans),
        unmatched=sum(not event.linkable for event in applied.unlinked),
        settled=applied.settled,
        suppressed=applied.suppressed,
        dead=len(dead),
    )


def _read(webhook: StoredWebhook, settings: Settings, accounts: Accounts) -> _Reading:
    """Read a webhook by its account's provider; an error of the provider concerns this webhook alone."""
    if webhook.attempts > settings.webhooks.max_attempts:
        return _dead(webhook, "too_many_attempts")
    if webhook.body is None:
        return _dead(webhook, "body_removed")
    try:
        accounts.settings(webhook.account)
    except ConfigError:
        return _unknown_here(webhook, "unknown_account", settings)
    try:
        provider = accounts.open(webhook.account)
    except ConfigError:
        return _unknown_here(webhook, "account_misconfigured", settings)
    if provider.name != webhook.provider:
        return _unknown_here(webhook, "account_changed_provider", settings)
    return _normalise(webhook, webhook.body, provider, settings)


def _unknown_here(webhook: StoredWebhook, reason: str, settings: Settings) -> _Reading:
    """Leave a webhook to workers with other settings, or to this one after a reload, until its last attempt."""
    if webhook.attempts >= settings.webhooks.max_attempts:
        return _dead(webhook, reason)
    return _Reading(webhook, [], WebhookStatus.RECEIVED, reason)


def _normalise(webhook: StoredWebhook, body: bytes, provider: Provider, settings: Settings) -> _Reading:
    try:
        provider.on_webhook(body, webhook.headers)
        events = list(provider.normalise(body, webhook.headers))
    except WebhookBodyError:
        return _dead(webhook, "body_not_understood")
    except ProviderCallError as error:
        # until its last attempt the webhook waits
        if error.retryable and webhook.attempts < settings.webhooks.max_attempts:
            return _Reading(webhook, [], WebhookStatus.RECEIVED, "provider_call_failed")
        return _dead(webhook, "provider_call_failed")
    except BaseException as error:
        return _dead(webhook, f"normaliser_failed:{failure(error)}")
    reading = _Reading(webhook, [])
    for event in events:
        try:
            reading.events.append(incoming_event(event, webhook, settings.recipients))
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            reading.status = WebhookStatus.DEAD
            reading.reason = f"event_refused:{type(error).__name__}"
    return reading


def _keep_orphans(database: Database, applied: Applied) -> set[UUID]:
    """Keep events of unknown deliveries, then link once more: a delivery may have become known meanwhile."""
    linkable = [event for event in applied.unlinked if event.linkable]
    if not linkable:
        return set()
    webhooks.keep_orphans(database, linkable)
    again = link(database, linkable)
    applied.unlinked = [event for event in applied.unlinked if not event.linkable]
    applied.add(again)
    return {event.id for event in again.unlinked}


def _conclude(reading: _Reading, applied: Applied, orphans: set[UUID]) -> None:
    if reading.status is not WebhookStatus.PROCESSED:
        return
    refused = [applied.refused[event.id] for event in reading.events if event.id in applied.refused]
    if refused:
        reading.status, reading.reason = WebhookStatus.DEAD, f"event_refused:{refused[0]}"
    elif any(not event.linkable for event in reading.events):
        reading.reason = "unmatched"
    elif any(event.id in orphans for event in reading.events):
        reading.reason = "orphaned"


def _dead(webhook: StoredWebhook, reason: str) -> _Reading:
    return _Reading(webhook, [], WebhookStatus.DEAD, reason)


def _report_dead(reading: _Reading) -> None:
    telemetry.emit(
        "mailglass.webhook.dead",
        level=logging.ERROR,
        webhook_id=reading.webhook.id,
        account=reading.webhook.account,
        provider=reading.webhook.provider,
        attempt=reading.webhook.attempts,
        reason=reading.reason,
    )
