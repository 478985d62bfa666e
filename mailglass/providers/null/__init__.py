"""The null room: accepts everything and sends nothing."""

from mailglass.providers.null.options import NullOptions
from mailglass.providers.null.provider import NullProvider

__all__ = ["NullOptions", "NullProvider"]
