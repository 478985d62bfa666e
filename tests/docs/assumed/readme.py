"""Nothing is taken for granted."""

from typing import Any


def check(page: dict[str, Any]) -> None:
    """Expect the mail to be sent."""
    assert page["result"].state == "sent"
