"""mailglass's Celery app in the environment of an application that has one of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOREIGN = {
    "the broker": {"CELERY_BROKER_URL": "amqp://theirs.example:1"},
    "the brokers of each direction": {
        "CELERY_BROKER_READ_URL": "amqp://theirs.example:1",
        "CELERY_BROKER_WRITE_URL": "amqp://theirs.example:2",
    },
    "the result backend": {"CELERY_RESULT_BACKEND": "file:///tmp/theirs"},
    "the configuration": {"CELERY_CONFIG_MODULE": "theirs"},
    "the broker of a Django project": {
        "CELERY_BROKER_URL": "amqp://theirs.example:1",
        "DJANGO_SETTINGS_MODULE": "django.conf.global_settings",
    },
    "the loader": {"CELERY_LOADER": "celery.loaders.default:Loader"},
}
THEIRS = """
broker_url = "amqp://theirs.example:3"
task_serializer = "pickle"
task_always_eager = True
result_backend = "file:///tmp/theirs"
"""
ASK = """
from mailglass.celery import app
for connection in app.connection(), app.connection_for_read(), app.connection_for_write():
    print(connection.transport_cls, connection.hostname, connection.port)
with app.pool.acquire() as connection:
    print(connection.transport_cls, connection.hostname, connection.port)
print(app.conf.broker_url, type(app.backend).__name__, app.conf.task_serializer, bool(app.conf.task_always_eager))
app.conf.update(broker_url="redis://ours.example:7/1")
print(app.conf.broker_url)
"""


@pytest.mark.parametrize("what", FOREIGN)
def test_variables_of_another_celery_app_do_not_reach_ours(what: str, tmp_path: Path) -> None:
    for name in ("theirs.py", "celeryconfig.py"):
        (tmp_path / name).write_text(THEIRS)
    run = subprocess.run(
        [sys.executable, "-c", ASK],
        env={"MAILGLASS_BROKER_URL": "redis://ours.example:6/0", "PYTHONPATH": str(tmp_path), **FOREIGN[what]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    ours = "redis://ours.example:6/0"
    expected = [*["redis ours.example 6"] * 4, f"{ours} DisabledBackend json False", "redis://ours.example:7/1"]
    assert run.stdout.splitlines() == expected
