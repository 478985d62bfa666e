"""When a delivery is due and how urgent it is: Celery's options as the ledger keeps them.

An absolute moment is kept as it was given, and compared with the database's clock alone. What is relative counts from
the call, on a monotonic clock. So neither an old transaction nor a producer's wrong clock moves anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from mailglass import clock
from mailglass.errors import MessageError

DEFAULT_PRIORITY: Final = 5
_FARTHEST: Final = 10 * 366 * 86400.0
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the deliveries of one call leave and expire, and how urgent they are.

    Attributes:
        countdown: seconds from the call until they leave.
        eta: the aware moment at which they leave.
        lifetime: seconds from the call until they expire.
        expires_at: the aware moment at which they expire.
        grace: seconds that the workers wait for the caller to send them.
        priority: 0 to 9, 9 the most urgent.
        called_at: the moment of the call on the monotonic clock.
    """

    countdown: float = 0.0
    eta: datetime | None = None
    lifetime: float | None = None
    expires_at: datetime | None = None
    grace: float = 0.0
    priority: int = DEFAULT_PRIORITY
    called_at: float = field(default_factory=clock.monotonic)

    @property
    def now(self) -> bool:
        """Whether the workers are to be rung at once. A wrong guess costs a ring, or a second until the pump's."""
        if self.eta is not None:
            return self.eta <= clock.now()
        return self.countdown + self.grace <= clock.monotonic() - self.called_at


def schedule(
    countdown: float | None,
    eta: datetime | None,
    send_at: datetime | None,
    expires: float | datetime | None,
    priority: int | None,
) -> Schedule:
    """Return a call's schedule, which counts from here.

    Raises:
        MessageError: an option that the ledger cannot keep, or that contradicts another one.
    """
    if sum(given is not None for given in (countdown, eta, send_at)) > 1:
        raise MessageError("eta", "give one of eta, send_at and countdown")
    if priority is not None and (type(priority) is not int or priority not in range(10)):
        raise MessageError("priority", "must be 0 to 9; 9 is the most urgent on every broker")
    found = Schedule(
        countdown=0.0 if countdown is None else max(_seconds(countdown, "countdown"), 0.0),
        eta=_moment(send_at if eta is None else eta, "eta"),
        lifetime=None if expires is None or isinstance(expires, datetime) else _seconds(expires, "expires"),
        expires_at=_moment(expires, "expires") if isinstance(expires, datetime) else None,
        priority=DEFAULT_PRIORITY if priority is None else priority,
    )
    if _ends_first(found):
        raise ends_before_it_is_due()
    return found


def ends_before_it_is_due() -> MessageError:
    """Return the error of a mail that nobody could send: the database says so where a moment was given."""
    return MessageError("expires", "lies in the past, or ends before the mail is due; give a later moment")


def _ends_first(given: Schedule) -> bool:
    """Whether two bounds of the same kind contradict each other; a moment and a duration only a clock can compare."""
    if given.eta is not None and given.expires_at is not None:
        return given.expires_at <= given.eta
    return given.lifetime is not None and given.lifetime <= given.countdown


def _moment(moment: object, field: str) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.tzinfo is None or moment.utcoffset() is None:
        raise MessageError(field, "must be a datetime with a time zone")
    if moment < _EARLIEST or (moment - clock.now()) / timedelta(seconds=1) > _FARTHEST:
        raise MessageError(field, "must be a moment between 1970 and ten years from now")
    return moment.astimezone(UTC)


def _seconds(value: object, field: str) -> float:
    # NaN compares with nothing
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _FARTHEST:
        raise MessageError(field, "must be seconds as a number, at most ten years")
    return float(value)
