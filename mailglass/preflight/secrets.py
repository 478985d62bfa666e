"""Check of accounts' secrets: present, of the right form, read again without a restart, and still used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from mailglass import clock
from mailglass.errors import AccountUnavailableError, ConfigError
from mailglass.ledger import secret_uses
from mailglass.ledger.database import Runs
from mailglass.ledger.secret_uses import SecretUse, fingerprint
from mailglass.preflight.findings import Finding, Status, failed, passed, warned
from mailglass.providers.base import Provider
from mailglass.providers.credentials import credentials_of
from mailglass.providers.registry import Accounts, provider_class
from mailglass.settings import AccountSettings, Secret, given_secret, resolve_secret, secret_options, secret_references
from mailglass.settings.problems import Problems

DAYS: Final = 7
"""Days without use after which an old secret is a warning."""

UseOf = Callable[[str], SecretUse | None]


class Source(StrEnum):
    """Place of a secret.

    file: a file, which every process reads again within ten seconds of its change.
    env: an environment variable, which a process reads once.
    settings: a public key that stands in the settings, which a process reads once.
    application: the application, which is asked again after seconds (`Tenancy.resolve_account`).
    """

    FILE = "file"
    ENV = "env"
    SETTINGS = "settings"
    APPLICATION = "application"


class Purpose(StrEnum):
    """Use of a secret: to call the provider, to prove webhooks, or another one, such as signing mail."""

    CREDENTIAL = "credential"
    WEBHOOK = "webhook"
    OTHER = "other"


class State(StrEnum):
    """State of a secret as it is configured."""

    OK = "ok"
    MISSING = "missing"
    WRONG_FORM = "wrong_form"


@dataclass(frozen=True, slots=True)
class CheckedSecret:
    """One secret of an account. Holds no value.

    Attributes:
        option: as it is written in the settings, with its place in a list.
        purpose: what it is for.
        source: where it stands.
        reference: `env:NAME` or `file:PATH`; "" where it is neither.
        state: whether it is there and of the right form.
        known_since: when a webhook of the account was first proved while this one was configured; None: not known.
        last_used: when it proved a webhook last, to within an hour; None: not known.
    """

    option: str
    purpose: Purpose
    source: Source
    reference: str
    state: State = State.OK
    known_since: datetime | None = None
    last_used: datetime | None = None

    @property
    def rereads(self) -> bool:
        """True if a change of it needs no restart."""
        return self.source in (Source.FILE, Source.APPLICATION)


@dataclass(frozen=True, slots=True)
class AccountSecrets:
    """The secrets of one account.

    Attributes:
        account: its name.
        provider: the provider's name.
        secrets: in the order of the provider's options.
        findings: what is wrong, or should be looked at; one that passes where there is nothing.
        opened: the account as it opens; None if it does not.
    """

    account: str
    provider: str
    secrets: tuple[CheckedSecret, ...]
    findings: tuple[Finding, ...]
    opened: Provider | None = None

    @property
    def ok(self) -> bool:
        """True if nothing failed."""
        return not any(finding.status is Status.FAIL for finding in self.findings)

    @property
    def webhook_secrets(self) -> int:
        """Number of secrets that prove webhooks."""
        return sum(secret.purpose is Purpose.WEBHOOK for secret in self.secrets)


def check_secrets(accounts: Accounts, name: str, environ: Mapping[str, str] | None = None) -> AccountSecrets:
    """Check that an account's secrets are there and of the right form. Asks nobody.

    Args:
        accounts: open the account.
        name: of the account.
        environ: where `env:` references are looked up; os.environ when left out.

    Raises:
        ConfigError: there is no such account.
    """
    try:
        account = accounts.settings(name)
    except AccountUnavailableError as error:
        return AccountSecrets(name, accounts.provider_name(name), (), (_failed(name, error),))
    try:
        cls = provider_class(account.provider, f"accounts.{name}.provider")
    except ConfigError as error:
        return AccountSecrets(name, account.provider, (), (_failed(name, error),))
    secrets: list[CheckedSecret] = []
    findings: list[Finding] = []
    for secret, missing in _configured(account, cls, os.environ if environ is None else environ):
        secrets.append(secret if missing is None else replace(secret, state=State.MISSING))
        if missing is not None:
            findings.append(_failed(name, missing))
    opened = None
    if not findings:
        try:
            opened = accounts.open(name)
        except ConfigError as error:
            findings.append(_failed(name, error))
            secrets = [_judged(secret, f"accounts.{name}.{secret.option}", error.key) for secret in secrets]
    if not findings:
        findings = [passed(f"accounts.{name}", f"{account.provider}: options and secrets are in order")]
    return AccountSecrets(name, account.provider, tuple(secrets), tuple(findings), opened)


def with_uses(checked: AccountSecrets, ledger: Runs, days: float = DAYS) -> AccountSecrets:
    """Add what the ledger knows of the secrets' use.

    Args:
        checked: the account.
        ledger: knows it.
        days: an old secret that no webhook has used for so long is a warning.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    provider = checked.opened
    uses = {} if provider is None else secret_uses.known(ledger, [checked.account])
    if provider is None or not uses:
        return checked

    def use_of(value: str) -> SecretUse | None:
        return uses.get((checked.account, fingerprint(ledger, checked.account, value)))

    secrets = tuple(_with_use(secret, provider, use_of) for secret in checked.secrets)
    findings = list(_unused(checked.account, [item for item in secrets if item.purpose is Purpose.WEBHOOK], days))
    credentials = credentials_of(provider)
    use = use_of(credentials.reveal()) if credentials is not None else None
    if use is not None and use.refused:
        findings.append(
            failed(
                f"accounts.{checked.account}",
                f"the provider refused the new credentials at {use.refused_at:%Y-%m-%d %H:%M} UTC, so those before "
                "them or the second ones are in use",
                "Correct them at the provider or where they stand. What has changed is tried at once",
            )
        )
    return replace(checked, secrets=secrets, findings=tuple(findings) or checked.findings)


