"""Queue mails with mailglass: `python -m tests.bench.peers.ours FIRST COUNT [--every SECONDS]`."""

from __future__ import annotations

import sys

from mailglass import Message, deliver_later, deliver_many
from tests.bench.peers.mails import Mail
from tests.bench.peers.producing import produce


def _message(mail: Mail) -> Message:
    return Message(to=mail.recipient, subject=mail.subject, text=mail.text, html=mail.html)


if __name__ == "__main__":
    produce(
        sys.argv[1:],
        lambda mails: deliver_many(_message(mail) for mail in mails),
        lambda mail: deliver_later.delay(_message(mail)),
    )
