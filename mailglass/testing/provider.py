"""A provider for tests of code that sends: answers as scripted, remembers what it was given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mailglass.errors import ConfigError
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts
from mailglass.settings import AccountSettings, Settings

Answer = Outcome | Exception
Script = Callable[[Outgoing], Answer]


@dataclass(frozen=True, slots=True)
class ScriptedOptions:
    """No options."""


def accepted(mail: Outgoing) -> Outcome:
    """Return the answer of a provider on a good day."""
    return Outcome(OutcomeClass.ACCEPTED, provider_message_id=f"scripted-{mail.delivery_id}")


class ScriptedProvider(Provider):
    """Answers each mail as the script says and keeps it in `sent`.

    Args:
        script: called with each mail; returns its outcome, or an exception that the whole call then raises.
        account: its account's name.
        batch_size: as of any provider.
    """

    name = "scripted"
    Options = ScriptedOptions

    def __init__(self, script: Script = accepted, account: str = "scripted", batch_size: int = 50) -> None:
        super().__init__(account, ScriptedOptions())
        self.script = script
        self.sent: list[Outgoing] = []
        self.calls: list[int] = []
        self.batch_size = batch_size  # tests vary it by instance
        self._lock = threading.Lock()

    def send(self, mails: Sequence[Outgoing], *, deadline: float) -> list[Outcome]:
        """Keep the mails and answer as the script says."""
        with self._lock:
            self.sent.extend(mails)
            self.calls.append(len(mails))
        outcomes: list[Outcome] = []
        for mail in mails:
            answer = self.script(mail)
            if isinstance(answer, Exception):
                raise answer
            outcomes.append(answer)
        return outcomes


class FixedAccounts(Accounts):
    """Accounts whose providers are given instead of opened.

    Args:
        settings: where the accounts' senders stand.
        providers: by account name.
    """

    def __init__(self, settings: Settings, providers: Mapping[str, Provider]) -> None:
        super().__init__(settings)
        self._given = dict(providers)

    def settings(self, name: str, *, stranger: bool = False) -> AccountSettings:
        """Return the settings of an account, or of a scripted one where the settings name none."""
        return self._settings.accounts.get(name) or AccountSettings(name, "scripted")

    def open(self, name: str) -> Provider:
        """Return the provider given for an account."""
        if name not in self._given:
            raise ConfigError(f"accounts.{name}", "unknown account", "Give it to FixedAccounts")
        return self._given[name]
