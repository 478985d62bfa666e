"""A producer that may be killed: `python -m tests.chaos.producer LOG SEED KEYS`.

It says each of the keys' messages once, in an order of its own, and tries again when it is refused. The log gets a line
for each answer: the key's number and the ids that the call returned. What stands there was told, so it is owed.
"""

from __future__ import annotations

import os
import random
import sys
import time
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from mailglass import Message, deliver_later
from mailglass.errors import LedgerUnavailableError

# by the last digit of a key's number
EXPIRES, CANCELED, SEVERAL = 3, 7, 9


def message(number: int) -> Message:
    """Return the message of a key: the same whoever says it."""
    text = {"subject": "Receipt", "text": "Thanks."}
    if number % 10 == SEVERAL:
        return Message(to=[f"u{number}@example.com", f"v{number}@example.com"], **text)
    return Message(to=f"u{number}@example.com", idempotency_key=f"key-{number}", **text)


def options(number: int) -> dict[str, Any]:
    """Return how the message of a key is to be sent."""
    match number % 10:
        case 3:
            return {"expires": 2.0}
        case 5:
            return {"countdown": 1.0}
        case 9:
            # several recipients have no idempotency key: the call's own id makes it the same call
            return {"task_id": str(uuid5(NAMESPACE_OID, f"key-{number}"))}
        case _:
            return {}


def ids_of(result: Any) -> list[str]:
    """Return the ids of the deliveries of one answer."""
    return [item.id for item in result] if hasattr(result, "states") else [result.id]


def say(number: int) -> list[str]:
    """Record one message, however often it takes."""
    while True:
        try:
            return ids_of(deliver_later.apply_async((message(number),), **options(number)))
        except LedgerUnavailableError:
            time.sleep(0.05)


def main(log: str, seed: str, keys: str) -> None:
    numbers = list(range(int(keys)))
    random.Random(seed).shuffle(numbers)
    told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in numbers:
        # one write: a kill leaves a whole line or none
        os.write(told, f"{number} {' '.join(say(number))}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
