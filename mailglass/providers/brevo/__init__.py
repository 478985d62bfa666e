"""The Brevo room: one mail per request under a key that holds for minutes, unsigned webhooks, a list of the blocked."""

from mailglass.providers.brevo.options import BrevoOptions
from mailglass.providers.brevo.provider import BrevoProvider

__all__ = ["BrevoOptions", "BrevoProvider"]
