"""A Django project on gunicorn and uvicorn: signed webhooks, refusals, the command, and a worker with its settings."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mailglass.ledger import deliveries
from mailglass.stack.process import ChildProcess, until_line
from mailglass.wiring.doctor import diagnose
from tests.django_project import database
from tests.integration.test_django_send_mail import sent
from tests.signed_webhooks import ENVIRONMENT, event, post, stored

SETTINGS = """
import os
SECRET_KEY = "no secret"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
DATABASES = {"default": %(database)r}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "mailglass.integrations.django",
]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
USE_TZ = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
import django
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": "mailglass.integrations.django.EmailBackend"}}
else:
    EMAIL_BACKEND = "mailglass.integrations.django.EmailBackend"
MAILGLASS = {
    "broker_url": "env:BROKER",
    "default_from": "Shop <shop@example.com>",
    "log_format": "console",
    "accounts": {
        "relay": {"provider": "smtp", "host": "127.0.0.1", "port": %(port)d, "security": "none"},
        "gun": {
            "provider": "mailgun",
            "domain": "mg.example.com",
            "api_key": "env:MAILGUN_KEY",
            "webhook_signing_keys": ("env:MAILGUN_SIGNING_KEY",),
        },
    },
    "routes": [{"accounts": ["relay"]}],
    "webhooks": {"max_body": 5000},
    "engine": {"lease": 12, "task_budget": 4, "send_margin": 6, "ring_timeout": 1},
}
"""
FILES = {
    "manage.py": (
        "import os, sys\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    ),
    "shop/__init__.py": "",
    "shop/urls.py": (
        "from django.urls import include, path\n"
        "urlpatterns = [path('mailglass/', include('mailglass.integrations.django.urls'))]\n"
    ),
    "shop/wsgi.py": (
        "import os\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
        "from django.core.wsgi import get_wsgi_application\n"
        "application = get_wsgi_application()\n"
    ),
    "shop/asgi.py": (
        "import os\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
        "from django.core.asgi import get_asgi_application\n"
        "application = get_asgi_application()\n"
    ),
    "shop/mails.py": (
        "from mailglass.integrations.django import DjangoMailable\n"
        "class Welcome(DjangoMailable):\n"
        "    subject = 'Welcome, {{ name|upper }}'\n"
        "    html_template = 'shop/welcome.html'\n"
    ),
    "shop/templates/shop/welcome.html": "<p>Hello, {{ name }}. {% now 'Y' %}</p>",
}
SERVERS = {
    "gunicorn": (["gunicorn", "-b", "127.0.0.1:{port}", "--threads", "4", "shop.wsgi"], "Booting worker"),
    "granian": (
        ["granian", "--interface", "wsgi", "--port", "{port}", "shop.wsgi:application"],
        "Started worker",
    ),
    "uvicorn": (["uvicorn", "--port", "{port}", "--lifespan", "off", "shop.asgi:application"], "Uvicorn running"),
}


class Project:
    """The project's directory, and what its processes find in their environment: no settings of mailglass's own."""

    def __init__(self, cluster: Any, port: int) -> None:
        self.cluster = cluster
        self.directory = Path(cluster.directory) / "project"
        settings = SETTINGS % {
            "database": database(cluster.environment["MAILGLASS_DATABASE_URL"], ATOMIC_REQUESTS=True),
            "port": port,
        }
        if cluster.environment.get("MAILGLASS_POOLER"):
            settings += 'MAILGLASS["pooler"] = "transaction"\n'
        settings = settings.replace('"django.contrib.sessions",\n', '"django.contrib.sessions",\n    "shop",\n', 1)
        for name, source in {**FILES, "shop/settings.py": settings}.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MAILGLASS_")},
            "BROKER": cluster.environment["MAILGLASS_BROKER_URL"],
            **ENVIRONMENT,
            "PYTHONUNBUFFERED": "1",
        }

    def child(self, name: str, arguments: list[str], line: str, **environment: str) -> ChildProcess:
        child = ChildProcess(
            name,
            [sys.executable, "-m", *arguments],
            log=self.directory / f"{name}.log",
            env={**self.environment, **environment},
            cwd=self.directory,
            ready=until_line(line),
            ready_timeout=60,
            guardian=self.cluster.guardian,
        )
        self.cluster.stack.callback(child.stop)
        return child.start()

    def manage(self, *arguments: str, source: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.directory,
            env=self.environment,
            input=source,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture
def site(cluster: Any, outside: Any) -> Project:
    return Project(cluster, outside.port)


@pytest.fixture(params=SERVERS)
def served(site: Project, request: pytest.FixtureRequest, unused_port: int) -> int:
    """The port of the project, served by WSGI or ASGI."""
    arguments, line = SERVERS[request.param]
    site.child(request.param, [word.format(port=unused_port) for word in arguments], line)
    return unused_port


def test_a_signed_webhook_is_stored_and_a_forged_one_refused(served: int, cluster: Any, database_url: str) -> None:
    assert post(served, "/mailglass/webhooks/gun", event()) == 200
    assert post(served, "/mailglass/webhooks/gun", event("another")) == 401
    assert post(served, "/mailglass/webhooks/unknown", event()) == 404
    assert stored(database_url) == 1
    assert post(served, "/mailglass/webhooks/acme/gun", event(token="token-2")) == 200
    assert stored(database_url) == 2


def test_a_body_is_bounded_by_mailglasss_own_limit_and_not_by_djangos(served: int, database_url: str) -> None:
    # above DATA_UPLOAD_MAX_MEMORY_SIZE, below webhooks.max_body
    assert post(served, "/mailglass/webhooks/gun", event() + b" " * 3000) == 200
    assert post(served, "/mailglass/webhooks/gun", b"x" * 5001) == 413
    assert chunked(served, event(token="token-2")) == 200
    assert chunked(served, b"x" * 9000) == 413
    assert stored(database_url) == 2


def chunked(port: int, body: bytes) -> int:
    """Post a body that announces no length."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as connection:
        head = (
            b"POST /mailglass/webhooks/gun HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        connection.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        return int(connection.recv(100).split()[1])


def test_the_project_passes_the_doctor_and_the_checks(site: Project) -> None:
    assert diagnose(site.directory).exit_code == 0
    done = site.manage("check", "--database", "default", "--fail-level", "INFO")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_every_command_runs_through_manage_with_the_projects_settings(site: Project) -> None:
    done = site.manage("mailglass", "config", "check")
    assert done.returncode == 0, done.stderr
    assert "Settings file: MAILGLASS of shop.settings" in done.stdout
    done = site.manage("mailglass", "--settings", "shop.settings", "db", "check")
    assert (done.returncode, done.stderr) == (0, "")
    done = site.manage("mailglass", "deliveries", "show", "no-id")
    assert done.returncode == 64
    assert "Usage: manage.py mailglass" in done.stderr
    assert "Stop a tenant's mail" in site.manage("help", "mailglass").stdout


SENDING = """
from django.core.mail import send_mail
from shop.mails import Welcome
from mailglass import deliver_later
send_mail("Hello", "Hello, Ada.", None, ["ada@example.com"])
deliver_later.delay(Welcome(to="bob@example.com", context={"name": "Bob & Co"}))
"""


def test_a_worker_finds_the_settings_and_the_templates_of_the_project(
    site: Project, cluster: Any, outside: Any, wait_for: Callable[..., None]
) -> None:
    done = site.manage("shell", source=SENDING)
    assert done.returncode == 0, done.stderr
    site.child(
        "worker",
        ["celery", "-A", "mailglass", "worker", "-Q", "mailglass", "-P", "threads", "-c", "2", "-l", "info"],
        "ready\\.",
        DJANGO_SETTINGS_MODULE="shop.settings",
    )
    wait_for(lambda: deliveries.counts(cluster.runtime.database) == {"default": {"sent": 2}})
    assert {mail.recipient: mail.subject for mail in outside.mails} == {
        "ada@example.com": "Hello",
        "bob@example.com": "Welcome, BOB & CO",
    }
    rendered = next(delivery.content for delivery in sent(cluster) if delivery.recipient == "bob@example.com")
    assert rendered["html"].startswith("<p>Hello, Bob &amp; Co. 20")
