"""The project's schedule: which task is rung how often."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mailglass.doorbell import POLL, PUMP, RECONCILE, WEBHOOKS

SCHEDULE: dict[str, dict[str, Any]] = {
    "pump": {"task": PUMP, "schedule": timedelta(seconds=1)},
    "webhooks": {"task": WEBHOOKS, "schedule": timedelta(seconds=15)},
    "poll": {"task": POLL, "schedule": timedelta(seconds=10)},
    "reconcile": {"task": RECONCILE, "schedule": timedelta(seconds=30)},
}
