"""Accounts by name: each opened once per process, with its options checked by its own room."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from mailglass import clock, telemetry
from mailglass.errors import AccountUnavailableError, ConfigError, RouteError
from mailglass.providers.base import Provider
from mailglass.providers.credentials import credentials_of
from mailglass.providers.secret_files import FILE, LOOK_EVERY, SecretFiles
from mailglass.routing import AccountResolver, Router
from mailglass.settings import (
    AccountSettings,
    Resolve,
    Settings,
    build_options,
    given_secret,
    one_secret_each,
    secret_options,
)

GROUP = "mailglass.providers"
# accounts of the application that are open at once in one process
_MOST_RESOLVED = 1000


def provider_class(name: str, key: str = "provider") -> type[Provider]:
    """Return the class behind a provider's name, from the entry points of group `mailglass.providers`.

    Raises:
        ConfigError: no installed package offers it, or what it offers is not a provider.
    """
    entries = entry_points(group=GROUP, name=name)
    if not entries:
        known = ", ".join(sorted({entry.name for entry in entry_points(group=GROUP)}))
        raise ConfigError(key, f"unknown provider {name!r}", f"Installed are: {known}")
    try:
        cls = next(iter(entries)).load()
    except ImportError as error:
        raise ConfigError(
            key,
            f"provider {name!r} needs a module that is not installed ({error.name})",
            f'Install it: pip install "mailglass[{name}]"',
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Provider)):
        raise ConfigError(key, f"the entry point {name!r} is not a Provider", "Correct the package that registers it")
    return cls


@dataclass(slots=True)
class _Opened:
    """One account as this process has it.

    Attributes:
        provider: the one in use.
        other: the same account with its other credentials. None: it has no others.
        files: the account's secret files.
        look_at: when they are looked at again, on the monotonic clock.
        previous: by path, credentials that were in use before those on trial.
        accepted: the provider has taken the credentials in use.
        fell_back: `provider` has the previous or the second credentials, as the provider refused the others.
    """

    provider: Provider
    other: Provider | None
    files: SecretFiles
    look_at: float
    previous: dict[str, str] = field(default_factory=dict)
    accepted: bool = False
    fell_back: bool = False


class Accounts:
    """The accounts of the settings, opened when first used. Safe to use from several threads.

    A secret behind `file:` is read again when its file changes. What cannot be used leaves the account as it was.

    Args:
        settings: whose accounts.
        environ: where secret references are looked up; os.environ when left out.
        router: has the application's hook for accounts that the settings do not name; by default the settings'.
    """

    def __init__(
        self, settings: Settings, environ: Mapping[str, str] | None = None, router: Router | None = None
    ) -> None:
        self._settings = settings
        self._environ = os.environ if environ is None else environ
        self._router = router or Router(settings)
        self._open: dict[str, _Opened] = {}
        self._resolved: OrderedDict[str, tuple[AccountSettings, Provider]] = OrderedDict()
        self._retired: list[tuple[float, Provider]] = []
        self._lock = threading.Lock()

    def settings(self, name: str, *, stranger: bool = False) -> AccountSettings:
        """Return the account as it is configured, or as the application's hook resolves it, for which it may wait.

        Args:
            name: of the account.
            stranger: somebody unknown asks; see `AccountResolver.resolve`.

        Raises:
            AccountUnavailableError: the hook knows no such account, fails or hangs.
            ConfigError: no such account.
        """
        account = self._settings.accounts.get(name)
        if account is not None:
            return account
        resolver = self._resolver()
        if resolver is None:
            raise ConfigError(f"accounts.{name}", "unknown account", f"Add [accounts.{name}] to mailglass.toml")
        return resolver.resolve(name, stranger=stranger)

    @property
    def has_resolver(self) -> bool:
        """True if the application keeps accounts."""
        return self._resolver_or_none() is not None

    def names(self) -> list[str]:
        """Return the names of the settings' accounts, and of those that the application lists."""
        resolver = self._resolver_or_none()
        listed = () if resolver is None else resolver.names()
        return list(dict.fromkeys((*self._settings.accounts, *listed)))

    def is_resolved(self, name: str) -> bool:
        """Return whether an account is not of the settings, but may be the application's."""
        try:
            return name not in self._settings.accounts and self._resolver() is not None
        except AccountUnavailableError:
            return True

    def is_fresh(self, name: str) -> bool:
        """Return whether `settings` would answer without waiting for a hook, and without an error."""
        resolver = self._resolver_or_none()
        return name in self._settings.accounts or (resolver is not None and resolver.is_fresh(name))

    def provider_name(self, name: str) -> str:
        """Return the provider of an account as far as it is known without waiting, or ""."""
        account = self._settings.accounts.get(name)
        if account is not None:
            return account.provider
        resolver = self._resolver_or_none()
        return "" if resolver is None else resolver.provider_of(name)

    def open(self, name: str) -> Provider:
        """Return the account's provider. It stays usable for a lease, also if a later call returns another one.

        Raises:
            AccountUnavailableError: the application's hook does not tell the account.
            ConfigError: unknown account or provider, or options that its room refuses.
        """
        if self.is_resolved(name):
            return self._open_resolved(name)
        opened = self._open.get(name)
        if opened is None:
            opened = self._open_first(name)
        elif clock.monotonic() >= opened.look_at and self._lock.acquire(blocking=False):
            try:
                self._look(name, opened)
            finally:
                self._lock.release()
        return opened.provider

    def preferred(self, provider: Provider) -> Provider:
        """Return the same account with the credentials in use, in place of those that were found to be refused."""
        opened = self._open.get(provider.account)
        return opened.provider if opened is not None and provider is opened.other else provider

    def other(self, provider: Provider) -> Provider | None:
        """Return the same account with its other credentials, or None if it has only one.

        For a batch that began before the credentials changed the others are those in use: its own may be revoked.
        """
        opened = self._open.get(provider.account)
        if opened is None:
            kept = self._resolved.get(provider.account)
            return kept[1] if kept is not None and _differ(kept[1], provider) else None
        if provider is not opened.provider and _differ(opened.provider, provider):
            return opened.provider
        return opened.other if provider is not opened.other else None

    def prefer(self, provider: Provider) -> bool:
        """Use these credentials of the account from now on, as the others are refused; return whether that is new."""
        with self._lock:
            opened = self._open.get(provider.account)
            if opened is None or provider is not opened.other:
                return False
            opened.provider, opened.other, opened.fell_back = provider, opened.provider, not opened.fell_back
            opened.accepted = True
            return True

    def confirm(self, provider: Provider) -> bool:
        """Note that the account's credentials were accepted; return whether that is new to this process."""
        opened = self._open.get(provider.account)
        if opened is None or opened.accepted or provider is not opened.provider:
            return False
        with self._lock:
            if opened.accepted or provider is not opened.provider:
                return False
            opened.accepted = True
            if opened.previous and not opened.fell_back:
                opened.previous.clear()
                self._retire(opened.other)
                opened.other = None
                telemetry.emit("mailglass.secrets.accepted", account=provider.account)
            return True

    def check(self) -> None:
        """Open every account once, so that what is wrong shows at start and not at the first mail."""
        for name in self._settings.accounts:
            self.open(name)

    def close(self) -> None:
        """Close every account's kept connections."""
        with self._lock:
            for opened in self._open.values():
                self._retire(opened.provider)
                self._retire(opened.other)
            for _, provider in self._resolved.values():
                self._retire(provider)
            for _, provider in self._retired:
                provider.close()
            self._open.clear()
            self._resolved.clear()
            self._retired.clear()

    def _open_first(self, name: str) -> _Opened:
        with self._lock:
            opened = self._open.get(name)
            if opened is None:
                account, files = self.settings(name), SecretFiles(self._environ)
                provider, other = self._make(account, files, {})
                opened = self._open[name] = _Opened(provider, other, files, clock.monotonic() + LOOK_EVERY)
            return opened

    def _open_resolved(self, name: str) -> Provider:
        try:
            account = self.settings(name)
        except AccountUnavailableError as error:
            if error.missing:
                with self._lock:
                    self._retire(self._resolved.pop(name, (None, None))[1])
            raise
        kept = self._resolved.get(name)
        if kept is not None and kept[0] is account:
            return kept[1]
        with self._lock:
            self._close_retired()
            kept = self._resolved.pop(name, None)
            if kept is not None and kept[0] == account:
                self._resolved[name] = (account, kept[1])
                return kept[1]
            if kept is not None:
                self._retire(kept[1])
            cls = provider_class(account.provider, f"accounts.{name}.provider")
            provider = self._provider(cls, name, account.options, given_secret)
            self._resolved[name] = (account, provider)
            while len(self._resolved) > _MOST_RESOLVED:
                self._retire(self._resolved.popitem(last=False)[1][1])
            return provider

    def _resolver(self) -> AccountResolver | None:
        """Return the application's accounts.

        Raises:
            AccountUnavailableError: the tenancy cannot be opened.
        """
        if self._settings.tenancy is None and not self._router.given:
            return None
        try:
            return self._router.accounts
        except RouteError:
            raise AccountUnavailableError("*", "the tenancy cannot be opened") from None

    def _resolver_or_none(self) -> AccountResolver | None:
        try:
            return self._resolver()
        except AccountUnavailableError:
            return None

    def _look(self, name: str, opened: _Opened) -> None:
        """Take over what has changed in the account's files, as far as it can be used."""
        opened.look_at = clock.monotonic() + LOOK_EVERY
        self._close_retired()
        look = opened.files.look()
        for path, fault in look.faults.items():
            _refused(name, f"the file {path} {fault.problem}")
        if not look.values:
            return
        account = self.settings(name)
        values = _usable(account, opened.files, look.values)
        if not values:
            return
        own = values.keys() & credential_files(account)
        # of credentials that nobody has accepted yet those before them are kept
        before = {**{path: opened.files.value(path) for path in own}, **opened.previous}
        newest_values = {path: values.get(path, opened.files.value(path)) for path in before}
        previous = {path: value for path, value in before.items() if value != newest_values[path]}
        falls_back = opened.fell_back and not own
        try:
            newest, other = self._make(account, opened.files, previous, values)
        except Exception as error:
            _refused(name, type(error).__name__)
            return
        opened.files.keep(values)
        self._retire(opened.provider)
        self._retire(opened.other)
        opened.previous, opened.fell_back = previous, falls_back and other is not None
        opened.accepted = opened.accepted and not own
        opened.provider, opened.other = (other, newest) if other is not None and opened.fell_back else (newest, other)
        telemetry.emit("mailglass.secrets.reloaded", account=name, count=len(values))

    def _make(
        self, account: AccountSettings, files: SecretFiles, previous: Mapping[str, str], changed: Mapping[str, str] = {}
    ) -> tuple[Provider, Provider | None]:
        """Return the account's provider, and the one with its second or its previous credentials.

        Args:
            account: which one.
            files: its secret files.
            previous: contents of credentials before those on trial, by path.
            changed: new contents by path.
        """
        key = f"accounts.{account.name}"
        cls = provider_class(account.provider, f"{key}.provider")
        first, second = one_secret_each(cls.Options, account.options)

        def make(options: Mapping[str, Any], values: Mapping[str, str]) -> Provider:
            return self._provider(cls, account.name, options, files.resolver(values))

        provider = make(first, changed)
        if second is None and not previous:
            return provider, None
        try:
            return provider, make(second, changed) if second is not None else make(first, {**changed, **previous})
        except ConfigError as error:
            _refused(account.name, f"{error.key}: {error.problem}")
            return provider, None

    def _provider(self, cls: type[Provider], name: str, options: Mapping[str, Any], resolve: Resolve) -> Provider:
        built: object = build_options(cls.Options, options, f"accounts.{name}", resolve=resolve)
        provider = cls(name, built)
        provider.overrun = self._settings.engine.send_margin
        return provider

    def _retire(self, provider: Provider | None) -> None:
        """Close a provider once nobody can be using it any more: a batch holds it until its lease ends."""
        if provider is not None:
            self._retired.append((clock.monotonic() + self._settings.engine.lease, provider))

    def _close_retired(self) -> None:
        now = clock.monotonic()
        due = [provider for moment, provider in self._retired if moment <= now]
        self._retired = [item for item in self._retired if item[0] > now]
        for provider in due:
            provider.close()


