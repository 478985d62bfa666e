"""Queue mails with mailglass as the job queues are asked to: `python -m tests.bench.peers.our_jobs COMMAND NUMBER`."""

from __future__ import annotations

import sys
import time

from mailglass import Message, deliver_later, deliver_many
from tests.bench.peers.mails import Mail, receipt


def message(mail: Mail) -> Message:
    return Message(to=mail.recipient, subject=mail.subject, text=mail.text, html=mail.html)


def main(command: str, number: str) -> None:
    mails = [receipt(n) for n in range(int(number))]
    deliver_later.delay(message(receipt(0)))
    began = time.perf_counter()
    if command == "bulk":
        deliver_many(message(mail) for mail in mails)
    else:
        for mail in mails:
            deliver_later.delay(message(mail))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
