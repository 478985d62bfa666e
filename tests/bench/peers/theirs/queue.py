"""Queue mails the way `PEERS_WAY` names: `python -m tests.bench.peers.theirs.queue FIRST COUNT [--every SECONDS]`.

With `set-up` it makes the tables, with `nudge` it does what a schedule would do after a crash.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.peers.mails import SENDER, Mail
from tests.bench.peers.producing import produce


@dataclass(frozen=True)
class Way:
    """How one way of sending is set up and used."""

    set_up: Callable[[], object]
    queue_all: Callable[[Sequence[Mail]], object]
    queue_one: Callable[[Mail], object]
    nudge: Callable[[], object] = lambda: None


def by_hand() -> Way:
    from tests.bench.peers.theirs import by_hand

    return Way(by_hand.set_up, by_hand.queue_all, by_hand.queue_one)


def celery_email() -> Way:
    from django.core.mail import EmailMultiAlternatives, get_connection

    def message(mail: Mail) -> EmailMultiAlternatives:
        made = EmailMultiAlternatives(mail.subject, mail.text, SENDER, [mail.recipient])
        made.attach_alternative(mail.html, "text/html")
        return made

    return Way(
        lambda: None,
        lambda mails: get_connection().send_messages([message(mail) for mail in mails]),
        lambda mail: message(mail).send(),
    )


def post_office() -> Way:
    from django.core.management import call_command
    from post_office import mail as office
    from post_office.tasks import send_queued_mail

    def fields(mail: Mail) -> dict[str, object]:
        return {
            "recipients": [mail.recipient],
            "sender": SENDER,
            "subject": mail.subject,
            "message": mail.text,
            "html_message": mail.html,
        }

    return Way(
        lambda: call_command("migrate", verbosity=0),
        lambda mails: office.send_many([fields(mail) for mail in mails]),
        lambda mail: office.send(**fields(mail)),
        send_queued_mail.delay,
    )


def anymail() -> Way:
    from tests.bench.peers.theirs.anymail_task import send_mail

    def queue_one(mail: Mail) -> None:
        send_mail.delay(mail.recipient, mail.subject, mail.text, mail.html)

    def queue_all(mails: Sequence[Mail]) -> None:
        for mail in mails:
            queue_one(mail)

    return Way(lambda: None, queue_all, queue_one)


WAYS = {"by_hand": by_hand, "celery_email": celery_email, "post_office": post_office, "anymail": anymail}


def main(arguments: Sequence[str]) -> None:
    name = os.environ["PEERS_WAY"]
    if name != "by_hand":
        import django

        from tests.bench.peers.theirs import site  # noqa: F401 - the Celery app that tasks are bound to

        django.setup()
    way = WAYS[name]()
    if arguments == ["set-up"]:
        way.set_up()
    elif arguments == ["nudge"]:
        way.nudge()
    else:
        produce(arguments, way.queue_all, way.queue_one)


if __name__ == "__main__":
    main(sys.argv[1:])
