"""Linking of orphans: events that came before their delivery was known."""

from __future__ import annotations

import logging

from mailglass import clock, telemetry
from mailglass.ledger import webhooks
from mailglass.ledger.database import Database
from mailglass.webhooks.applying import link, retryable_ledger_errors

PAGE = 500
BUDGET = 20.0


def run(database: Database) -> bool:
    """Link orphans whose delivery has become known, page by page.

    Returns:
        Whether time ran out before the last page.

    Raises:
        LedgerUnavailableError: the database cannot be reached, or refuses to write; finished pages stand.
    """
    deadline = clock.monotonic() + BUDGET
    after, linked, refused, more = webhooks.FIRST_ID, 0, 0, True
    while more and clock.monotonic() < deadline:
        with retryable_ledger_errors():
            orphans = webhooks.linkable_orphans(database, after, PAGE)
            result = link(database, orphans)
        more = len(orphans) == PAGE
        after = orphans[-1].id if orphans else after
        linked += len(result.linked)
        refused += len(result.refused)
    if linked or refused:
        telemetry.emit(
            "mailglass.webhooks.reconcile",
            level=logging.ERROR if refused else logging.INFO,
            linked=linked,
            dead=refused,
        )
    return more
