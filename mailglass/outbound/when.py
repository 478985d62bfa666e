"""When a delivery is due and how urgent it is: Celery's options as the ledger keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mailglass import clock
from mailglass.errors import MessageError

DEFAULT_PRIORITY = 5
_FARTHEST = 10 * 366 * 86400.0


@dataclass(frozen=True, slots=True)
class When:
    """Celery's manners, as the ledger keeps them. `grace`: seconds that the workers wait for the caller to send it."""

    delay: float = 0.0
    grace: float = 0.0
    lifetime: float | None = None
    priority: int = DEFAULT_PRIORITY

    @property
    def now(self) -> bool:
        """Whether the workers are to be rung at once."""
        return self.delay + self.grace <= 0


def when(
    countdown: float | None,
    eta: datetime | None,
    send_at: datetime | None,
    expires: float | datetime | None,
    priority: int | None,
) -> When:
    if sum(given is not None for given in (countdown, eta, send_at)) > 1:
        raise MessageError("eta", "give one of eta, send_at and countdown")
    eta = send_at if eta is None else eta
    delay = _seconds(countdown, "countdown") if countdown is not None else 0.0
    if eta is not None:
        delay = _seconds_until(eta, "eta")
    lifetime: float | None = None
    if expires is not None:
        lifetime = _seconds_until(expires, "expires") if isinstance(expires, datetime) else _seconds(expires, "expires")
        if lifetime <= 0:
            raise MessageError("expires", "lies in the past")
        if lifetime <= delay:
            raise MessageError("expires", "ends before the mail is due; give a later moment, or send it sooner")
    if priority is not None and (type(priority) is not int or priority not in range(10)):
        raise MessageError("priority", "must be 0 to 9; 9 is the most urgent on every broker")
    return When(max(delay, 0.0), lifetime=lifetime, priority=DEFAULT_PRIORITY if priority is None else priority)


def _seconds_until(moment: datetime, field: str) -> float:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise MessageError(field, "must be a datetime with a time zone")
    return _seconds((moment - clock.now()) / timedelta(seconds=1), field)


def _seconds(value: object, field: str) -> float:
    # NaN compares with nothing
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _FARTHEST:
        raise MessageError(field, "must be seconds as a number, at most ten years")
    return float(value)
