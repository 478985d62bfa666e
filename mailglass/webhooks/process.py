"""Understand stored webhooks: normalise, match, append, project, suppress, a batch at a time.

Where the process may die, and what follows: before `finish`, the lease expires and the batch is worked through again,
which changes nothing that is done already; after it, the batch is done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from mailglass import clock, telemetry
from mailglass.errors import ConfigError, ProviderCallError, WebhookBodyError
from mailglass.ledger import webhooks
from mailglass.ledger.database import Database
from mailglass.ledger.low_water import LowWater
from mailglass.ledger.webhooks import Ending, Fact, StoredWebhook, WebhookClaim, WebhookStatus
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts
from mailglass.settings import Settings
from mailglass.webhooks.applying import Applied, apply, link, quoting_nothing
from mailglass.webhooks.facts import fact_of

LEASE = 60.0
# parsed, a body takes some ten times its size in memory
MAX_BYTES = 4 * 1024 * 1024
RETRY_AFTER = 60.0


@dataclass(slots=True)
class Report:
    """What one batch came to.

    Attributes:
        claimed: webhooks taken.
        more: whether others were waiting at that moment.
        events: events in them.
        matched: events that were new and whose delivery is known.
        duplicates: events that were there already.
        orphans: events that wait for their delivery.
        unmatched: events that name no delivery at all.
        settled: deliveries that evidence settled as sent.
        suppressed: entries written.
        dead: webhooks that cannot be understood, or not in full.
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
    """One webhook as far as it was understood: its facts, or why there are none, or why not all."""

    webhook: StoredWebhook
    facts: list[Fact]
    status: WebhookStatus = WebhookStatus.PROCESSED
    reason: str | None = None


def run(
    settings: Settings,
    database: Database,
    accounts: Accounts,
    *,
    after_claim: Callable[[bool], None],
    mark: LowWater[UUID] | None = None,
) -> Report:
    """Claim one batch of stored webhooks and bring what they say into the ledger.

    Args:
        after_claim: called with whether more are waiting, before anything is read: the moment to ring again.
        mark: how far this process's claims have come; None to start at the beginning.

    Raises:
        LedgerUnavailableError: the database cannot be reached, or refuses to write; the batch is tried again later.
    """
    started = clock.monotonic()
    with quoting_nothing():
        claim = webhooks.claim(database, settings.webhooks.batch_size, MAX_BYTES, LEASE, mark)
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


def _work(settings: Settings, database: Database, accounts: Accounts, claim: WebhookClaim) -> Report:
    readings = [_read(webhook, settings, accounts) for webhook in claim.webhooks]
    applied = apply(database, (fact for reading in readings for fact in reading.facts))
    orphans = _keep_orphans(database, applied)
    for reading in readings:
        _conclude(reading, applied, orphans)
    webhooks.finish(
        database,
        [Ending(reading.webhook.id, reading.status, reading.reason) for reading in readings],
        RETRY_AFTER,
    )
    events = sum(len(reading.facts) for reading in readings)
    dead = [reading for reading in readings if reading.status is WebhookStatus.DEAD]
    for reading in dead:
        _report_dead(reading)
    unlinked = len(applied.unlinked)
    return Report(
        claimed=len(readings),
        more=claim.more,
        events=events,
        matched=applied.appended,
        duplicates=events - applied.appended - unlinked - len(applied.refused),
        orphans=len(orphans),
        unmatched=sum(not fact.linkable for fact in applied.unlinked),
        settled=applied.settled,
        suppressed=applied.suppressed,
        dead=len(dead),
    )


def _read(webhook: StoredWebhook, settings: Settings, accounts: Accounts) -> _Reading:
    """What the account's provider makes of a webhook; whatever escapes it concerns this webhook alone."""
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
    return _normalise(webhook, webhook.body, provider, settings.webhooks.max_attempts)


def _unknown_here(webhook: StoredWebhook, reason: str, settings: Settings) -> _Reading:
    """Return what this worker's settings do not fit: others, or this one later, may have a newer file or a secret."""
    if webhook.attempts >= settings.webhooks.max_attempts:
        return _dead(webhook, reason)
    return _Reading(webhook, [], WebhookStatus.RECEIVED, reason)


def _normalise(webhook: StoredWebhook, body: bytes, provider: Provider, max_attempts: int) -> _Reading:
    try:
        provider.on_webhook(body, webhook.headers)
        events = list(provider.normalise(body, webhook.headers))
    except WebhookBodyError:
        return _dead(webhook, "body_not_understood")
    except ProviderCallError as error:
        # the last attempt says so; until then the webhook waits
        if error.retryable and webhook.attempts < max_attempts:
            return _Reading(webhook, [], WebhookStatus.RECEIVED, "provider_call_failed")
        return _dead(webhook, "provider_call_failed")
    except Exception as error:
        return _dead(webhook, f"normaliser_failed:{type(error).__name__}")
    reading = _Reading(webhook, [])
    for event in events:
        try:
            reading.facts.append(fact_of(event, webhook))
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            reading.status = WebhookStatus.DEAD
            reading.reason = f"event_refused:{type(error).__name__}"
    return reading


def _keep_orphans(database: Database, applied: Applied) -> set[UUID]:
    """Keep what names a delivery that is not known, and look once more: it may have become known meanwhile."""
    linkable = [fact for fact in applied.unlinked if fact.linkable]
    if not linkable:
        return set()
    webhooks.keep_orphans(database, linkable)
    again = link(database, linkable)
    applied.unlinked = [fact for fact in applied.unlinked if not fact.linkable]
    applied.add(again)
    return {fact.id for fact in again.unlinked}


def _conclude(reading: _Reading, applied: Applied, orphans: set[UUID]) -> None:
    if reading.status is not WebhookStatus.PROCESSED:
        return
    refused = [applied.refused[fact.id] for fact in reading.facts if fact.id in applied.refused]
    if refused:
        reading.status, reading.reason = WebhookStatus.DEAD, f"event_refused:{refused[0]}"
    elif any(not fact.linkable for fact in reading.facts):
        reading.reason = "unmatched"
    elif any(fact.id in orphans for fact in reading.facts):
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
