"""Limits in Redis or Valkey: one Lua script for a batch, on the server's clock."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from mailglass.limits.batch import Batch, Grant
from mailglass.limits.rate_adjustment import RateAdjustment
from mailglass.limits.rules import Rule
from mailglass.settings.redis_client import redis_client


class RedisGcra:
    """Limits under `mailglass:limit:*`, feedback under `mailglass:limit-feedback:*`; each key expires by itself.

    Args:
        url: redis://, rediss://, redis+socket:// or unix://.
    """

    def __init__(self, url: str) -> None:
        import redis

        self._redis = redis_client(url)
        self._take: Any = self._redis.register_script(_script("take"))
        self._apply_feedback: Any = self._redis.register_script(_script("apply_feedback"))
        self.errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)

    def take(self, batch: Batch, *, urgent: bool, horizon: float, seed: float, now: int | None) -> list[Grant]:
        """Take places for a batch without counts. Durations are microseconds."""
        accounts = {
            position: limit.account
            for position, limit in enumerate(batch.limits, 1)
            if isinstance(limit, Rule) and limit.account
        }
        columns = {
            "intervals": batch.intervals,
            "tolerances": batch.tolerances,
            "fulls": batch.fulls,
            "accounts": list(accounts),
            "groups": batch.groups,
            "runs": batch.runs,
        }
        answer = self._take(
            keys=[
                *(f"mailglass:limit:{limit.key}" for limit in batch.limits),
                *(f"mailglass:limit-feedback:{account}" for account in accounts.values()),
            ],
            args=[json.dumps(columns), int(urgent), horizon, seed, "" if now is None else now],
        )
        return batch.grants(*([int(figure) for figure in column.split()] for column in answer))

    def apply_feedback(self, account: str, adjustment: RateAdjustment, *, now: int | None) -> None:
        """Adjust an account's rate as its provider asks."""
        self._apply_feedback(
            keys=[f"mailglass:limit-feedback:{account}"],
            args=[
                adjustment.pause,
                adjustment.factor,
                adjustment.lasting,
                adjustment.rate,
                adjustment.rate_lasting,
                "" if now is None else now,
            ],
        )


def _script(name: str) -> str:
    return files("mailglass.limits").joinpath(f"{name}.lua").read_text(encoding="utf-8")
