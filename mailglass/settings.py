"""Settings: the environment (`MAILGLASS_*`) and an optional `mailglass.toml`, validated as a whole.

Secrets are given only as references, `env:NAME` or `file:PATH`, and are read when the account that needs them is
opened: an application that only queues mail needs none of them.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from mailglass.addresses import Address, parse_address
from mailglass.errors import ConfigError, MessageError
from mailglass.limit_settings import LimitRule, parse_limits
from mailglass.streams import DEFAULT_POLICIES, Stream, StreamPolicy, UncertainPolicy

DEFAULT_QUEUE = "mailglass"
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
QUEUE = re.compile(r"mailglass(?:\.[a-z0-9_-]{1,40})?\Z")
ENVIRONMENT = {
    "MAILGLASS_CONFIG": "path of the TOML file (default: mailglass.toml in the working directory, if there is one)",
    "MAILGLASS_DATABASE_URL": "PostgreSQL, for example postgresql://user@host/mailglass",
    "MAILGLASS_BROKER_URL": "redis://, rediss:// or amqp:// URL of Celery's broker",
    "MAILGLASS_REDIS_URL": "where doorbells ring when the broker is not Redis; without it they ring in PostgreSQL",
    "MAILGLASS_DEFAULT_FROM": "sender of messages that name none",
    "MAILGLASS_DEFAULT_TENANT": "tenant outside any tenant() block; empty: there is none",
    "MAILGLASS_LOG_LEVEL": "debug, info, warning or error",
    "MAILGLASS_LOG_FORMAT": "json or console",
}

T = TypeVar("T")


class Secret:
    """A secret value that does not show itself: repr and str are masked, and it does not pickle."""

    __slots__ = ("_value", "reference")

    def __init__(self, value: str, reference: str = "") -> None:
        self._value = value
        self.reference = reference

    def reveal(self) -> str:
        """The secret itself, for the one line that needs it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.reference or '***'})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> typing.NoReturn:
        raise TypeError("a Secret is never serialised")


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """A provider with credentials, known by a name.

    Attributes:
        name: what routes and webhook URLs call it.
        provider: the provider room that serves it.
        sender: From of messages that name none.
        options: the provider's own options as written; checked by the provider's room when the account is opened.
        tenant: whose account it is; its webhooks say nothing about other tenants' mail. None: several may share it.
    """

    name: str
    provider: str
    sender: Address | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Tenant, stream, recipient domain and tag to accounts in order, and a queue. `*` matches any.

    The first route that matches counts. A lane is made of tenant and stream, so its queue is that of the first route
    that names neither domain nor tag.

    Attributes:
        accounts: in order of preference; the next one takes over where one cannot be used.
        weights: how often each account comes first, by share; empty: always the first.
        patience: transient failures on one account before the next one is tried.
        concurrency: how many of a tenant's deliveries may be leased at once, over all workers; None for any number.
    """

    accounts: tuple[str, ...]
    tenant: str = "*"
    stream: str = "*"
    queue: str = DEFAULT_QUEUE
    domain: str = "*"
    tag: str = "*"
    weights: tuple[int, ...] = ()
    patience: int = 3
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the engine works through a lane. Durations are seconds.

    Attributes:
        claim_size: deliveries claimed at once at the most.
        slice: how long one batch should take, so that lanes take turns; claims are sized by what was seen.
        lease: how long a claim is kept; longer than a task may run.
        task_budget: a task starts no further batch after this long.
        send_margin: no send starts when less than this is left of the lease; longer than a provider may take to answer.
        ring_patience: a ring that nobody answered for this long is rung again by the pump.
    """

    claim_size: int = 500
    slice: float = 0.5
    lease: float = 120.0
    task_budget: float = 20.0
    send_margin: float = 65.0
    ring_patience: float = 5.0


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """The webhook ingress.

    Attributes:
        max_body: bytes; a larger request is answered 413.
        batch_size: stored webhooks that one task takes at a time.
        max_attempts: how often a webhook that fails for our own reasons is processed before it is `dead`.
    """

    max_body: int = 5 * 1024 * 1024
    batch_size: int = 100
    max_attempts: int = 5


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one process; build it with `load_settings`."""

    database_url: Secret = field(default_factory=lambda: Secret(""))
    broker_url: Secret = field(default_factory=lambda: Secret(""))
    redis_url: Secret | None = None
    default_from: Address | None = None
    default_tenant: str | None = "default"
    tenancy: str | None = None
    templates: tuple[str, ...] = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    accounts: Mapping[str, AccountSettings] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    streams: Mapping[Stream, StreamPolicy] = field(default_factory=lambda: dict(DEFAULT_POLICIES))
    engine: EngineSettings = EngineSettings()
    webhooks: WebhookSettings = WebhookSettings()
    limits: tuple[LimitRule, ...] = ()

    def require_database(self) -> str:
        """The database's URL, or a `ConfigError` that says where to put it."""
        if not self.database_url.reveal():
            raise ConfigError(
                "MAILGLASS_DATABASE_URL",
                "not set",
                "Set it to a PostgreSQL URL, or run `mailglass dev` for a local stack",
            )
        return self.database_url.reveal()

    def require_broker(self) -> str:
        """The broker's URL, or a `ConfigError` that says where to put it."""
        if not self.broker_url.reveal():
            raise ConfigError(
                "MAILGLASS_BROKER_URL",
                "not set",
                "Set it to a redis:// or amqp:// URL, or run `mailglass dev` for a local stack",
            )
        return self.broker_url.reveal()


