"""Taken for granted: a project of Django in the page's directory, with a user, a request and an order."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django
from django.conf import UserSettingsHolder, global_settings, settings
from django.db import connections
from django.utils.functional import empty

FILES = {
    "manage.py": """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
    "shop/__init__.py": "",
    "shop/settings.py": """
import os
import django
from psycopg.conninfo import conninfo_to_dict
SECRET_KEY = "no secret"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "mailglass.integrations.django"]
DEFAULT_FROM_EMAIL = "shop@example.com"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": ["templates"]}]
USE_TZ = True
BACKEND = "mailglass.integrations.django.EmailBackend"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": BACKEND}}
else:
    EMAIL_BACKEND = BACKEND
_url = conninfo_to_dict(os.environ["MAILGLASS_DATABASE_URL"])
_names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        **{name: str(_url.get(key, "")) for name, key in _names.items()},
    }
}
""",
    "templates/shop/receipt.html": "<p>Order {{ order.number }}</p>",
}
for name, source in FILES.items():
    written = Path(name)
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(source, encoding="utf-8")
holder: Any = UserSettingsHolder(global_settings)
for name, value in runpy.run_path("shop/settings.py").items():
    if name.isupper():
        setattr(holder, name, value)
settings._wrapped = holder
vars(connections).pop("settings", None)
connections._settings = None
django.setup()
user: Any = SimpleNamespace(email="user@example.com")
order: Any = SimpleNamespace(email="order@example.com", save=lambda: None)
request: Any = SimpleNamespace()


def close() -> None:
    """Leave Django as unconfigured as it was."""
    connections.close_all()
    vars(connections).pop("settings", None)
    connections._settings = None
    del connections["default"]
    settings._wrapped = empty
    sys.modules.pop("shop", None)
