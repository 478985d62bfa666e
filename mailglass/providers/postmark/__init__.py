"""The Postmark room: batches of JSON, webhooks proved by HTTP Basic credentials, a suppression list per stream."""

from mailglass.providers.postmark.options import PostmarkOptions
from mailglass.providers.postmark.provider import PostmarkProvider

__all__ = ["PostmarkOptions", "PostmarkProvider"]
