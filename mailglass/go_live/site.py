"""The deployment that the checklist looks at."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from mailglass.preflight.surroundings import Surroundings
from mailglass.providers.registry import Accounts
from mailglass.routing import Router
from mailglass.settings import AccountSettings, Settings


class Site(Surroundings):
    """A deployment, and what is known of the application beside it.

    Args:
        settings: of this process.
        resolver: `IP` or `IP:PORT` of the DNS resolver; None for the one of the settings.
        project: the directory of the application's source; None: it is not known.
        online: providers and policy files may be fetched.
        timeout: seconds to wait for the broker, and for the workers' answers.
        environ: where secret references are looked up; os.environ when left out.
        expected: workers that are known to run. Once so many have answered, nobody is waited for.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        resolver: str | None = None,
        project: Path | None = None,
        online: bool = False,
        timeout: float = 2.0,
        environ: Mapping[str, str] | None = None,
        expected: int | None = None,
    ) -> None:
        super().__init__(settings, online=online, timeout=timeout, expected=expected)
        self.resolver = settings.domains.resolver if resolver is None else resolver
        self.project = project
        self.environ = os.environ if environ is None else environ

    @cached_property
    def router(self) -> Router:
        """Resolves routes, with the application's hooks."""
        return Router(self.settings)

    @cached_property
    def accounts(self) -> Accounts:
        """The accounts, opened when they are first needed."""
        return Accounts(self.settings, self.environ, self.router)

    @cached_property
    def configured(self) -> Mapping[str, AccountSettings]:
        """The accounts of the settings, and those that the application lists, by name.

        Raises:
            AccountUnavailableError: the application's hook fails or hangs.
        """
        return {name: self.accounts.settings(name) for name in self.accounts.names()}

    def close(self) -> None:
        """Close the accounts that were opened."""
        if "accounts" in vars(self):
            self.accounts.close()
