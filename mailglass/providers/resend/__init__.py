"""The Resend room: a key per mail makes every attempt repeatable, webhooks by Standard Webhooks, a suppression list."""

from mailglass.providers.resend.options import ResendOptions
from mailglass.providers.resend.provider import ResendProvider

__all__ = ["ResendOptions", "ResendProvider"]
