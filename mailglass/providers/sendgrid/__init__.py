"""SendGrid."""

from mailglass.providers.sendgrid.provider import SendGridOptions, SendGridProvider

__all__ = ["SendGridOptions", "SendGridProvider"]
