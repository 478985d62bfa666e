"""Accounts by name: each opened once per process, with its options checked by its own room."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from importlib.metadata import entry_points

from mailglass.errors import ConfigError
from mailglass.providers.base import Provider
from mailglass.settings import AccountSettings, Settings, build_options

GROUP = "mailglass.providers"


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


class Accounts:
    """The accounts of the settings, opened when first used. Safe to use from several threads.

    Args:
        settings: whose accounts.
        environ: where secret references are looked up; os.environ when left out.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._environ = environ
        self._open: dict[str, Provider] = {}
        self._lock = threading.Lock()

    def settings(self, name: str) -> AccountSettings:
        """Return the account as it is configured.

        Raises:
            ConfigError: no such account.
        """
        try:
            return self._settings.accounts[name]
        except KeyError:
            raise ConfigError(
                f"accounts.{name}", "unknown account", f"Add [accounts.{name}] to mailglass.toml"
            ) from None

    def open(self, name: str) -> Provider:
        """Return the account's provider.

        Raises:
            ConfigError: unknown account or provider, or options that its room refuses.
        """
        if provider := self._open.get(name):
            return provider
        with self._lock:
            if provider := self._open.get(name):
                return provider
            account = self.settings(name)
            key = f"accounts.{name}"
            cls = provider_class(account.provider, f"{key}.provider")
            options: object = build_options(cls.Options, account.options, key, self._environ)
            provider = cls(name, options)
            provider.overrun = self._settings.engine.send_margin
            self._open[name] = provider
            return provider

    def check(self) -> None:
        """Open every account once, so that what is wrong shows at start and not at the first mail."""
        for name in self._settings.accounts:
            self.open(name)

    def close(self) -> None:
        """Close every account's kept connections."""
        with self._lock:
            for provider in self._open.values():
                provider.close()
            self._open.clear()
