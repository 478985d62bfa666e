"""Accounts that the application keeps, such as in its database: resolved by its hook, kept for seconds.

Secrets come as values. They stay in the memory of this process: nothing here prints, pickles or stores them.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeVar

from mailglass import clock, telemetry
from mailglass.errors import AccountUnavailableError, ConfigError, MessageError, failure
from mailglass.mail.addresses import Address, parse_address
from mailglass.settings import NAME, AccountSettings, SecretValues, SyncMode

T = TypeVar("T")

FRESH: Final = 5.0
"""Seconds for which an answer of the hook holds, also that there is no such account."""

TIMEOUT: Final = 2.0
"""Seconds that a caller waits for the hook."""

LIST_TIMEOUT: Final = 10.0
"""Seconds that a caller waits for the list of accounts."""

LISTED_FOR: Final = 60.0
"""Seconds for which the list of accounts holds."""

# answers that are kept; what strangers ask about is kept apart, and puts no account out
_MOST: Final = 10_000
_MOST_FAILURES: Final = 1_000
# calls of the hook under way, hanging ones included
_CALLS: Final = 16
# of these, those that may be about names of strangers
_STRANGERS_CALLS: Final = _CALLS // 2
# seconds after which a call that hangs is given up, so that another one may be made
_HANGS: Final = 60.0
# names a second that strangers may have looked up, and at once
_STRANGERS: Final = 10.0
_REMEDY: Final = "Correct the hook resolve_account, or what it reads"


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the application's hook returns it.

    >>> Account("postmark", {"server_token": "a-token"})
    Account(provider='postmark', sender=None, tenant=None, suppressions='off')

    Args:
        provider: the provider's name.
        options: the provider's options, secrets as their values. A value is never read as a reference.
        sender: From of messages that name none.
        tenant: whose account it is; its webhooks say nothing about other tenants' mail.
        suppressions: `pull`, `push`, `both` or `off`, as of an account in the settings.
    """

    provider: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sender: Address | str | None = None
    tenant: str | None = None
    suppressions: str = "off"

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", SecretValues(self.options))

    def __reduce__(self) -> NoReturn:
        raise TypeError("an account with secrets is never serialised")


