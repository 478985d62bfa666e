"""Settings that a Django project holds: `MAILGLASS = {...}`, and the database that `DATABASES` names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote, urlencode

from mailglass.errors import ConfigError
from mailglass.mail.texts import evaluated
from mailglass.settings.secrets import Secret

APP: Final = "mailglass.integrations.django"
DEFAULT_ALIAS: Final = "default"
# Django's own options of a PostgreSQL connection; the others are libpq's
_OF_DJANGO: Final = frozenset(
    "assume_role client_encoding context cursor_factory isolation_level options pool prepare_threshold row_factory "
    "server_side_binding".split()
)


@dataclass(frozen=True, slots=True)
class DjangoSettings:
    """The part of a Django project's settings that concerns mailglass.

    Attributes:
        module: the settings' module, such as `shop.settings`.
        document: `MAILGLASS` in the shape of `mailglass.toml`, or None if it is not set.
        alias: the database of `DATABASES` whose transaction a mail joins.
        database_url: that database, or None if it is not PostgreSQL.
    """

    module: str
    document: Mapping[str, Any] | None
    alias: str
    database_url: Secret | None


def django_settings(environ: Mapping[str, str]) -> DjangoSettings | None:
    """Return what this process's Django settings say, or None if it has none or they do not concern mailglass.

    They do if they set `MAILGLASS`, or install the app. A process has Django settings if `DJANGO_SETTINGS_MODULE` names
    them, as a worker's does, or if it has configured them.

    Args:
        environ: the environment.

    Raises:
        ConfigError: they cannot be imported, or `MAILGLASS` is no dict, or names an unknown database.
    """
    settings = _loaded(environ)
    if settings is None:
        return None
    given = getattr(settings, "MAILGLASS", None)
    apps = [str(app) for app in settings.INSTALLED_APPS]
    if given is None and not any(app == APP or app.startswith(f"{APP}.") for app in apps):
        return None
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError("MAILGLASS", "wrong type", "Write a dict with the keys of mailglass.toml")
    document = None if given is None else _plain(given)
    alias = DEFAULT_ALIAS if document is None else document.pop("database", DEFAULT_ALIAS)
    databases = settings.DATABASES
    if alias not in databases and (alias != DEFAULT_ALIAS or databases):
        known = ", ".join(sorted(databases)) or "none"
        raise ConfigError("MAILGLASS: database", "names no database of DATABASES", f"Known are: {known}")
    module = str(getattr(settings, "SETTINGS_MODULE", None) or "settings.configure()")
    return DjangoSettings(module, document, alias, database_url(alias, databases.get(alias, {})))


def database_url(alias: str, database: Mapping[str, Any]) -> Secret | None:
    """Return the URL of one of Django's databases, or None if it is not PostgreSQL.

    Args:
        alias: its name in `DATABASES`.
        database: its settings there.
    """
    engine = str(database.get("ENGINE", "")).lower()
    if "postg" not in engine and "psql" not in engine:
        return None
    options = {
        name: str(value) for name, value in (database.get("OPTIONS") or {}).items() if name.lower() not in _OF_DJANGO
    }
    host = str(database.get("HOST") or "")
    if "/" in host or "," in host:
        # a socket's directory, or several hosts
        options, host = {"host": host, **options}, ""
    if port := str(database.get("PORT") or ""):
        options, port = ({"port": port, **options}, "") if not host else (options, f":{port}")
    user, password = (quote(str(database.get(name) or ""), safe="") for name in ("USER", "PASSWORD"))
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    if ":" in host:
        host = f"[{host}]"
    query = f"?{urlencode(options)}" if options else ""
    name = quote(str(database.get("NAME") or ""), safe="")
    return Secret(f"postgresql://{login}{host}{port}/{name}{query}", reference_of(alias))


def reference_of(alias: str) -> str:
    """Return where one of Django's databases stands, for people."""
    return f"DATABASES[{alias!r}]"


def _loaded(environ: Mapping[str, str]) -> Any:
    """Return Django's settings object once it is sure that it can be read, or None."""
    named = environ.get("DJANGO_SETTINGS_MODULE")
    if not named and "django.conf" not in sys.modules:
        return None
    try:
        from django.conf import settings
    except ImportError:
        # a process without Django, in the environment of one with it
        return None
    if not named and not settings.configured:
        return None
    try:
        _ = settings.INSTALLED_APPS
    except Exception as error:
        problem = type(error).__name__
    else:
        return settings
    raise ConfigError(
        "DJANGO_SETTINGS_MODULE",
        f"the Django settings that it names cannot be imported ({problem})",
        "Start the command in the directory of manage.py as `python manage.py mailglass ...`, or unset it",
    )


def _plain(value: Any) -> Any:
    """Return a value of Python's as TOML would give it: dicts, lists and strings."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else evaluated(value, "MAILGLASS")
