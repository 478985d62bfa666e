"""The Mailjet room: batches whose every item has a verdict of its own, webhooks proved by HTTP Basic credentials."""

from mailglass.providers.mailjet.options import MailjetOptions
from mailglass.providers.mailjet.provider import MailjetProvider

__all__ = ["MailjetOptions", "MailjetProvider"]
