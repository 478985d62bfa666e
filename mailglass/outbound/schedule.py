"""Schedules of deliveries: Celery's options in the form that the ledger stores.

An absolute moment is stored as given, and compared with the database's clock alone. A relative one counts from the
call, on a monotonic clock. So neither an old transaction nor a producer's wrong clock moves a delivery.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from mailglass import clock
from mailglass.errors import MessageError
from mailglass.routing import Mode

DEFAULT_PRIORITY: Final = 5
_FARTHEST: Final = 10 * 366 * 86400.0
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Schedule and priority of one call's deliveries.

    Attributes:
        countdown: seconds from the call until they are due.
        eta: the aware moment at which they are due.
        lifetime: seconds from the call until they expire.
        expires_at: the aware moment at which they expire.
        grace: seconds in which only the caller sends them.
        priority: 0 to 9, 9 the most urgent.
        mode: of the call.
        called_at: the moment of the call on the monotonic clock.
    """

    countdown: float = 0.0
    eta: datetime | None = None
    lifetime: float | None = None
    expires_at: datetime | None = None
    grace: float = 0.0
    priority: int = DEFAULT_PRIORITY
    mode: Mode = Mode.LATER
    called_at: float = field(default_factory=clock.monotonic)

    @property
    def is_due_now(self) -> bool:
        """Return whether to ring workers at once. A wrong guess costs a ring, or a second until the pump's."""
        if self.eta is not None:
            return self.eta <= clock.now()
        return self.countdown + self.grace <= clock.monotonic() - self.called_at


def make_schedule(
    countdown: float | None,
    eta: datetime | None,
    send_at: datetime | None,
    expires: float | datetime | None,
    priority: int | None,
) -> Schedule:
    """Return the schedule of a call by Celery's options. It counts from now.

    Raises:
        MessageError: an option is invalid, or contradicts another one.
    """
    if sum(given is not None for given in (countdown, eta, send_at)) > 1:
        raise MessageError("eta", "give one of eta, send_at and countdown")
    if priority is not None and (type(priority) is not int or priority not in range(10)):
        raise MessageError("priority", "must be 0 to 9; 9 is the most urgent on every broker")
    schedule = Schedule(
        countdown=0.0 if countdown is None else max(_seconds(countdown, "countdown"), 0.0),
        eta=_moment(send_at if eta is None else eta, "eta"),
        lifetime=None if expires is None or isinstance(expires, datetime) else _seconds(expires, "expires"),
        expires_at=_moment(expires, "expires") if isinstance(expires, datetime) else None,
        priority=DEFAULT_PRIORITY if priority is None else priority,
    )
    if _expires_first(schedule):
        raise expires_before_due()
    return schedule


def expires_before_due() -> MessageError:
    """Return the error of a mail that expires before it is due. For moments, the database decides."""
    return MessageError("expires", "lies in the past, or ends before the mail is due; give a later moment")


def _expires_first(schedule: Schedule) -> bool:
    """Return whether two moments, or two durations, contradict each other. Only a clock compares the two kinds."""
    if schedule.eta is not None and schedule.expires_at is not None:
        return schedule.expires_at <= schedule.eta
    return schedule.lifetime is not None and schedule.lifetime <= schedule.countdown


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
