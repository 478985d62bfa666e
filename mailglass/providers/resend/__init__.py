"""The Resend room: a key per mail makes every attempt repeatable, webhooks by Standard Webhooks, a suppression list."""

from mailglass.providers.resend.sending import ResendOptions, ResendProvider

__all__ = ["ResendOptions", "ResendProvider"]
