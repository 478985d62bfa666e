"""One Django project for the three Django packages: settings and Celery app.

`PEERS_WAY` says which of them is at work: `celery_email`, `post_office` or `anymail`.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from celery import Celery

from tests.bench.peers.producing import redelivery

_DATABASE = urlsplit(os.environ["PEERS_DATABASE_URL"])

SECRET_KEY = "benchmark"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "djcelery_email", "post_office", "anymail"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _DATABASE.hostname,
        "PORT": _DATABASE.port,
        "USER": _DATABASE.username,
        "PASSWORD": _DATABASE.password,
        "NAME": _DATABASE.path.lstrip("/"),
        "CONN_MAX_AGE": None,
    }
}
_SMTP = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = int(os.environ.get("PEERS_SMTP_PORT", "25"))
EMAIL_BACKEND = {
    "celery_email": "djcelery_email.backends.CeleryEmailBackend",
    "post_office": "post_office.EmailBackend",
    "anymail": "anymail.backends.postmark.EmailBackend",
}[os.environ["PEERS_WAY"]]
# mails in one task, over one session
CELERY_EMAIL_CHUNK_SIZE = 50
CELERY_EMAIL_BACKEND = _SMTP
CELERY_EMAIL_TASK_CONFIG = {"acks_late": True}
POST_OFFICE = {
    "BACKENDS": {"default": _SMTP},
    "BATCH_SIZE": 1000,
    "THREADS_PER_PROCESS": 5,
    "CELERY_ENABLED": True,
    # a log entry for failures only
    "LOG_LEVEL": 1,
}
ANYMAIL = {
    "POSTMARK_SERVER_TOKEN": "token",
    "POSTMARK_API_URL": os.environ.get("PEERS_POSTMARK_URL", ""),
}

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

app = Celery("site", broker=os.environ["PEERS_BROKER_URL"])
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_transport_options = redelivery()
app.autodiscover_tasks()
app.conf.imports = ("tests.bench.peers.theirs.anymail_task",)
