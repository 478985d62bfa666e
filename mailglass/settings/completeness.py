"""Completeness of the settings: enough to send mail, and nothing misspelt."""

from __future__ import annotations

from mailglass.settings.loading import Settings


def settings_problems(settings: Settings) -> list[str]:
    """Return the reasons why a worker with these settings would send nothing, or not what was meant."""
    file = settings.source or "no settings file was read: set MAILGLASS_CONFIG"
    problems = [str(variable) for variable in settings.unknown_variables]
    if not settings.accounts and settings.tenancy is None:
        problems.append(f"There is no account, so nothing can be sent ({file}): add [accounts.NAME].")
    if not settings.routes and settings.tenancy is None:
        problems.append(f"There is no route, so nothing can be sent ({file}): add [[routes]].")
    if not settings.database_url.reveal():
        problems.append("There is no database: set MAILGLASS_DATABASE_URL.")
    return problems


def describe_recipients(settings: Settings) -> str:
    """Return whom mail goes to in this environment, as a sentence for operators."""
    return "mail goes to everybody" if settings.recipients is None else settings.recipients.describe()
