"""The Mandrill room (Mailchimp Transactional): the key in every body, an answer per recipient, signed form posts."""

from mailglass.providers.mandrill.options import MandrillOptions
from mailglass.providers.mandrill.provider import MandrillProvider

__all__ = ["MandrillOptions", "MandrillProvider"]
