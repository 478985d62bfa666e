"""Results of one attempt: a closed set of classes and the value that carries one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class OutcomeClass(StrEnum):
    """What one attempt came to; each class has one consequence (the design's outcome table)."""

    ACCEPTED = "accepted"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    QUOTA = "quota"
    MISCONFIGURED = "misconfigured"
    REJECTED = "rejected"
    SUPPRESSED = "suppressed"
    UNCERTAIN = "uncertain"


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
        hard_bounce: the recipient does not exist, for good: it is put on the suppression list.
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


EXPIRED: Final = Outcome(OutcomeClass.TRANSIENT, reason="mail_expired")
"""Of a mail that expired before its attempt began: nothing was sent."""
