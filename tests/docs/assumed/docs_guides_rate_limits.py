"""Taken for granted: the plans of an application."""

from typing import Any


class Plans:
    """Plans of an application."""

    def is_free(self, tenant: str) -> bool:
        """Return whether a tenant pays nothing."""
        return tenant == "acme"


plans = Plans()


def check(page: dict[str, Any]) -> None:
    """Expect the limits of a free plan."""
    from mailglass.routing import LimitContext

    assert len(page["ShopTenancy"]().resolve_limits(LimitContext("acme", "bulk", "example.com"))) == 2