def load_settings(environ: Mapping[str, str] | None = None, path: str | Path | None = None) -> Settings:
    """Read and check everything.

    Args:
        environ: the environment; os.environ when left out.
        path: the TOML file; else `MAILGLASS_CONFIG`, else `mailglass.toml` in the working directory if it is there.

    Raises:
        ConfigError: names the first wrong key and its remedy, and lists the others.
    """
    environ = os.environ if environ is None else environ
    document = _read_document(environ, path)
    problems = _Problems()
    settings = _parse(document, environ, problems)
    problems.raise_if_any()
    return settings


_current: Settings | None = None


def get_settings() -> Settings:
    """The process's settings, loaded at the first call."""
    global _current
    if _current is None:
        _current = load_settings()
    return _current


def configure(settings: Settings | None) -> None:
    """Use these settings in this process; None forgets them, so that the next call loads them again."""
    global _current
    _current = settings


class _Problems:
    """Collects what is wrong, so that one run shows all of it."""

    def __init__(self) -> None:
        self.found: list[ConfigError] = []

    def add(self, key: str, problem: str, remedy: str) -> None:
        self.found.append(ConfigError(key, problem, remedy))

    def raise_if_any(self) -> None:
        if not self.found:
            return
        first, *others = self.found
        if others:
            first.args = ("\n".join(str(problem) for problem in self.found),)
        raise first


def _read_document(environ: Mapping[str, str], path: str | Path | None) -> dict[str, Any]:
    named = path or environ.get("MAILGLASS_CONFIG")
    file = Path(named) if named else Path("mailglass.toml")
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        if not named:
            return {}
        raise ConfigError("MAILGLASS_CONFIG", f"no file at {file}", "Correct the path or unset it") from None
    except OSError as error:
        raise ConfigError(
            "MAILGLASS_CONFIG", f"cannot read {file} ({error.strerror})", "Check its permissions"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), f"not valid TOML ({error})", "Correct the line it names") from None


_TOP_LEVEL = {
    "database_url", "broker_url", "redis_url", "default_from", "default_tenant", "tenancy", "templates",
    "log_level", "log_format", "accounts", "routes", "streams", "engine", "webhooks", "limits",
}  # fmt: skip


def _parse(document: dict[str, Any], environ: Mapping[str, str], problems: _Problems) -> Settings:
    for key in sorted(document.keys() - _TOP_LEVEL):
        problems.add(key, "unknown setting", f"Known are: {', '.join(sorted(_TOP_LEVEL))}")
    _check_environment(document, environ, problems)
    values: dict[str, Any] = {}
    for key in ("database_url", "broker_url", "redis_url"):
        secret = _url(key, document, environ, problems)
        if secret is not None:
            values[key] = secret
    sender = environ.get("MAILGLASS_DEFAULT_FROM", document.get("default_from"))
    values["default_from"] = _address("default_from", sender, problems)
    values["default_tenant"] = _default_tenant(document, environ, problems)
    values["tenancy"] = _tenancy(document.get("tenancy"), problems)
    values["templates"] = _strings("templates", document.get("templates", []), problems)
    values["log_level"] = _choice(
        "log_level", environ.get("MAILGLASS_LOG_LEVEL", document.get("log_level", "info")),
        ("debug", "info", "warning", "error"), problems,
    )  # fmt: skip
    values["log_format"] = _choice(
        "log_format", environ.get("MAILGLASS_LOG_FORMAT", document.get("log_format", "json")),
        ("json", "console"), problems,
    )  # fmt: skip
    values["accounts"] = _accounts(document.get("accounts", {}), problems)
    values["routes"] = _routes(document.get("routes", []), values["accounts"], problems)
    values["streams"] = _streams(document.get("streams", {}), problems)
    values["engine"] = _group(EngineSettings(), "engine", document.get("engine", {}), problems)
    values["webhooks"] = _group(WebhookSettings(), "webhooks", document.get("webhooks", {}), problems)
    values["limits"] = parse_limits(
        document.get("limits", []), accounts=values["accounts"], name=NAME, report=problems.add
    )
    _check_engine(values["engine"], problems)
    return Settings(**values)