def _configured(
    account: AccountSettings, cls: type[Provider], environ: Mapping[str, str]
) -> Iterator[tuple[CheckedSecret, ConfigError | None]]:
    """Yield every secret that the account refers to, with what is wrong with the reference."""
    own = set(secret_options(cls.Options))
    for option, value in secret_references(cls.Options, account.options):
        problems = Problems()
        key = f"accounts.{account.name}.{option}"
        if account.resolved:
            given_secret(value, key, problems.add)
        else:
            resolve_secret(value, key, environ, problems.add)
        name = option.partition("[")[0]
        purpose = Purpose.CREDENTIAL if name in own else Purpose.OTHER
        if name in cls.webhook_secrets:
            purpose = Purpose.WEBHOOK
        referred = not account.resolved and isinstance(value, str) and value.startswith(("env:", "file:"))
        reference = str(value) if referred else ""
        source = Source.FILE if reference.startswith("file:") else Source.ENV
        if account.resolved:
            source = Source.APPLICATION
        yield CheckedSecret(option, purpose, source, reference), next(iter(problems.found), None)
    known = {option.partition("[")[0] for option, _ in secret_references(cls.Options, account.options)}
    for name in cls.webhook_secrets:
        written = account.options.get(name) if name not in known else None
        for index, _ in enumerate(written if isinstance(written, list) else []):
            yield CheckedSecret(f"{name}[{index}]", Purpose.WEBHOOK, Source.SETTINGS, ""), None


def _judged(secret: CheckedSecret, key: str, wrong: str) -> CheckedSecret:
    """Return the secret, of the wrong form if the error's key is its own or its list's."""
    return replace(secret, state=State.WRONG_FORM) if wrong in (key, key.partition("[")[0]) else secret


def _with_use(secret: CheckedSecret, provider: Provider, use_of: UseOf) -> CheckedSecret:
    if secret.purpose is not Purpose.WEBHOOK:
        return secret
    name, _, place = secret.option.partition("[")
    value = getattr(provider.options, name)[int(place.rstrip("]")) if place else 0]
    use = use_of(value.reveal() if isinstance(value, Secret) else value)
    return secret if use is None else replace(secret, known_since=use.seen_at, last_used=use.used_at)


def _unused(account: str, secrets: list[CheckedSecret], days: float) -> Iterator[Finding]:
    """Yield the secrets that no webhook has used for long, while another one was used since."""
    latest = max((secret.last_used for secret in secrets if secret.last_used is not None), default=None)
    limit = clock.now() - timedelta(days=days)
    for secret in secrets:
        since = secret.last_used or secret.known_since
        if latest is not None and since is not None and since < limit and latest > limit:
            said = f"was used last at {secret.last_used:%Y-%m-%d}" if secret.last_used else "was never used"
            yield warned(
                f"accounts.{account}",
                f"{secret.option} {said}, and webhooks come with another one",
                f"Take {secret.option} out of [accounts.{account}], unless the provider still posts with it",
            )


def _failed(account: str, error: ConfigError) -> Finding:
    return failed(f"accounts.{account}", f"{error.key}: {error.problem}", error.remedy)