def credential_files(account: AccountSettings) -> set[str]:
    """Return the paths of the files that hold an account's own credentials, and not those of its webhooks."""
    found = set()
    for name in secret_options(provider_class(account.provider).Options):
        value = account.options.get(name)
        for reference in value if isinstance(value, list) else [value]:
            if isinstance(reference, str) and reference.startswith(FILE):
                found.add(reference.removeprefix(FILE))
    return found


def _differ(one: Provider, other: Provider) -> bool:
    """Return whether two of one account are of the same provider, with different credentials."""
    return type(one) is type(other) and credentials_of(one) != credentials_of(other)


def _usable(account: AccountSettings, files: SecretFiles, changed: Mapping[str, str]) -> Mapping[str, str]:
    """Return those of the changed contents with which the account's options are in order."""

    def fault(values: Mapping[str, str]) -> ConfigError | None:
        cls, key = provider_class(account.provider), f"accounts.{account.name}"
        try:
            for options in one_secret_each(cls.Options, account.options):
                if options is not None:
                    build_options(cls.Options, options, key, resolve=files.resolver(values))
        except ConfigError as error:
            return error
        return None

    if fault(changed) is None:
        return changed
    usable: dict[str, str] = {}
    for path, value in changed.items():
        error = fault(usable | {path: value})
        if error is None:
            usable[path] = value
        else:
            _refused(account.name, f"{error.key}: {error.problem}")
    return usable


def _refused(account: str, reason: str) -> None:
    telemetry.emit("mailglass.secrets.refused", level=logging.ERROR, account=account, reason=reason)
