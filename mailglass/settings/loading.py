"""The settings of one process: read from file and environment, checked as a whole, kept."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from mailglass.errors import ConfigError
from mailglass.mail.addresses import Address
from mailglass.mail.recipients import RecipientPolicy
from mailglass.mail.streams import DEFAULT_POLICIES, Stream, StreamPolicy
from mailglass.settings.accounts import AccountSettings, parse_accounts
from mailglass.settings.django import DjangoSettings, django_settings
from mailglass.settings.domains import DomainSettings, parse_domains
from mailglass.settings.environment import UnknownVariable, unknown_variables
from mailglass.settings.environments import check_variables, parse_environments
from mailglass.settings.limits import LimitRule, parse_limits
from mailglass.settings.problems import Problems
from mailglass.settings.queues import parse_queues, parse_tasks
from mailglass.settings.routes import DEFAULT_QUEUE, Route, parse_routes
from mailglass.settings.secrets import Secret, resolve_secret
from mailglass.settings.sections import (
    EngineSettings,
    WebhookSettings,
    check_engine,
    check_webhooks,
    parse_section,
    parse_streams,
)
from mailglass.settings.server_urls import ENCODE, UNREADABLE, is_readable
from mailglass.settings.values import NAME, NAME_REMEDY, address, choice, flag, strings


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one process; build it with `load_settings`.

    Attributes:
        database_url: the ledger's PostgreSQL.
        broker_url: Celery's broker, Redis or RabbitMQ.
        redis_url: a Redis for rings and limits, if the broker is none.
        default_from: sender of messages that name none, if the account names none either.
        default_tenant: tenant of calls outside of any `tenant()` block; "" for none, so that such a call is an error.
        tenancy: `package.module:Class` of hooks that decide routes, limits and tenants by code.
        templates: directories where templates are looked for, after `templates/` beside a mailable's module.
        log_level: `debug`, `info`, `warning` or `error`.
        log_format: `json` or `console`.
        show_content: whether `mailglass deliveries show --content` shows content.
        accounts: by name.
        routes: the first one that matches counts.
        queues: those that routes from code use.
        tasks: the queue of a task, by the task's name.
        streams: the policy of each.
        engine: how workers claim and send.
        webhooks: bounds of the endpoint.
        limits: that all workers share.
        domains: the watch of sending domains.
        pooler: what stands before the database; `transaction`: a pooler in transaction mode, such as PgBouncer.
        direct_database_url: the database past its pooler, for `mailglass db`.
        environment: the name of the environment, such as `staging`; None: none is named.
        recipients: who may get mail in this environment; None: everybody, as in production.
        file: the TOML file that was read; None: there was none.
        django: the module of the Django settings whose `MAILGLASS` was read instead; None: it was not.
        unknown_variables: what looked like a setting in the environment, and is ignored.
    """

    database_url: Secret = field(default_factory=lambda: Secret(""))
    broker_url: Secret = field(default_factory=lambda: Secret(""))
    redis_url: Secret | None = None
    default_from: Address | None = None
    default_tenant: str | None = "default"
    tenancy: str | None = None
    templates: tuple[str, ...] = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    show_content: bool = False
    accounts: Mapping[str, AccountSettings] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    queues: tuple[str, ...] = ()
    tasks: Mapping[str, str] = field(default_factory=dict)
    streams: Mapping[Stream, StreamPolicy] = field(default_factory=lambda: dict(DEFAULT_POLICIES))
    engine: EngineSettings = field(default_factory=EngineSettings)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    limits: tuple[LimitRule, ...] = ()
    domains: DomainSettings = field(default_factory=DomainSettings)
    pooler: Literal["none", "transaction"] = "none"
    direct_database_url: Secret | None = None
    environment: str | None = None
    recipients: RecipientPolicy | None = None
    file: Path | None = None
    django: str | None = None
    unknown_variables: tuple[UnknownVariable, ...] = ()

    @property
    def queue_names(self) -> list[str]:
        """Every queue that a route, a task or `queues` names, and the one that serves the rest."""
        named = {*self.queues, *self.tasks.values(), *(route.queue for route in self.routes)}
        return sorted({DEFAULT_QUEUE, *named})

    @property
    def source(self) -> str | None:
        """The file or the Django settings that were read; None if the environment says all."""
        if self.django is not None:
            return f"MAILGLASS of {self.django}"
        return None if self.file is None else str(self.file)

    @property
    def pooled(self) -> bool:
        """True if a pooler shares the database's sessions."""
        return self.pooler == "transaction"

    def require_schema_database(self) -> str:
        """Return the URL by which the schema is changed: past the pooler, if one is given."""
        direct = self.direct_database_url
        return direct.reveal() if direct is not None else self.require_database()

    def require_database(self) -> str:
        """Return the database's URL, or a `ConfigError` that says where to put it."""
        if not self.database_url.reveal():
            raise ConfigError(
                "MAILGLASS_DATABASE_URL",
                "not set",
                "Set it to a PostgreSQL URL, or run `mailglass dev` for a local stack",
            )
        return self.database_url.reveal()

    def require_broker(self) -> str:
        """Return the broker's URL, or a `ConfigError` that says where to put it."""
        if not self.broker_url.reveal():
            raise ConfigError(
                "MAILGLASS_BROKER_URL",
                "not set",
                "Set it to a redis:// or amqp:// URL, or run `mailglass dev` for a local stack",
            )
        return self.broker_url.reveal()


