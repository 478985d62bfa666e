"""Leaving a platform running: where everything is, and keeping it alive until somebody says stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

from mailglass.demo.assembly import Platform

_INTERVAL = 0.2
_TERMINATED = 128 + signal.SIGTERM


def places(platform: Platform, *, secrets: bool = False) -> dict[str, str]:
    """Return the URLs of its parts.

    Args:
        platform: the running platform.
        secrets: with the passwords of database and broker.
    """
    environment = platform.environment
    database, broker = environment["MAILGLASS_DATABASE_URL"], environment["MAILGLASS_BROKER_URL"]
    return {
        "web": platform.web_url,
        "mails": f"{platform.lab.http_url}/mails",
        "lab": f"{platform.lab.http_url}/lab/counts",
        "smtp": f"127.0.0.1:{platform.lab.smtp_port}",
        "database": database if secrets else without_password(database),
        "broker": broker if secrets else without_password(broker),
        "settings": str(platform.settings_file),
        "environment": str(platform.environment_file),
        "logs": str(platform.logs),
    }


def invitation(platform: Platform) -> Iterator[str]:
    """Yield commands to try in another shell."""
    yield f". {platform.environment_file}"
    yield "celery -A mailglass inspect ping"
    yield "celery -A mailglass flower"
    yield "mailglass deliveries --help"


def without_password(url: str) -> str:
    """Return the URL with its password hidden."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, at = parts.netloc.rpartition("@")[0].partition(":")[0], parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:***@{at}"))


def keep(platform: Platform, also: Callable[[], None] = lambda: None) -> NoReturn:
    """Keep it alive for ever: until KeyboardInterrupt.

    Args:
        platform: the running platform.
        also: called at every round.

    Raises:
        StackError: a part of it is gone for good.
    """
    while True:
        platform.look()
        also()
        time.sleep(_INTERVAL)


def end_on_sigterm() -> None:
    """Have SIGTERM end this process in order, as Ctrl-C does, with exit code 143; for the main thread."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(_TERMINATED)

    signal.signal(signal.SIGTERM, end)
