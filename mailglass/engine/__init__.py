"""One batch of one lane: claim, mark, attempt, record. Knows no Celery, so a task and `deliver()` run the same code."""

from __future__ import annotations

from mailglass.engine.batch import Engine
from mailglass.engine.batch_report import BatchReport

__all__ = ["BatchReport", "Engine"]
