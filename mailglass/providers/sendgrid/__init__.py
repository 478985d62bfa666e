"""The SendGrid room: one mail per request, webhooks signed with ECDSA, several lists of suppressions."""

from mailglass.providers.sendgrid.options import SendGridOptions
from mailglass.providers.sendgrid.provider import SendGridProvider

__all__ = ["SendGridOptions", "SendGridProvider"]