def _check_environment(document: dict[str, Any], environ: Mapping[str, str], problems: _Problems) -> None:
    referenced = set(re.findall(r"env:([A-Za-z_][A-Za-z0-9_]*)", repr(document)))
    for name in sorted(environ):
        if name.startswith("MAILGLASS_") and name not in ENVIRONMENT and name not in referenced:
            problems.add(name, "unknown environment variable", f"Unset it. Known are: {', '.join(ENVIRONMENT)}")


_SCHEMES = {
    "database_url": ("postgresql", "postgres", "postgresql+psycopg"),
    "broker_url": ("redis", "rediss", "redis+socket", "amqp", "amqps", "pyamqp", "memory"),
    "redis_url": ("redis", "rediss", "unix"),
}


def _url(key: str, document: dict[str, Any], environ: Mapping[str, str], problems: _Problems) -> Secret | None:
    variable = f"MAILGLASS_{key.upper()}"
    secret: Secret | None = None
    if environ.get(variable):
        secret = Secret(environ[variable], f"env:{variable}")
    elif key in document:
        secret = resolve_secret(document[key], key, environ, problems.add)
    if secret is None or not secret.reveal():
        return None
    scheme = secret.reveal().partition("://")[0]
    if scheme not in _SCHEMES[key]:
        problems.add(key, "an unsupported URL scheme", f"Use one of {', '.join(_SCHEMES[key])}")
        return None
    return secret


def resolve_secret(
    value: object, key: str, environ: Mapping[str, str], report: Callable[[str, str, str], None]
) -> Secret | None:
    """The secret behind `env:NAME` or `file:PATH`; anything else, and a missing one, is reported."""
    if not isinstance(value, str) or not value.startswith(("env:", "file:")):
        report(key, "a secret written out, or of the wrong type", "Give a reference: env:NAME or file:PATH")
        return None
    kind, _, name = value.partition(":")
    if kind == "env":
        if not environ.get(name):
            report(key, f"the environment variable {name} is not set", f"Set {name}, or refer to another one")
            return None
        return Secret(environ[name], value)
    try:
        content = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        report(key, f"the file {name} cannot be read", "Mount it, or refer to another one")
        return None
    if not content:
        report(key, f"the file {name} is empty", "Write the secret into it")
        return None
    return Secret(content, value)


def _address(key: str, value: object, problems: _Problems) -> Address | None:
    if value is None or value == "":
        return None
    try:
        return parse_address(value, key)
    except MessageError:
        problems.add(key, "not an address", 'Write "name@example.com" or "Name <name@example.com>"')
        return None


def _default_tenant(document: dict[str, Any], environ: Mapping[str, str], problems: _Problems) -> str | None:
    value = environ.get("MAILGLASS_DEFAULT_TENANT", document.get("default_tenant", "default"))
    if value == "":
        return None
    if not isinstance(value, str) or not NAME.match(value):
        problems.add("default_tenant", "not a tenant name", "Use 1 to 63 of a-z, 0-9, `_`, `.`, `-`")
        return None
    return value


def _tenancy(value: object, problems: _Problems) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
        problems.add("tenancy", "not a class path", 'Write "package.module:Class"')
        return None
    return value


def _strings(key: str, value: object, problems: _Problems) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        problems.add(key, "wrong type", "Give a list of strings")
        return ()
    return tuple(value)


def _choice(key: str, value: object, allowed: tuple[str, ...], problems: _Problems) -> Any:
    if value not in allowed:
        problems.add(key, "not an allowed value", f"Use one of {', '.join(allowed)}")
        return allowed[0]
    return value