def load_settings(environ: Mapping[str, str] | None = None, path: str | Path | None = None) -> Settings:
    """Read and check everything.

    >>> from mailglass import load_settings
    >>> load_settings({"MAILGLASS_DATABASE_URL": "postgresql:///shop"}).log_level
    'info'

    In a process of a Django project `MAILGLASS` of Django's settings takes the place of the file, unless
    `MAILGLASS_CONFIG` names the one that `mailglass dev` wrote.

    Args:
        environ: the environment; os.environ when left out.
        path: the TOML file; else `MAILGLASS_CONFIG`, else `mailglass.toml` in the working directory if it is there.
            With an environment or a file of your own, Django's settings are not asked.

    Raises:
        ConfigError: names the first wrong key and its remedy, and lists the others.
    """
    host = django_settings(os.environ) if environ is None and path is None else None
    environ = os.environ if environ is None else environ
    file, document = _document_of(host, environ) or _read_document(environ, path)
    problems = Problems()
    settings = _parse(document, environ, problems)
    problems.raise_if_any()
    if host is None:
        return replace(settings, file=file)
    if host.database_url is not None and not settings.database_url.reveal():
        settings = replace(settings, database_url=host.database_url)
    return replace(settings, file=file, django=host.module if file is None and host.document is not None else None)


# where `mailglass dev` keeps what it writes, below the application's directory
DEVELOPMENT_DIRECTORY: Final = ".mailglass"
_current: Settings | None = None


def get_settings() -> Settings:
    """Return the process's settings, loaded at the first call."""
    global _current
    if _current is None:
        _current = load_settings()
    return _current


def configure(settings: Settings | None) -> None:
    """Use these settings in this process; None forgets them, so that the next call loads them again.

    >>> from mailglass import configure, load_settings
    >>> configure(load_settings({"MAILGLASS_DATABASE_URL": "postgresql:///shop"}))
    """
    global _current
    _current = settings


def _document_of(host: DjangoSettings | None, environ: Mapping[str, str]) -> tuple[None, dict[str, Any]] | None:
    """Return `MAILGLASS` of Django's settings, or None where a file is to be read.

    A file of `mailglass dev` goes first: it catches the mail of the project that sources `dev.env`.
    """
    if host is None or host.document is None:
        return None
    if named := environ.get("MAILGLASS_CONFIG"):
        if Path(named).parent.name == DEVELOPMENT_DIRECTORY:
            return None
        raise ConfigError(
            "MAILGLASS_CONFIG",
            f"names a settings file, and {host.module} sets MAILGLASS",
            "Keep one of the two: unset the variable and leave out --config, or delete MAILGLASS",
        )
    return None, dict(host.document)


def _read_document(environ: Mapping[str, str], path: str | Path | None) -> tuple[Path | None, dict[str, Any]]:
    named = path or environ.get("MAILGLASS_CONFIG")
    file = Path(named) if named else Path("mailglass.toml")
    try:
        with file.open("rb") as stream:
            return file.absolute(), tomllib.load(stream)
    except FileNotFoundError:
        if not named:
            return None, {}
        raise ConfigError("MAILGLASS_CONFIG", f"no file at {file}", "Correct the path or unset it") from None
    except OSError as error:
        raise ConfigError(
            "MAILGLASS_CONFIG", f"cannot read {file} ({error.strerror})", "Check its permissions"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), f"not valid TOML ({error})", "Correct the line it names") from None


