"""Checks of the settings alone, and of the accounts that they name."""

from __future__ import annotations

from collections.abc import Iterator

from mailglass.errors import ProviderCallError
from mailglass.preflight.findings import Finding, failed, passed, unchecked, warned
from mailglass.preflight.secrets import check_secrets
from mailglass.preflight.surroundings import Surroundings
from mailglass.providers.registry import Accounts
from mailglass.settings.completeness import describe_recipients, settings_problems
from mailglass.settings.environments import PRODUCTION


def settings_are_whole(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that there are accounts, routes and servers, and that no variable is misspelt."""
    settings = surroundings.settings
    problems = settings_problems(settings)
    if not settings.broker_url.reveal():
        problems.append("There is no broker: set MAILGLASS_BROKER_URL.")
    for problem in problems:
        yield failed("settings", problem, "`mailglass config check` shows the settings as they are read")
    if not problems:
        accounts, routes = len(settings.accounts), len(settings.routes)
        yield passed("settings", f"{settings.source or 'the environment'}: {accounts} accounts, {routes} routes")


def recipients_are_told(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell whom mail goes to; warn where production keeps it from somebody."""
    settings = surroundings.settings
    told = f"{settings.environment or 'no environment is named'}: {describe_recipients(settings)}"
    if settings.recipients is not None and settings.environment == PRODUCTION:
        yield warned("recipients", told, "Remove allow and redirect_to in production, unless you mean them")
    else:
        yield passed("recipients", told)


def logging_is_for_production(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that neither debug logging nor the display of contents is on."""
    settings = surroundings.settings
    if settings.log_level == "debug":
        yield warned("logging", "the log level is debug", 'Set log_level = "info"')
    else:
        yield passed("logging", f"level {settings.log_level}, format {settings.log_format}")
    if settings.show_content:
        yield warned(
            "content",
            "operators may read what mails say (show_content)",
            "Set show_content = false unless your operators need it",
        )


def accounts_open(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that every account has its secrets in the right form; online, that its provider accepts them."""
    accounts = Accounts(surroundings.settings)
    try:
        for name in accounts.names():
            yield from _account(accounts, name, surroundings.online)
    finally:
        accounts.close()


def _account(accounts: Accounts, name: str, online: bool) -> Iterator[Finding]:
    checked = check_secrets(accounts, name)
    provider = checked.opened
    if provider is None:
        yield from checked.findings
        return
    check, said = f"accounts.{name}", f"{provider.name}: options and secrets are in order"
    if not online:
        yield passed(check, f"{said}, the provider was not asked")
        return
    try:
        asked = provider.check_credentials()
    except ProviderCallError as error:
        result = unchecked if error.retryable else failed
        yield result(check, str(error), f"Check the credentials of [accounts.{name}] at the provider")
        return
    yield passed(
        check,
        f"{said}, {'the provider accepts the credentials' if asked else 'the provider has no call that would tell'}",
    )