def _accounts(value: object, problems: _Problems) -> dict[str, AccountSettings]:
    accounts: dict[str, AccountSettings] = {}
    if not isinstance(value, dict):
        problems.add("accounts", "wrong type", "Write tables: [accounts.NAME]")
        return accounts
    for name, body in value.items():
        key = f"accounts.{name}"
        if not NAME.match(name):
            problems.add(key, "not an account name", "Use 1 to 63 of a-z, 0-9, `_`, `.`, `-`")
            continue
        if not isinstance(body, dict) or not isinstance(body.get("provider"), str):
            problems.add(f"{key}.provider", "missing", 'Name the provider, for example provider = "smtp"')
            continue
        options = {option: content for option, content in body.items() if option not in _OF_EVERY_ACCOUNT}
        tenant = body.get("tenant")
        if tenant is not None and not (isinstance(tenant, str) and NAME.match(tenant)):
            problems.add(f"{key}.tenant", "not a tenant name", "Use 1 to 63 of a-z, 0-9, `_`, `.`, `-`")
            tenant = None
        sender = _address(f"{key}.from", body.get("from"), problems)
        accounts[name] = AccountSettings(name, body["provider"], sender, options, tenant)
    return accounts


def _routes(value: object, accounts: Mapping[str, AccountSettings], problems: _Problems) -> tuple[Route, ...]:
    if not isinstance(value, list):
        problems.add("routes", "wrong type", "Write an array of tables: [[routes]]")
        return ()
    routes: list[Route] = []
    for index, body in enumerate(value):
        key = f"routes[{index}]"
        if not isinstance(body, dict):
            problems.add(key, "wrong type", "Write an array of tables: [[routes]]")
            continue
        for unknown in sorted(body.keys() - _ROUTE_KEYS):
            problems.add(f"{key}.{unknown}", "unknown setting", f"Known are: {', '.join(sorted(_ROUTE_KEYS))}")
        named = _strings(f"{key}.accounts", body.get("accounts", []), problems)
        if not named:
            problems.add(f"{key}.accounts", "empty", "Name at least one account, in order of preference")
        for account in named:
            if account not in accounts:
                problems.add(
                    f"{key}.accounts", f"unknown account {account!r}", f"Add [accounts.{account}] or correct it"
                )
        tenant, stream, queue = body.get("tenant", "*"), body.get("stream", "*"), body.get("queue", DEFAULT_QUEUE)
        if tenant != "*" and not (isinstance(tenant, str) and NAME.match(tenant)):
            problems.add(f"{key}.tenant", "not a tenant name", "Use a name, or * for any")
        if stream != "*" and stream not in list(Stream):
            problems.add(f"{key}.stream", "not a stream", f"Use {', '.join(Stream)}, or * for any")
        if not (isinstance(queue, str) and QUEUE.match(queue)):
            problems.add(f"{key}.queue", "not a queue name", "Use mailglass, or mailglass.<name>")
        for text in ("domain", "tag"):
            if not isinstance(body.get(text, "*"), str):
                problems.add(f"{key}.{text}", "wrong type", "Give a string, or * for any")
        weights = body.get("weights", [])
        if weights and not (
            isinstance(weights, list) and len(weights) == len(named) and all(_whole(share, 0) for share in weights)
        ):
            problems.add(f"{key}.weights", "not one share for each account", "Give as many whole numbers as accounts")
            weights = []
        for number in ("patience", "concurrency"):
            if number in body and not _whole(body[number], 1):
                problems.add(f"{key}.{number}", "not a whole number above zero", "Give 1 or more")
        routes.append(
            Route(
                named, str(tenant), str(stream), str(queue), str(body.get("domain", "*")).lower(),
                str(body.get("tag", "*")), tuple(weights), body.get("patience", 3), body.get("concurrency"),
            )
        )  # fmt: skip
    if not routes and len(accounts) == 1:
        return (Route(tuple(accounts)),)
    return tuple(routes)


_OF_EVERY_ACCOUNT = frozenset({"provider", "from", "tenant"})
_ROUTE_KEYS = frozenset(item.name for item in fields(Route))


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _streams(value: object, problems: _Problems) -> dict[Stream, StreamPolicy]:
    policies = dict(DEFAULT_POLICIES)
    if not isinstance(value, dict):
        problems.add("streams", "wrong type", "Write tables: [streams.transactional]")
        return policies
    for name, body in value.items():
        if name not in list(Stream):
            problems.add(f"streams.{name}", "unknown stream", f"Known are: {', '.join(Stream)}")
            continue
        policies[Stream(name)] = _group(policies[Stream(name)], f"streams.{name}", body, problems)
    return policies


