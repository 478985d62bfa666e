"""The provider of a test's mailbox: takes mail in this process, and posts webhooks that the test simulates."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from uuid import UUID, uuid4

from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider

NAME: Final = "mailbox"


@dataclass(frozen=True, slots=True)
class MailboxOptions:
    """No options."""


class MailboxProvider(Provider):
    """Provider that accepts each mail, unless it was told another answer.

    Args:
        account: its account's name.
        accepted: gets each mail that it has accepted.
        answers: answers to the next mails of all accounts, in their order.
    """

    name = NAME
    Options: ClassVar[type[Any]] = MailboxOptions

    def __init__(self, account: str, accepted: list[tuple[str, Outgoing]], answers: deque[Outcome]) -> None:
        super().__init__(account, MailboxOptions())
        self._accepted = accepted
        self._answers = answers
        self._lock = threading.Lock()

    def send(self, mails: Sequence[Outgoing], *, deadline: float) -> list[Outcome]:
        """Answer each mail, and keep what is accepted."""
        with self._lock:
            return [self._answer(mail) for mail in mails]

    def _answer(self, mail: Outgoing) -> Outcome:
        given = self._answers.popleft() if self._answers else Outcome(OutcomeClass.ACCEPTED)
        if given.kind is not OutcomeClass.ACCEPTED:
            return given
        self._accepted.append((self.account, mail))
        return Outcome(OutcomeClass.ACCEPTED, provider_message_id=f"{NAME}-{mail.delivery_id}")

    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        """Return the event of a simulated webhook."""
        said = json.loads(body)
        return [
            ProviderEvent(
                kind=EventKind(said["kind"]),
                provider_event_id=said["id"],
                delivery_id=UUID(said["delivery"]),
                recipient=said["recipient"],
                bounce_class=BounceClass(said["bounce"]) if said["bounce"] else None,
                reject_reason=RejectReason(said["reject"]) if said["reject"] else None,
                status=said["status"],
                machine=said["machine"],
            )
        ]


def webhook_body(
    kind: str,
    delivery: UUID,
    recipient: str,
    *,
    bounce: str | None = None,
    reject: str | None = None,
    status: str | None = None,
    machine: bool = False,
) -> tuple[str, bytes]:
    """Return the key and the body of a webhook as this provider posts it."""
    key = uuid4().hex
    said = {
        "id": key,
        "kind": kind,
        "delivery": str(delivery),
        "recipient": recipient,
        "bounce": bounce,
        "reject": reject,
        "status": status,
        "machine": machine,
    }
    return key, json.dumps(said).encode()
