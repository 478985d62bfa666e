"""Postmark."""

from mailglass.providers.postmark.provider import PostmarkOptions, PostmarkProvider

__all__ = ["PostmarkOptions", "PostmarkProvider"]
