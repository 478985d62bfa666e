"""mailglass in a Django project: the webhook endpoint, the e-mail backend, transactions, templates and commands.

    INSTALLED_APPS += ["mailglass.integrations.django"]
    EMAIL_BACKEND = "mailglass.integrations.django.EmailBackend"

    urlpatterns += [path("mailglass/", include("mailglass.integrations.django.urls"))]

Needs the extra `django`: `pip install "mailglass[django]"`. Names load when first used, since Django imports this
package before its apps are ready.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailglass.integrations.django.backend import EmailBackend
    from mailglass.integrations.django.mailable import DjangoMailable
    from mailglass.integrations.django.transactions import session

__all__ = ["DjangoMailable", "EmailBackend", "session"]
_HOMES = {"DjangoMailable": "mailable", "EmailBackend": "backend", "session": "transactions"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mailglass.integrations.django' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
