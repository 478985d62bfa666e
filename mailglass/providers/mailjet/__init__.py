"""Mailjet."""

from mailglass.providers.mailjet.provider import MailjetOptions, MailjetProvider

__all__ = ["MailjetOptions", "MailjetProvider"]
