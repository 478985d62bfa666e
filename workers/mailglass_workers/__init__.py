"""Parts of a Celery worker: thin tasks over mailglass, bootsteps, signals. The worker loads them by name."""

from __future__ import annotations

from mailglass_workers import bootsteps, bulkheads, control, signals, tasks

__all__ = ["bootsteps", "bulkheads", "control", "signals", "tasks"]
