"""Anymail under Celery: a task for each mail, acknowledged late, over a connection that its process keeps."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery import shared_task
from django.core.mail import EmailMultiAlternatives, get_connection

from tests.bench.peers.mails import SENDER


@cache
def connection() -> Any:
    """The process's kept connection: an opened backend holds one HTTP session."""
    backend = get_connection()
    backend.open()
    return backend


@shared_task(acks_late=True)
def send_mail(recipient: str, subject: str, text: str, html: str) -> None:
    """Send one mail."""
    message = EmailMultiAlternatives(subject, text, SENDER, [recipient], connection=connection())
    message.attach_alternative(html, "text/html")
    message.send()
