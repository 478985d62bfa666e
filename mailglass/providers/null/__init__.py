"""Null: sends nothing."""

from mailglass.providers.null.provider import NullProvider

__all__ = ["NullProvider"]
