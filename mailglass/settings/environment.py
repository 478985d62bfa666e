"""The environment variables that mailglass knows, and what it makes of others that begin like them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

ENVIRONMENT = {
    "MAILGLASS_CONFIG": "path of the TOML file (default: mailglass.toml in the working directory, if there is one)",
    "MAILGLASS_DATABASE_URL": "PostgreSQL, for example postgresql://user@host/mailglass",
    "MAILGLASS_POOLER": "none, or transaction where a pooler such as PgBouncer stands before the database",
    "MAILGLASS_DIRECT_DATABASE_URL": "the database past its pooler, for `mailglass db`",
    "MAILGLASS_BROKER_URL": "redis://, rediss:// or amqp:// URL of Celery's broker",
    "MAILGLASS_REDIS_URL": "where doorbells ring when the broker is not Redis; without it they ring in PostgreSQL",
    "MAILGLASS_DEFAULT_FROM": "sender of messages that name none",
    "MAILGLASS_DEFAULT_TENANT": "tenant outside any tenant() block; empty: there is none",
    "MAILGLASS_ENVIRONMENT": "name of this environment: production, or one of the tables [environments.NAME]",
    "MAILGLASS_ALLOW": "patterns of addresses that may get mail here, with commas: *@example.com",
    "MAILGLASS_REDIRECT_TO": "mailbox that gets all other mail; without it such mail is refused",
    "MAILGLASS_SUBJECT_MARK": "text before every subject here, such as [staging]",
    "MAILGLASS_HEARTBEATS": "directory of the heartbeats that `mailglass probe` reads (default: a temporary one)",
    "MAILGLASS_LOG_LEVEL": "debug, info, warning or error",
    "MAILGLASS_LOG_FORMAT": "json or console",
}

_PREFIX = "MAILGLASS_"
# what Kubernetes puts into every pod beside a Service called mailglass, or mailglass-something
_SERVICE_LINK = re.compile(
    r"MAILGLASS(?:_[A-Z0-9_]+)?_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"MAILGLASS(?:_[A-Z0-9_]+)?_PORT")
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """A variable that begins with `MAILGLASS_` and means nothing.

    Attributes:
        name: the variable's.
        nearest: the known variable whose name is most like it.
    """

    name: str
    nearest: str

    def __str__(self) -> str:
        return f"unknown environment variable {self.name}: it is ignored; the nearest known one is {self.nearest}"


def unknown_variables(environ: Mapping[str, str], referenced: Collection[str] = ()) -> tuple[UnknownVariable, ...]:
    """Return the variables that look like settings and are none, in the order of their names.

    Args:
        environ: the environment.
        referenced: variables that the settings file refers to as `env:NAME`.
    """
    names = [
        name
        for name in sorted(environ)
        if name.startswith(_PREFIX)
        and name not in ENVIRONMENT
        and name not in referenced
        and not _is_service_link(name, environ[name])
    ]
    return tuple(UnknownVariable(name, _nearest(name)) for name in names)


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_LINK.fullmatch(name):
        return True
    return bool(_SERVICE_PORT.fullmatch(name) and _SERVICE_URL.match(value))


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    return get_close_matches(name.upper(), ENVIRONMENT, n=1, cutoff=0.0)[0]
