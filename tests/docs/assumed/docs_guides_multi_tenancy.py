"""Nothing is taken for granted."""

from typing import Any


def check(page: dict[str, Any]) -> None:
    """Expect the hook's answers to be routes that the settings know."""
    from mailglass.routing import Mode, RouteContext, Router
    from mailglass.settings import get_settings

    router = Router(get_settings(), page["ShopTenancy"]())
    now = RouteContext("acme", "transactional", mode=Mode.NOW)
    assert router.resolve(now).accounts == ("acme-postmark",)
    newsletter = RouteContext("globex", "bulk", mailable="shop.mails:Newsletter")
    assert router.resolve(newsletter).queue == "mailglass.bulk"
