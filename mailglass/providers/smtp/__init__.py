"""The SMTP room: an own client with PIPELINING and exact answers to what was sent and what was not."""

from mailglass.providers.smtp.options import SMTPOptions
from mailglass.providers.smtp.provider import SMTPProvider

__all__ = ["SMTPOptions", "SMTPProvider"]
