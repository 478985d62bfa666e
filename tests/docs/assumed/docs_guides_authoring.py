"""Nothing is taken for granted."""

from typing import Any


def check(page: dict[str, Any]) -> None:
    """Expect every mail of the page to be sent."""
    from mailglass.ledger import deliveries
    from mailglass.runtime import get_runtime

    assert deliveries.counts(get_runtime().database) == {"default": {"sent": 5}}
