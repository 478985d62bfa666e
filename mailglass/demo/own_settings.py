"""An application's own settings, as `mailglass dev` runs them: everything as written, and every account caught here."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final

from mailglass.errors import ConfigError
from mailglass.settings.django import DjangoSettings, django_settings

# what an account keeps: who it is. How its provider is reached and paid for does not matter here.
_KEPT: Final = ("from", "tenant", "warmup")
# where the local stack stands instead
_SERVERS: Final = ("database_url", "broker_url", "redis_url")


def find(environ: Mapping[str, str], directory: Path) -> Path | DjangoSettings | None:
    """Return the application's own settings, or None if it has none.

    They are the file that MAILGLASS_CONFIG names, else `MAILGLASS` of its Django settings, else `mailglass.toml`.

    Raises:
        ConfigError: its Django settings cannot be imported.
    """
    named = environ.get("MAILGLASS_CONFIG")
    if named:
        return Path(named).absolute()
    host = django_settings(environ)
    if host is not None and host.document is not None:
        return host
    file = directory / "mailglass.toml"
    return file.absolute() if file.is_file() else None


def caught(own: Path | DjangoSettings, smtp_port: int, username: str, password: str) -> str:
    """Return settings, as TOML, whose accounts hand every mail to a local SMTP server.

    Args:
        own: the application's.
        smtp_port: where the server listens, on 127.0.0.1.
        username: of the server.
        password: a reference, such as `env:NAME`.

    Raises:
        ConfigError: the file cannot be read.
    """
    document = _read(own) if isinstance(own, Path) else dict(own.document or {})
    for name in _SERVERS:
        document.pop(name, None)
    accounts = document.get("accounts")
    if isinstance(accounts, dict):
        server = {
            "provider": "smtp",
            "host": "127.0.0.1",
            "port": smtp_port,
            "security": "none",
            "username": username,
            "password": password,
        }
        document["accounts"] = {
            name: {**{key: body[key] for key in _KEPT if key in body}, **server} if isinstance(body, dict) else body
            for name, body in accounts.items()
        }
    domains = document.get("domains", {})
    # no mail goes out, so nothing is asked of DNS about its domains either
    document["domains"] = {**domains, "watch": False} if isinstance(domains, dict) else domains
    return "\n".join(_pairs(document)) + "\n"


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("MAILGLASS_CONFIG", f"cannot read {file} ({error.strerror})", "Correct the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), f"not valid TOML ({error})", "Correct the line it names") from None


def _pairs(table: Mapping[str, Any]) -> list[str]:
    # None, which Django's settings may hold, is a key left out in TOML
    return [f"{_key(name)} = {_value(value)}" for name, value in table.items() if value is not None]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(_pairs(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, float):
        # TOML writes inf and nan as Python does
        return repr(value)
    return _key(value) if isinstance(value, str) else json.dumps(value)


def _key(text: str) -> str:
    """Return a basic string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
