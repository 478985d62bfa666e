"""Results of one attempt: a closed set of classes and the value that carries one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mailglass.mail.refusal import Refusal


class OutcomeClass(StrEnum):
    """Result of one attempt. Each class has one consequence."""

    ACCEPTED = "accepted"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    QUOTA = "quota"
    MISCONFIGURED = "misconfigured"
    REJECTED = "rejected"
    SUPPRESSED = "suppressed"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class CopyRefusal:
    """A copy that a server would not take, while the mail itself may have gone.

    Attributes:
        index: whose, among the mail's `cc` and then its `bcc`.
        status: the SMTP reply code.
        enhanced_status: the enhanced status code (RFC 3463), where there was one.
        refusal: the meaning of what the server said.
    """

    index: int
    status: int
    enhanced_status: str | None
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt for one delivery. Holds no address and no content.

    Attributes:
        kind: the class.
        provider_message_id: the provider's id, kept for matching its webhooks.
        reason: a short closed code: `http_422`, `postmark_406`, `smtp_550`, `connect_failed`, `read_timeout`.
        status: the HTTP or SMTP status, where there was one.
        enhanced_status: the enhanced status code (RFC 3463), for example `5.1.1`.
        retry_after: seconds the provider asked to wait.
        hard_bounce: the provider itself knows that the recipient bounced before: it is put on the suppression list.
        refusal: the meaning of what a server said, where one refused the mail.
        copies: those who get no copy.
        suppressed_for: of a recipient that the provider refuses only for a while: seconds after which to ask again.
    """

    kind: OutcomeClass
    provider_message_id: str | None = None
    reason: str | None = None
    status: int | None = None
    enhanced_status: str | None = None
    retry_after: float | None = None
    hard_bounce: bool = False
    suppressed_for: float | None = None
    refusal: Refusal | None = field(default=None, compare=False)
    copies: tuple[CopyRefusal, ...] = ()


EXPIRED: Final = Outcome(OutcomeClass.TRANSIENT, reason="mail_expired")
"""Of a mail that expired before its attempt began: nothing was sent."""
