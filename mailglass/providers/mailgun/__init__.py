"""The Mailgun room: one form per mail, webhooks with their proof in the body, three suppression lists per domain."""

from mailglass.providers.mailgun.options import MailgunOptions
from mailglass.providers.mailgun.provider import MailgunProvider

__all__ = ["MailgunOptions", "MailgunProvider"]
