"""Importing what says what to send: no settings are read, no database driver is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mailglass

FIRST_USE = "from mailglass import Message, deliver_later"
HEAVY = ("sqlalchemy", "psycopg", "httpx", "jinja2", "redis", "alembic", "kombu.transport.redis", "celery.worker")


def python(code: str, directory: Path, **variables: str) -> str:
    """Run code in a process of its own and return what it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAILGLASS_", "DJANGO_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=directory, env=environment | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_first_use_loads_celery_and_no_driver_of_anything_else(tmp_path: Path) -> None:
    code = f"{FIRST_USE}, deliver, deliver_many, Mailable, tenant\nimport sys\nprint(*sys.modules)"
    loaded = set(python(code, tmp_path).split())
    assert not loaded & set(HEAVY)
    assert not {name for name in loaded if name.startswith(("mailglass.providers.", "mailglass.engine"))}


def test_the_first_use_loads_few_modules_beyond_celerys_own(tmp_path: Path) -> None:
    report = "\nimport sys\nprint(*sys.modules)"
    ours = set(python(FIRST_USE + report, tmp_path).split())
    celerys = set(python("from celery import Celery, Task\nCelery('app')" + report, tmp_path).split())
    beyond = {name for name in ours - celerys if not name.startswith("mailglass")}
    assert beyond <= {"mimetypes", "winreg", "_winapi", "winapi"}
    assert len(ours - celerys) <= 20


WRONG = {
    "a missing file": {"MAILGLASS_CONFIG": "missing.toml"},
    "a wrong value": {"MAILGLASS_LOG_LEVEL": "loud"},
    "a wrong URL": {"MAILGLASS_DATABASE_URL": "mysql://x"},
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_settings_show_at_the_first_call_and_not_by_an_import(tmp_path: Path, what: str) -> None:
    code = f"""
from mailglass import *
from mailglass import Mailable, Message, app, deliver_later

class Welcome(Mailable):
    subject = "Hello"
    text = "Hello"

message = Message(to="ada@example.com", subject="Hello", text="Hello", from_="shop@example.com")
signature = repr(deliver_later), deliver_later.name, deliver_later.AsyncResult
print("imported")
for call in (lambda: deliver_later.delay(message), lambda: deliver_later(message)):
    try:
        call()
    except {mailglass.ConfigError.__module__}.ConfigError as error:
        print("refused")
"""
    said = python(f"import {mailglass.ConfigError.__module__}\n{code}", tmp_path, **WRONG[what])
    assert said.split() == ["imported", "refused", "refused"]


def test_deliver_later_is_a_task_of_the_app_whichever_is_used_first(tmp_path: Path) -> None:
    for code in (
        "from mailglass import deliver_later, app; app.tasks",
        "from mailglass import app; app.tasks; from mailglass import deliver_later",
        "from mailglass import deliver_later, app; deliver_later.s(1).app",
    ):
        check = "; print(app.tasks['mailglass.deliver_later'] is deliver_later, deliver_later.app is app)"
        assert python(code + check, tmp_path).split() == ["True", "True"]


def test_an_unknown_variable_keeps_no_application_from_importing_and_is_warned_of_once(tmp_path: Path) -> None:
    code = f"""
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
{FIRST_USE}
from mailglass.errors import MailglassError
for _ in range(2):
    try:
        deliver_later.delay(Message(to="ada@example.com", subject="Hello", text="Hello", from_="shop@example.com"))
    except MailglassError as error:
        print(type(error).__name__)
"""
    said = python(code, tmp_path, MAILGLASS_DATABASE="postgresql://hunter2@x", MAILGLASS_SERVICE_HOST="10.0.0.1")
    assert said.count("WARNING") == 1
    assert "MAILGLASS_DATABASE nearest=MAILGLASS_DATABASE_URL" in said.replace("variable=", "")
    assert "hunter2" not in said and "SERVICE_HOST" not in said