def _check_engine(engine: EngineSettings, problems: _Problems) -> None:
    if engine.lease < engine.task_budget + engine.send_margin:
        problems.add(
            "engine.lease",
            "shorter than task_budget + send_margin",
            "Make the lease longer: it must outlive a task",
        )


def _group(default: T, key: str, body: object, problems: _Problems) -> T:
    """Override the fields of a flat dataclass of numbers, strings and enums."""
    if not isinstance(body, dict):
        problems.add(key, "wrong type", f"Write a table: [{key}]")
        return default
    known = {item.name: item for item in fields(default)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, value in body.items():
        if name not in known:
            problems.add(f"{key}.{name}", "unknown setting", f"Known are: {', '.join(known)}")
            continue
        current = getattr(default, name)
        try:
            changes[name] = _like(current, value)
        except (TypeError, ValueError) as error:
            problems.add(f"{key}.{name}", "wrong type or value", str(error))
    return replace(default, **changes)  # type: ignore[type-var]


def _like(current: object, value: object) -> object:
    if isinstance(current, UncertainPolicy):
        if value not in list(UncertainPolicy):
            raise ValueError(f"Use one of {', '.join(UncertainPolicy)}")
        return UncertainPolicy(str(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("Give a number")
    if not math.isfinite(value):
        raise ValueError("Give a finite number")
    if value <= 0:
        raise ValueError("Give a number above zero")
    if isinstance(current, int):
        if int(value) != value:
            raise TypeError("Give a whole number")
        return int(value)
    return float(value)


def build_options(cls: type[T], raw: Mapping[str, Any], key: str, environ: Mapping[str, str] | None = None) -> T:
    """Fill a provider's frozen `Options` dataclass from the account's table.

    Understands fields of type str, int, float, bool, `Secret`, `Literal[...]`, their tuples and their `| None`, and
    tuples of further frozen dataclasses, written as an array of tables: `[[accounts.NAME.OPTION]]`.

    Args:
        cls: the dataclass.
        raw: the table as written.
        key: `accounts.<name>`, for errors.
        environ: where `env:` references are looked up; os.environ when left out.

    Raises:
        ConfigError: an unknown option, a missing one, a wrong type, a secret that is not there.
    """
    problems = _Problems()
    values = _option_values(cls, raw, key, os.environ if environ is None else environ, problems)
    problems.raise_if_any()
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{key}.{error.key}", error.problem, error.remedy) from None


def _option_values(
    cls: type, raw: Mapping[str, Any], key: str, environ: Mapping[str, str], problems: _Problems
) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    known = {item.name: item for item in fields(cls)}
    for name in sorted(raw.keys() - known.keys()):
        problems.add(f"{key}.{name}", "unknown option", f"Known are: {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, item in known.items():
        if name in raw:
            values[name] = _option(hints[name], raw[name], f"{key}.{name}", environ, problems)
        elif item.default is MISSING and item.default_factory is MISSING:
            problems.add(f"{key}.{name}", "missing", f"Add {name} to [{key}]")
    return values


def _option_table(hint: Any, value: Any, key: str, environ: Mapping[str, str], problems: _Problems) -> Any:
    """One table of an array of tables; None where something in it is wrong."""
    if not isinstance(value, Mapping):
        problems.add(key, f"wrong type ({type(value).__name__})", f"Write tables: [[{key.partition('[')[0]}]]")
        return None
    before = len(problems.found)
    values = _option_values(hint, value, key, environ, problems)
    if len(problems.found) > before:
        return None
    try:
        return hint(**values)
    except ConfigError as error:
        problems.add(f"{key}.{error.key}", error.problem, error.remedy)
        return None


def _option(hint: Any, value: Any, key: str, environ: Mapping[str, str], problems: _Problems) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        (hint,) = [argument for argument in arguments if argument is not type(None)]
        return _option(hint, value, key, environ, problems)
    if origin is tuple:
        items = value if isinstance(value, list) else [value]
        if is_dataclass(arguments[0]):
            return tuple(
                _option_table(arguments[0], item, f"{key}[{index}]", environ, problems)
                for index, item in enumerate(items)
            )
        return tuple(_option(arguments[0], item, key, environ, problems) for item in items)
    if origin is Literal:
        return _choice(key, value, arguments, problems)
    if hint is Secret:
        return resolve_secret(value, key, environ, problems.add)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) is not (hint is bool) or not isinstance(value, hint):
        problems.add(key, f"wrong type ({type(value).__name__})", f"Give a {hint.__name__}")
        return None
    return value
