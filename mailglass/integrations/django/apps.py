"""The Django app: it registers the system checks, and follows Django's test runner."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.core.signals import setting_changed
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.signals import connection_created

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
        connection_created.connect(_let_go, dispatch_uid="mailglass")


def _forget(setting: str, **_: Any) -> None:
    """Read the settings again at the next use, after `override_settings`."""
    if setting in _OURS:
        configure(None)


def _let_go(connection: Any, **_: Any) -> None:
    """Close our idle sessions where Django connects to no database, to copy or drop one for tests.

    PostgreSQL copies and drops no database that has a session.
    """
    if connection.alias == NO_DB_ALIAS:
        from mailglass.ledger.database import close_databases

        close_databases()