_TOP_LEVEL = {
    "database_url",
    "direct_database_url",
    "pooler",
    "broker_url",
    "redis_url",
    "default_from",
    "default_tenant",
    "tenancy",
    "templates",
    "log_level",
    "log_format",
    "show_content",
    "accounts",
    "routes",
    "queues",
    "tasks",
    "streams",
    "engine",
    "webhooks",
    "limits",
    "domains",
    "environment",
    "environments",
}


def _parse(document: dict[str, Any], environ: Mapping[str, str], problems: Problems) -> Settings:
    for key in sorted(document.keys() - _TOP_LEVEL):
        problems.add(key, "unknown setting", f"Known are: {', '.join(sorted(_TOP_LEVEL))}")
    referenced = set(re.findall(r"env:([A-Za-z_][A-Za-z0-9_]*)", repr(document)))
    values: dict[str, Any] = {}
    for key in ("database_url", "direct_database_url", "broker_url", "redis_url"):
        secret = _url(key, document, environ, problems)
        if secret is not None:
            values[key] = secret
    sender = environ.get("MAILGLASS_DEFAULT_FROM", document.get("default_from"))
    values["default_from"] = address("default_from", sender, problems)
    values["default_tenant"] = _default_tenant(document, environ, problems)
    values["tenancy"] = _tenancy(document.get("tenancy"), problems)
    values["templates"] = strings("templates", document.get("templates", []), problems)
    values["log_level"] = choice(
        "log_level",
        environ.get("MAILGLASS_LOG_LEVEL", document.get("log_level", "info")),
        ("debug", "info", "warning", "error"),
        problems,
    )
    values["log_format"] = choice(
        "log_format",
        environ.get("MAILGLASS_LOG_FORMAT", document.get("log_format", "json")),
        ("json", "console"),
        problems,
    )
    values["show_content"] = flag("show_content", document.get("show_content", False), problems)
    values["pooler"] = choice(
        "pooler", environ.get("MAILGLASS_POOLER", document.get("pooler", "none")), ("none", "transaction"), problems
    )
    values["accounts"] = parse_accounts(document.get("accounts", {}), problems)
    values["routes"] = parse_routes(document.get("routes", []), values["accounts"], problems)
    values["queues"] = parse_queues(document.get("queues", []), problems)
    values["tasks"] = parse_tasks(document.get("tasks", {}), problems)
    values["streams"] = parse_streams(document.get("streams", {}), problems)
    values["engine"] = parse_section(EngineSettings(), "engine", document.get("engine", {}), problems)
    values["webhooks"] = parse_section(WebhookSettings(), "webhooks", document.get("webhooks", {}), problems)
    values["limits"] = parse_limits(
        document.get("limits", []), accounts=values["accounts"], name=NAME, report=problems.add
    )
    values["domains"] = parse_domains(document.get("domains", {}), problems)
    check_engine(values["engine"], problems)
    check_webhooks(values["webhooks"], problems)
    values["environment"], values["recipients"] = parse_environments(document, environ, problems)
    values["unknown_variables"] = unknown_variables(environ, referenced)
    check_variables(values["unknown_variables"], problems)
    return Settings(**values)


_SCHEMES = {
    "database_url": ("postgresql", "postgres", "postgresql+psycopg"),
    "direct_database_url": ("postgresql", "postgres", "postgresql+psycopg"),
    "broker_url": ("redis", "rediss", "redis+socket", "amqp", "amqps", "pyamqp", "memory"),
    "redis_url": ("redis", "rediss", "unix"),
}


def _url(key: str, document: dict[str, Any], environ: Mapping[str, str], problems: Problems) -> Secret | None:
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
    if not is_readable(key, secret.reveal()):
        problems.add(key, UNREADABLE, ENCODE)
        return None
    return secret


def _default_tenant(document: dict[str, Any], environ: Mapping[str, str], problems: Problems) -> str | None:
    value = environ.get("MAILGLASS_DEFAULT_TENANT", document.get("default_tenant", "default"))
    if value == "":
        return None
    if not isinstance(value, str) or not NAME.match(value):
        problems.add("default_tenant", "not a tenant name", NAME_REMEDY)
        return None
    return value


def _tenancy(value: object, problems: Problems) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
        problems.add("tenancy", "not a class path", 'Write "package.module:Class"')
        return None
    return value
