"""System checks: `manage.py check`, and `manage.py check --database default` for what asks the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Info, Warning

from mailglass.errors import ConfigError, LedgerUnavailableError, MailglassError, SchemaError
from mailglass.settings import load_settings

BACKEND: Final = "mailglass.integrations.django.EmailBackend"
# a project that has chosen one of these for development or tests has not forgotten the backend
_FORGOTTEN: Final = "django.core.mail.backends.smtp.EmailBackend"


def settings_are_valid(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Check `MAILGLASS` or the settings file as a worker would, unknown keys and accounts included.

    It warns, because `migrate` runs the checks too and must not need what only workers need.
    """
    try:
        read = load_settings()
    except ConfigError as error:
        hint = "Correct it in MAILGLASS of your settings, in mailglass.toml or in the environment."
        return [Warning(str(error), hint=hint, id="mailglass.W006")]
    found: list[CheckMessage] = [Warning(str(variable), id="mailglass.W001") for variable in read.unknown_variables]
    if read.django is not None and Path("mailglass.toml").exists():
        text = "mailglass.toml is not read, because your settings set MAILGLASS."
        found.append(Warning(text, hint="Delete one of the two.", id="mailglass.W002"))
    return found


def mail_goes_through_mailglass(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Hint at an e-mail backend that was never set: `send_mail` would look for an SMTP server on this machine."""
    mailers = getattr(settings, "MAILERS", None)
    if mailers is None:
        backends = [settings.EMAIL_BACKEND]
        remedy = f'Set EMAIL_BACKEND = "{BACKEND}".'
    else:
        backends = [mailer.get("BACKEND", _FORGOTTEN) for mailer in mailers.values()]
        remedy = f'Set MAILERS = {{"default": {{"BACKEND": "{BACKEND}"}}}}.'
    if BACKEND in backends or _FORGOTTEN not in backends:
        return []
    return [Info("send_mail does not go through mailglass.", hint=remedy, id="mailglass.I001")]


def ledger_is_ready(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Check that the ledger can be reached and has the schema that this version needs.

    Django runs it with `check --database` and before `migrate`, which must not fail for the lack of it.
    """
    if not databases:
        return []
    from mailglass.ledger import schema

    upgrade = "Run `python manage.py mailglass db upgrade`."
    try:
        schema.check(load_settings().require_database())
        return _joins()
    except SchemaError as error:
        return [Warning(str(error), hint=upgrade, id="mailglass.W003")]
    except LedgerUnavailableError as error:
        return [Warning(str(error), hint="Start the database, or correct its address.", id="mailglass.W004")]
    except MailglassError as error:
        return [Warning(str(error), id="mailglass.W005")]


def _joins() -> list[CheckMessage]:
    """Tell if the ledger is elsewhere than Django's database."""
    from mailglass.integrations.django.transactions import joined, ledger_alias

    alias = ledger_alias()
    if joined(alias) is not None:
        return []
    text = f"The ledger is not in the database {alias!r}: send_mail records mails after the commit, and may lose one."
    hint = 'Give MAILGLASS["database"] if another database of DATABASES holds it.'
    return [Info(text, hint=hint, id="mailglass.I002")]
