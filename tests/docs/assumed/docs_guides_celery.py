"""Taken for granted: an order, and the application's package, whose worker the page starts."""

from pathlib import Path
from typing import Any

APP = """
from celery import Celery
from mailglass.integrations.celery import embed_worker

app = Celery("shop", broker="memory://")
embed_worker(app)
"""
if Path("shop").is_dir():
    Path("shop/celery.py").write_text(APP, encoding="utf-8")


class Order:
    """An order of somebody."""

    email = "ada@example.com"
    reachable = True

    def mark_unreachable(self) -> None:
        """Note that mail does not reach the customer."""
        self.reachable = False


order = Order()


def load_order(order_id: int) -> Order:
    """Return the only order."""
    return order


def check(page: dict[str, Any]) -> None:
    """Expect one mail of two runs of a task, and an order whose customer is suppressed to be marked."""
    from mailglass.ledger import deliveries
    from mailglass.ledger.suppressions import Suppression, suppress
    from mailglass.runtime import get_runtime

    database = get_runtime().database
    for _ in range(2):
        page["confirm"](1001)
    assert sum(sum(found.values()) for found in deliveries.counts(database).values()) == 1
    suppress(database, [Suppression("default", "gone@example.com", "hard_bounce", "webhook")])
    order.email = "gone@example.com"
    page["confirm"](1002)
    assert not page["order"].reachable
    assert [option.name for option in page["app"].user_options["worker"]] == ["mailglass"]
