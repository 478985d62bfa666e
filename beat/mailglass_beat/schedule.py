"""The project's schedule: which task is rung how often."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mailglass.doorbell import DOMAINS, POLL, PUMP, RATES, RECONCILE, RETENTION, SUPPRESSIONS, WEBHOOKS

SCHEDULE: dict[str, dict[str, Any]] = {
    "pump": {"task": PUMP, "schedule": timedelta(seconds=1)},
    "webhooks": {"task": WEBHOOKS, "schedule": timedelta(seconds=15)},
    "poll": {"task": POLL, "schedule": timedelta(seconds=10)},
    "reconcile": {"task": RECONCILE, "schedule": timedelta(seconds=30)},
    # the ledger knows when a list was read: a beat that is started anew every few minutes must not put it off for ever
    "suppressions": {"task": SUPPRESSIONS, "schedule": timedelta(minutes=10)},
    # looks who is due; each account is asked about once an hour
    "rates": {"task": RATES, "schedule": timedelta(minutes=1)},
    # looks who is due; each domain is checked about once an hour, at moments that differ
    "domains": {"task": DOMAINS, "schedule": timedelta(minutes=5)},
    # reads all of a small table
    "retention": {"task": RETENTION, "schedule": timedelta(hours=1)},
}
