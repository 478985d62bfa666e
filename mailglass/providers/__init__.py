"""The provider rooms, and how an account's name becomes an open provider."""

from __future__ import annotations

from mailglass.providers.registry import Accounts, provider_class

__all__ = ["Accounts", "provider_class"]
