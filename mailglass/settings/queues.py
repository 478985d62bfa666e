"""Queues beside those of routes: the list `queues`, for code that routes, and `[tasks]`, for tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mailglass.settings.problems import Problems
from mailglass.settings.routes import QUEUE
from mailglass.settings.values import strings

# by the names that are known to Celery; a lane's dispatch waits where its route says
TASKS: Final = (
    "mailglass.pump",
    "mailglass.settle",
    "mailglass.webhooks.process",
    "mailglass.webhooks.reconcile",
    "mailglass.webhooks.poll",
    "mailglass.suppressions.sync",
    "mailglass.limits.learn_rates",
    "mailglass.domains.check",
    "mailglass.retention",
)
_QUEUE_REMEDY: Final = "Use mailglass, or mailglass.<name>"


def parse_queues(value: object, problems: Problems) -> tuple[str, ...]:
    """Queues that no route names, for routes that the application resolves by code."""
    names = strings("queues", value, problems)
    _check("queues", names, problems)
    return names


def parse_tasks(value: object, problems: Problems) -> dict[str, str]:
    """Return the queue of each task that has one of its own.

    Args:
        value: what stands under `tasks`: a table of queues by the tasks' names.
        problems: where what is wrong is noted.
    """
    if not isinstance(value, dict):
        problems.add(
            "tasks", "wrong type", 'Write a table: [tasks], with lines such as "mailglass.pump" = "mailglass.x"'
        )
        return {}
    for name, queue in value.items():
        if name == "mailglass.dispatch":
            problems.add(f"tasks.{name}", "waits where its lane does", "Give the route a queue instead")
        elif name not in TASKS:
            problems.add(f"tasks.{name}", "unknown task", f"Known are: {', '.join(TASKS)}; write them in quotes")
        else:
            _check(f"tasks.{name}", [queue], problems)
    return {str(name): str(queue) for name, queue in value.items()}


def _check(key: str, names: Iterable[object], problems: Problems) -> None:
    if not all(isinstance(name, str) and QUEUE.match(name) for name in names):
        problems.add(key, "not a queue name", _QUEUE_REMEDY)
