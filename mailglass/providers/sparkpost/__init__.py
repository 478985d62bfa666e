"""The SparkPost room: a transmission per mail, webhooks that prove themselves by credentials, a suppression list."""

from mailglass.providers.sparkpost.options import SparkPostOptions
from mailglass.providers.sparkpost.provider import SparkPostProvider

__all__ = ["SparkPostOptions", "SparkPostProvider"]
