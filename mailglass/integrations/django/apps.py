"""The Django app: it registers the system checks, and follows settings that a test overrides."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.core.signals import setting_changed

from mailglass.settings import configure

_OURS = ("MAILGLASS", "DATABASES", "INSTALLED_APPS")


class MailglassConfig(AppConfig):
    """The configuration of the app `mailglass.integrations.django`."""

    name = "mailglass.integrations.django"
    label = "mailglass"
    verbose_name = "mailglass"

    def ready(self) -> None:
        """Register what Django calls later. Neither the ledger nor the broker is opened."""
        from mailglass.integrations.django import checks

        register(checks.settings_are_valid)
        register(checks.mail_goes_through_mailglass)
        register(checks.ledger_is_ready, Tags.database)
        setting_changed.connect(_forget, dispatch_uid="mailglass")


def _forget(setting: str, **_: Any) -> None:
    """Read the settings again at the next use, after `override_settings`."""
    if setting in _OURS:
        configure(None)
