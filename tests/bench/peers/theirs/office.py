"""django-post_office without Celery: `send_queued_mail --processes 2` again and again, as cron would run it."""

from __future__ import annotations

import time

import django

from tests.bench.peers.theirs import site  # noqa: F401 - the settings

PROCESSES = 2
_PAUSE = 0.2


def main() -> None:
    django.setup()
    from django.core.management import call_command

    while True:
        call_command("send_queued_mail", processes=PROCESSES)
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
