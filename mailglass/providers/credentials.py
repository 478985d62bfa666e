"""Secrets of an opened account: its own credentials, and those of its webhooks."""

from __future__ import annotations

from dataclasses import is_dataclass

from mailglass.providers.base import Provider
from mailglass.settings import Secret, secret_options


def credentials_of(provider: Provider) -> Secret | None:
    """Return the account's own credentials as one value, such as a key with its secret; None if it has none."""
    if not is_dataclass(provider.options):
        return None
    found = [getattr(provider.options, name) for name in secret_options(type(provider.options))]
    values = [secret.reveal() for secret in found if secret is not None]
    return Secret("\0".join(values)) if values else None


def webhook_secrets_of(provider: Provider) -> list[Secret]:
    """Return the secrets that prove the account's webhooks, in the order in which they are tried."""
    listed = (getattr(provider.options, name, ()) for name in provider.webhook_secrets)
    return [item if isinstance(item, Secret) else Secret(item) for items in listed for item in items]
