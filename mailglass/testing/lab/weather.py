"""The lab's shared words: what a mail met there, and the weather that decides about it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mailglass.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LabMail:
    """One mail that a lab server accepted. The lab is not production: it may know whom a mail was for.

    Attributes:
        account: which of the lab's accounts took it.
        delivery_id: ours, as it came in the provider's metadata or in `X-Mailglass-Id`; "" where there was none.
        recipient: the main recipient.
        subject: decoded.
        size: bytes, as they came over the wire.
    """

    account: str
    delivery_id: str
    recipient: str = field(repr=False)
    subject: str = field(repr=False)
    size: int


class Weather(StrEnum):
    """Fates of a mail in the lab.

    deliver: accepted, then delivered.
    hard_bounce: no such recipient, now (SMTP) or by a later event (HTTP).
    soft_bounce: the mailbox is full.
    defer: not now; the second attempt, or a later event, delivers.
    complaint: delivered, then marked as spam.
    throttle_once: the first attempt meets a rate limit.
    server_error_once: the first attempt meets a fault of the server, before anything was accepted.
    lost_answer: accepted and recorded, but the answer never comes.
    duplicate_event: delivered, and every event is posted twice.
    late_event: delivered, and the events come in the wrong order.
    suppressed: the provider's own list refuses the recipient.
    """

    DELIVER = "deliver"
    HARD_BOUNCE = "hard_bounce"
    SOFT_BOUNCE = "soft_bounce"
    DEFER = "defer"
    COMPLAINT = "complaint"
    THROTTLE_ONCE = "throttle_once"
    SERVER_ERROR_ONCE = "server_error_once"
    LOST_ANSWER = "lost_answer"
    DUPLICATE_EVENT = "duplicate_event"
    LATE_EVENT = "late_event"
    SUPPRESSED = "suppressed"


MARKERS: Mapping[str, Weather] = {
    "bounce": Weather.HARD_BOUNCE,
    "no.such": Weather.HARD_BOUNCE,
    "full.mailbox": Weather.SOFT_BOUNCE,
    "slow": Weather.DEFER,
    "complains": Weather.COMPLAINT,
    "throttled": Weather.THROTTLE_ONCE,
    "outage": Weather.SERVER_ERROR_ONCE,
    "silence": Weather.LOST_ANSWER,
    "twice": Weather.DUPLICATE_EVENT,
    "late": Weather.LATE_EVENT,
    "suppressed": Weather.SUPPRESSED,
    "sunny": Weather.DELIVER,
}
_MARKED = re.compile(rf"(?:^|\+)({'|'.join(map(re.escape, MARKERS))})(?![a-z])")


@dataclass(frozen=True, slots=True)
class Climate:
    """The weather for a recipient: the same for the same seed and address, on every machine and in every run.

    A marker in the local part decides first. It stands at the beginning or after a `+` and is not followed by a
    letter, so `slow@`, `slow.7@` and `ada+slow@` are marked while `slowik@` is not. Without one, the hash of seed and
    address picks by the ratios; what they leave over is delivered.

        Climate(seed=7, ratios={Weather.HARD_BOUNCE: 0.02})("ada@example.com")

    Args:
        seed: another seed, another climate.
        ratios: the share of unmarked recipients per weather, each 0 to 1, together at most 1.

    Raises:
        ConfigError: the ratios are no shares of one whole.
    """

    seed: int = 0
    ratios: Mapping[Weather, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # the margin forgives the rounding of decimal fractions such as ten times 0.1
        if any(share < 0 for share in self.ratios.values()) or sum(self.ratios.values()) > 1 + 1e-9:
            raise ConfigError("ratios", "not shares of one whole", "Give numbers from 0 to 1 that add up to at most 1")

    def __call__(self, recipient: str) -> Weather:
        """Return the weather of this recipient."""
        address = recipient.lower()
        if marked := _MARKED.search(address.rpartition("@")[0]):
            return MARKERS[marked[1]]
        place = _place(self.seed, address)
        for weather in Weather:  # in the order of the enum, so that the order of the ratios changes nothing
            share = self.ratios.get(weather, 0.0)
            if place < share:
                return weather
            place -= share
        return Weather.DELIVER


def _place(seed: int, address: str) -> float:
    """Return the address's place in [0, 1) in this climate."""
    digest = hashlib.blake2b(f"{seed}\x00{address}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / (1 << 56)