Hook = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer of the hook, for as long as it holds.

    Attributes:
        until: on the monotonic clock.
        account: None if there is none.
        error: why there is none.
    """

    until: float
    account: AccountSettings | None
    error: ConfigError | None = None

    @property
    def missing(self) -> bool:
        """True if the hook knows no such account."""
        return isinstance(self.error, AccountUnavailableError) and self.error.missing

    def result(self, name: str) -> AccountSettings:
        """Return the account, or raise why there is none: another error each time, as each collects a traceback."""
        if self.account is not None:
            return self.account
        error = self.error
        if error is None or isinstance(error, AccountUnavailableError):
            raise AccountUnavailableError(name, error.problem if error else "was not resolved", missing=self.missing)
        raise ConfigError(error.key, error.problem, error.remedy)


class _Flight:
    """One call of the hook, which several callers may wait for."""

    def __init__(self) -> None:
        self.began = clock.monotonic()
        self.ended = threading.Event()
        self.answer: _Answer | None = None


class AccountResolver:
    """Cache of an application's accounts. One per process; safe to use from several threads.

    The hook runs in a thread of its own, once at a time for each account, so one that hangs costs a caller `TIMEOUT`
    seconds and keeps no other account waiting.

    Args:
        hook: `Tenancy.resolve_account`.
        listing: `Tenancy.list_accounts`.
    """

    def __init__(self, hook: Hook, listing: Callable[[], object] = tuple) -> None:
        self._hook = hook
        self._listing = listing
        self._listed: tuple[float, tuple[str, ...]] = (0.0, ())
        self._known: OrderedDict[str, _Answer] = OrderedDict()
        self._failed: OrderedDict[str, _Answer] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        self._running = 0
        self._tokens, self._filled = _STRANGERS, clock.monotonic()
        self._lock = threading.Lock()

    def resolve(self, name: str, *, stranger: bool = False) -> AccountSettings:
        """Return an account.

        Args:
            name: of the account.
            stranger: somebody unknown asks, so that names that were never resolved are looked up a few a second.

        Raises:
            AccountUnavailableError: the hook knows no such account, fails or hangs.
            ConfigError: what it returned cannot be used.
        """
        if not NAME.match(name):
            raise AccountUnavailableError(name, "unknown account", missing=True)
        with self._lock:
            now = clock.monotonic()
            answer = self._kept(name, now)
            flight = None
            if answer is None:
                unknown = stranger and name not in self._known
                if unknown and not self._spend(now):
                    raise AccountUnavailableError(name, "too many unknown names are asked for")
                flight = self._join(name, now, _STRANGERS_CALLS if unknown else _CALLS)
        if flight is not None:
            flight.ended.wait(max(0.0, flight.began + TIMEOUT - clock.monotonic()))
            answer = flight.answer
        if answer is None:
            answer = self._fail(name, "resolve_account took too long")
        return answer.result(name)

    def names(self) -> tuple[str, ...]:
        """Return the names that the application lists, for work that nobody asks for. Called in no hot path.

        If its hook fails, the names of the last time; the failure is an event.
        """
        until, names = self._listed
        if clock.monotonic() < until:
            return names
        found: list[str] = []
        listed = threading.Event()

        def work() -> None:
            try:
                found.extend(name for name in _names(self._listing()))
                listed.set()
            except BaseException as error:
                telemetry.emit("mailglass.account.unlisted", level=logging.ERROR, error_type=failure(error))

        thread = threading.Thread(target=work, name="mailglass accounts", daemon=True)
        thread.start()
        thread.join(LIST_TIMEOUT)
        if listed.is_set():
            names = tuple(dict.fromkeys(found))
        self._listed = (clock.monotonic() + LISTED_FOR, names)
        return names

    def is_fresh(self, name: str) -> bool:
        """Return whether the account can be had without the hook."""
        answer = self._known.get(name)
        return answer is not None and clock.monotonic() < answer.until

    def provider_of(self, name: str) -> str:
        """Return the provider's name of an account as it was resolved last, or "". Never waits."""
        answer = self._known.get(name)
        return answer.account.provider if answer is not None and answer.account is not None else ""

    def _kept(self, name: str, now: float) -> _Answer | None:
        for answers in (self._known, self._failed):
            answer = answers.get(name)
            if answer is not None and now < answer.until:
                answers.move_to_end(name)
                return answer
        return None

    def _spend(self, now: float) -> bool:
        self._tokens = min(_STRANGERS, self._tokens + (now - self._filled) * _STRANGERS)
        self._filled = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _join(self, name: str, now: float, most: int) -> _Flight:
        flight = self._flights.get(name)
        if flight is not None and now - flight.began < _HANGS:
            return flight
        if self._running >= most:
            raise AccountUnavailableError(name, "too many calls of resolve_account hang")
        flight = self._flights[name] = _Flight()
        self._running += 1
        try:
            # daemon: a hook that hangs must not keep the process from ending
            threading.Thread(target=self._run, args=(name, flight), name="mailglass accounts", daemon=True).start()
        except RuntimeError:
            self._running -= 1
            del self._flights[name]
            raise AccountUnavailableError(name, "the system has no thread to spare") from None
        return flight

    def _run(self, name: str, flight: _Flight) -> None:
        # how fresh an answer is counts from the moment at which it was asked for
        until = flight.began + FRESH
        answer = _Answer(until, None, AccountUnavailableError(name, "resolve_account did not end"))
        try:
            answer = _Answer(until, _checked(name, self._ask(name)))
        except ConfigError as error:
            answer = _Answer(until, None, error)
        finally:
            with self._lock:
                self._running -= 1
                current = self._flights.get(name) is flight
                if current:
                    del self._flights[name]
            if current:
                self._keep(name, answer)
            flight.answer = answer
            flight.ended.set()

    def _ask(self, name: str) -> object:
        """Call the hook. Of its error only the class is told: the text may hold what it has read."""
        try:
            return self._hook(name)
        except BaseException as error:
            problem = f"resolve_account failed with {failure(error)}"
        raise AccountUnavailableError(name, problem)

    def _fail(self, name: str, problem: str) -> _Answer:
        answer = _Answer(clock.monotonic() + FRESH, None, AccountUnavailableError(name, problem))
        self._keep(name, answer)
        return answer

    def _keep(self, name: str, answer: _Answer) -> None:
        with self._lock:
            # what a stranger made up is not repeated
            known = name in self._known
            if answer.account is not None:
                _put(self._known, name, answer, _MOST)
                self._failed.pop(name, None)
            else:
                _put(self._failed, name, answer, _MOST_FAILURES)
                if answer.missing:
                    self._known.pop(name, None)
        if answer.error is not None and not answer.missing:
            telemetry.emit(
                "mailglass.account.unresolved",
                level=logging.ERROR,
                account=name if known else None,
                reason=answer.error.problem,
            )


def _put(answers: OrderedDict[str, _Answer], name: str, answer: _Answer, most: int) -> None:
    answers[name] = answer
    answers.move_to_end(name)
    while len(answers) > most:
        answers.popitem(last=False)


def _names(answer: object) -> Iterator[str]:
    if not isinstance(answer, list | tuple | set | frozenset):
        raise TypeError
    for name in answer:
        if isinstance(name, str) and NAME.match(name):
            yield name


def _checked(name: str, answer: object) -> AccountSettings:
    """Return the hook's answer as settings.

    Raises:
        ConfigError: it is no account, or one that cannot be used.
    """
    key = f"accounts.{name}"
    if answer is None:
        raise AccountUnavailableError(name, "unknown account", missing=True)
    if not isinstance(answer, Account) or not isinstance(answer.provider, str):
        raise ConfigError(key, "resolve_account returned something else than an Account or None", _REMEDY)
    if answer.tenant is not None and not (isinstance(answer.tenant, str) and NAME.match(answer.tenant)):
        raise ConfigError(f"{key}.tenant", "not a tenant name", _REMEDY)
    if answer.suppressions not in list(SyncMode):
        raise ConfigError(f"{key}.suppressions", "not an allowed value", f"Use one of {', '.join(SyncMode)}")
    mode = SyncMode(answer.suppressions)
    if mode in (SyncMode.PUSH, SyncMode.BOTH) and answer.tenant is None:
        raise ConfigError(f"{key}.suppressions", "pushes nobody's entries", "Say whose account it is: tenant")
    sender = answer.sender
    if isinstance(sender, str):
        try:
            sender = parse_address(sender, "sender")
        except MessageError as error:
            raise ConfigError(f"{key}.sender", str(error), _REMEDY) from None
    return AccountSettings(name, answer.provider, sender, answer.options, answer.tenant, suppressions=mode)
