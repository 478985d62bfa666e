"""Nothing is taken for granted."""

from typing import Any


def check(page: dict[str, Any]) -> None:
    """Expect the subscriber to count."""
    from mailglass import telemetry

    telemetry.emit("mailglass.dispatch.batch", lane="mailglass/acme/bulk", sent=3)
    page["unsubscribe"]()
    assert page["sent"]["mailglass/acme/bulk"] == 3
