"""A Django project in this process, whose settings are there for one test at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import django
import pytest
from django.conf import UserSettingsHolder, global_settings, settings
from django.db import connections
from django.utils.functional import empty
from psycopg.conninfo import conninfo_to_dict

from mailglass.settings import configure

BACKEND = "mailglass.integrations.django.EmailBackend"
# from 6.1 on EMAIL_BACKEND and what goes with it are deprecated
HAS_MAILERS = django.VERSION >= (6, 1)
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "mailglass.integrations.django",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {},
    }
]


def database(url: str, **options: Any) -> dict[str, Any]:
    """The URL of a database as an entry of DATABASES."""
    parts = conninfo_to_dict(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts["dbname"],
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
        "HOST": parts.get("host", ""),
        "PORT": str(parts.get("port", "")),
        **options,
    }


@contextmanager
def project(databases: dict[str, Any] | None = None, **values: Any) -> Iterator[Any]:
    """Settings of a project. After it Django is not configured any more, so that other tests do not meet it."""
    holder = UserSettingsHolder(global_settings)
    defaults = {
        "SECRET_KEY": "no secret",
        "INSTALLED_APPS": INSTALLED_APPS,
        "TEMPLATES": TEMPLATES,
        "USE_TZ": True,
        "DATABASES": deepcopy(databases or {}),
        "DEFAULT_FROM_EMAIL": "shop@example.com",
        **({"MAILERS": {"default": {"BACKEND": BACKEND}}} if HAS_MAILERS else {"EMAIL_BACKEND": BACKEND}),
    }
    for name, value in {**defaults, **values, "INSTALLED_APPS": INSTALLED_APPS}.items():
        setattr(holder, name, value)
    settings._wrapped = holder
    try:
        # a process loads its apps once, whichever test is the first: always the same ones
        django.setup()
        settings.INSTALLED_APPS = values.get("INSTALLED_APPS", INSTALLED_APPS)
        vars(connections)["settings"] = connections.configure_settings(holder.DATABASES)
        configure(None)
        yield holder
    finally:
        for connection in connections.all(initialized_only=True):
            connection.close()
            if connection.settings_dict.get("OPTIONS", {}).get("pool"):
                connection.close_pool()
            delattr(connections._connections, connection.alias)
        vars(connections).pop("settings", None)
        connections._settings = None
        settings._wrapped = empty
        configure(None)


@pytest.fixture
def shop(cluster: Any) -> Iterator[Any]:
    """A project whose default database is the ledger's."""
    with project({"default": database(cluster.environment["MAILGLASS_DATABASE_URL"])}) as holder:
        yield holder
