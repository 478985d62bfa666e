"""Doorbells: at most one pending ring per lane, whatever the backlog.

A ring is a Celery message that says "this lane has work". Before it is published its mark is set, if it is free; the
worker clears the mark before it claims. A lost ring is rung again by the pump, which knows from the mark's age that
nobody answered. Ringing never fails the caller: the ledger owes the mail, the broker only speeds it up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from mailglass import clock, telemetry
from mailglass.mail.streams import Stream
from mailglass.routing import Lane
from mailglass.settings import DEFAULT_QUEUE, Settings
from mailglass.settings.redis_client import redis_client

DISPATCH = "mailglass.dispatch"
DOMAINS = "mailglass.domains.check"
PUMP = "mailglass.pump"
WEBHOOKS = "mailglass.webhooks.process"
RECONCILE = "mailglass.webhooks.reconcile"
POLL = "mailglass.webhooks.poll"
RATES = "mailglass.limits.learn_rates"
RETENTION = "mailglass.retention"
SETTLE = "mailglass.settle"
SUPPRESSIONS = "mailglass.suppressions.sync"

BACKLOG = "backlog"
"""Argument of the ring of `WEBHOOKS` that lets all others go first."""

_MARK_LIFETIME = 3600
# seconds that a caller waits for a broker that does not answer
_BROKER_TIMEOUT = 2.0
# rings that are marked together: what a process that dies between mark and ring leaves to be repaired, and what no
# server works on for long
_CHUNK = 200
# of tasks (""), of tasks that wait for all others, and of lanes by their stream: the lower, the sooner
_LAST = "last"
_RANKS = {"": 0, Stream.TRANSACTIONAL: 0, Stream.OPERATIONAL: 3, Stream.BULK: 6, _LAST: 9}

# KEYS: marks; ARGV: timeout of a ring in ms (-1: only free marks), lifetime in s. Answers the positions that were set.
# A mark that a clock a minute ahead of this one has set, as before a failover, is old.
_SET_MARKS = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local timeout = tonumber(ARGV[1])
local set = {}
for i, key in ipairs(KEYS) do
  local since = redis.call('GET', key)
  local age = since and ms - tonumber(since)
  if not age or (timeout >= 0 and (age > timeout or age < -60000)) then
    redis.call('SET', key, string.format('%d', ms), 'EX', ARGV[2])
    set[#set + 1] = i
  end
end
return set
"""


# KEYS: marks. Answers the ms since each was set, -1 where it is not, an hour where a clock that went ahead has set it.
_AGES = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local ages = redis.call('MGET', unpack(KEYS))
for i, since in ipairs(ages) do
  local age = since and ms - tonumber(since)
  if age and age < -60000 then age = 3600000 end
  ages[i] = age and math.max(0, age) or -1
end
return ages
"""


class Marks(Protocol):
    """Store of the marks of pending rings."""

    def set(self, names: Sequence[str], ring_timeout: float | None) -> list[str]:
        """Set the marks that are free, or older than `ring_timeout` seconds; return those that were set."""

    def ages(self, names: Sequence[str]) -> dict[str, float]:
        """Return the age of marks in seconds, without those that are not set."""

    def clear(self, names: Sequence[str]) -> None:
        """Delete marks."""


class RedisMarks:
    """Store of marks in Redis or Valkey.

    Args:
        url: redis://, rediss:// or unix://.
    """

    def __init__(self, url: str) -> None:
        self._redis = redis_client(url)
        self._set: Any = self._redis.register_script(_SET_MARKS)
        self._ages: Any = self._redis.register_script(_AGES)

    def set(self, names: Sequence[str], ring_timeout: float | None) -> list[str]:
        """Set free and timed-out marks."""
        keys = [f"mailglass:bell:{name}" for name in names]
        milliseconds = -1 if ring_timeout is None else int(ring_timeout * 1000)
        return [names[position - 1] for position in self._set(keys=keys, args=[milliseconds, _MARK_LIFETIME])]

    def ages(self, names: Sequence[str]) -> dict[str, float]:
        """Return the ages of marks in seconds."""
        milliseconds = self._ages(keys=[f"mailglass:bell:{name}" for name in names])
        return {name: age / 1000 for name, age in zip(names, milliseconds, strict=True) if age >= 0}

    def clear(self, names: Sequence[str]) -> None:
        """Delete marks."""
        self._redis.delete(*(f"mailglass:bell:{name}" for name in names))


class LedgerMarks:
    """Store of marks in PostgreSQL, for brokers other than Redis."""

    def __init__(self, database_url: str, pooled: bool | None = None) -> None:
        self._url = database_url
        self._pooled = pooled

    def set(self, names: Sequence[str], ring_timeout: float | None) -> list[str]:
        """Set free and timed-out marks."""
        from mailglass.ledger.database import get_database

        rows = get_database(self._url, self._pooled).run(
            "ring", {"names": list(names), "ring_timeout": _MARK_LIFETIME if ring_timeout is None else ring_timeout}
        )
        return [row.name for row in rows]

    def ages(self, names: Sequence[str]) -> dict[str, float]:
        """Return the ages of marks in seconds."""
        from mailglass.ledger.database import get_database

        rows = get_database(self._url, self._pooled).run("bell_ages", {"names": list(names)})
        return {row.name: row.age for row in rows}

    def clear(self, names: Sequence[str]) -> None:
        """Delete marks."""
        from mailglass.ledger.database import get_database

        get_database(self._url, self._pooled).run("clear_bells", {"names": list(names)})


def marks_for(settings: Settings) -> Marks:
    """Return the store of marks: Redis if there is one, else the ledger."""
    if settings.redis_url is not None:
        return RedisMarks(settings.redis_url.reveal())
    if settings.require_broker().startswith(("redis", "rediss")):
        return RedisMarks(settings.require_broker())
    return LedgerMarks(settings.require_database(), settings.pooled)


class _Bell(NamedTuple):
    """Message to publish once its mark is set."""

    task: str
    args: tuple[str, ...]
    queue: str
    priority: int


class Doorbell:
    """Ringer of lanes and tasks. Safe to use from several threads.

    After a failure it does not ring for a moment, so that a thousand calls do not each wait for a dead broker. The pump
    rings what was missed.

    Args:
        settings: name the broker.
        app: the Celery app that publishes.
        marks: the store of marks; by default the settings' one.
    """

    def __init__(self, settings: Settings, app: Any, marks: Marks | None = None) -> None:
        self._settings = settings
        self._app = app
        self._marks = marks
        self._cooldown = clock.Cooldown()
        self._lock = threading.Lock()

    @cached_property
    def _priorities(self) -> dict[str, int]:
        """Return broker priorities by stream, and of tasks. Redis and RabbitMQ count in opposite directions."""
        urgent_is_low = not self._settings.broker_url.reveal().startswith(("amqp", "pyamqp"))
        return {name: rank if urgent_is_low else 9 - rank for name, rank in _RANKS.items()}

    @cached_property
    def _queues(self) -> frozenset[str]:
        return frozenset(self._settings.queue_names)

    def _serving(self, lane: Lane) -> str:
        """Return the queue of a lane's rings: its own, or the default one if the settings do not name it."""
        return lane.queue if lane.queue in self._queues else DEFAULT_QUEUE

    def ring(
        self, lanes: Iterable[Lane], ring_timeout: float | None = None, go_on: Callable[[], bool] = lambda: True
    ) -> int:
        """Ring lanes that have no pending ring, those of urgent streams first.

        Args:
            lanes: lanes with work.
            ring_timeout: seconds after which a pending ring is rung again. Only for callers whose queue is served.
            go_on: called before each chunk of lanes; False ends the call.

        Returns:
            The number of rings published; 0 also if the broker cannot be reached.
        """
        bells = {
            f"{DISPATCH}:{lane}": _Bell(DISPATCH, (str(lane),), self._serving(lane), self._priorities[lane.stream])
            for lane in sorted(set(lanes), key=lambda lane: _RANKS[lane.stream])
        }
        return self._ring(bells, ring_timeout, go_on)

    def ring_task(self, task: str, ring_timeout: float | None = None, argument: str = "", *, last: bool = False) -> int:
        """Ring a task that serves no lane, unless a ring of it is pending.

        Args:
            task: its name.
            ring_timeout: as in `ring`.
            argument: such as an account's name; each has a ring of its own.
            last: let every other ring of the queue go first.

        Returns:
            The number of rings published.
        """
        queue = self._settings.tasks.get(task, DEFAULT_QUEUE)
        bell = _Bell(task, (argument,) if argument else (), queue, self._priorities[_LAST if last else ""])
        return self._ring({_task_bell(task, argument): bell}, ring_timeout)

    def repair(self, lanes: Iterable[Lane], ring_timeout: float, go_on: Callable[[], bool] = lambda: True) -> int:
        """Ring lanes that have no pending ring, and those whose ring is lost. For the pump.

        An unanswered ring is either lost or still queued. As long as the queue holds a message for each lane, none is
        lost, and ringing again would only lengthen the queue. If it holds fewer, the missing number is rung again,
        the oldest rings first, because a queue is answered in the order of its rings.

        Args:
            lanes: all that have due work.
            ring_timeout: seconds after which an unanswered ring may be lost.
            go_on: as in `ring`.

        Returns:
            The number of rings published.
        """
        by_queue: dict[str, list[Lane]] = {}
        for lane in lanes:
            by_queue.setdefault(self._serving(lane), []).append(lane)
        rung = 0
        for queue, due in by_queue.items():
            rung += self.ring(due, None, go_on)
            missing = len(due) - self._waiting(queue)
            if missing > 0 and go_on():
                rung += self.ring(self._oldest(due, ring_timeout, missing), ring_timeout, go_on)
        return rung

    def _oldest(self, lanes: Sequence[Lane], ring_timeout: float, count: int) -> list[Lane]:
        """Return up to `count` lanes whose rings have timed out, the oldest first."""
        names = {f"{DISPATCH}:{lane}": lane for lane in lanes}
        ages: dict[str, float] = {}
        try:
            for chunk in _chunks(list(names)):
                ages |= self._get_marks().ages(chunk)
        except Exception as error:
            self._cool_down(error)
            return []
        old = sorted((name for name, age in ages.items() if age > ring_timeout), key=lambda name: -ages[name])
        return [names[name] for name in old[:count]]

    def _waiting(self, queue: str) -> int:
        """Return the number of messages in a queue; 0 also if it does not exist or does not answer."""
        with suppress(Exception), self._app.pool.acquire(block=True, timeout=_BROKER_TIMEOUT) as connection:
            try:
                return _size(connection, queue)
            except Exception:
                # a late answer would be taken for the next one's, and closing the connection may take for ever
                connection.collect()
                raise
        return 0

    def answer(self, lane: Lane) -> None:
        """Clear a lane's mark, so that new work rings again. Call it before claiming."""
        self._clear([f"{DISPATCH}:{lane}"])

    def answer_task(self, task: str, argument: str = "") -> None:
        """Clear a task's mark."""
        self._clear([_task_bell(task, argument)])

    def _ring(
        self, bells: Mapping[str, _Bell], ring_timeout: float | None, go_on: Callable[[], bool] = lambda: True
    ) -> int:
        rung = 0
        for chunk in _chunks(list(bells)):
            if self._cooldown.active or not go_on():
                break
            rung += self._ring_chunk({name: bells[name] for name in chunk}, ring_timeout)
        return rung

    def _ring_chunk(self, bells: Mapping[str, _Bell], ring_timeout: float | None) -> int:
        """Mark and publish one chunk of rings; a failure starts the cooldown."""
        rung = 0
        try:
            marked = self._get_marks().set(list(bells), ring_timeout)
        except Exception as error:
            self._cool_down(error)
            return 0
        if len(marked) > 1 and self._pipelines and self._publish_together([bells[name] for name in marked]):
            self._cooldown.reset()
            return len(marked)
        for name in marked:
            bell = bells[name]
            try:
                self._publish(bell)
            except Exception as error:
                self._clear(marked[rung:])
                self._cool_down(error)
                return rung
            rung += 1
        self._cooldown.reset()
        return rung

    @cached_property
    def _pipelines(self) -> bool:
        return not self._settings.broker_url.reveal().startswith(("amqp", "pyamqp"))

    def _publish_together(self, bells: Sequence[_Bell]) -> bool:
        """Publish a chunk in one round trip; returns False if it failed, when some may have been published."""
        try:
            with self._app.producer_pool.acquire(block=True, timeout=_BROKER_TIMEOUT) as producer:
                try:
                    with producer.batch(max_size=_CHUNK):
                        for bell in bells:
                            self._send(bell, producer)
                except Exception:
                    producer.connection.collect()
                    raise
        except Exception:
            # the caller publishes one by one, in case only the pool's connection was dead; a second ring does no harm
            return False
        return True

    def _publish(self, bell: _Bell) -> None:
        """Publish one ring, and again if the pool's idle connection had died."""
        with self._app.producer_pool.acquire(block=True, timeout=_BROKER_TIMEOUT) as producer:
            connection = producer.connection
            while True:
                in_use = connection.connected
                try:
                    self._send(bell, producer)
                except Exception as error:
                    # a confirm that is still to come, or a closed channel, would be the next ring's
                    connection.collect()
                    if not in_use or isinstance(error.__cause__, TimeoutError):
                        raise
                    producer.revive(connection)
                else:
                    return

    def _send(self, bell: _Bell, producer: Any) -> None:
        self._app.send_task(
            bell.task,
            args=bell.args,
            queue=bell.queue,
            priority=bell.priority,
            producer=producer,
            retry=False,
            ignore_result=True,
            timeout=_BROKER_TIMEOUT,
        )

    def _clear(self, names: Sequence[str]) -> None:
        # a mark that stays costs a moment's delay: the pump sees its age
        try:
            self._get_marks().clear(names)
        except Exception as error:
            telemetry.emit("mailglass.doorbell.clear_failed", level=logging.WARNING, error_type=type(error).__name__)

    def _get_marks(self) -> Marks:
        if self._marks is None:
            with self._lock:
                if self._marks is None:
                    self._marks = marks_for(self._settings)
        return self._marks

    def _cool_down(self, error: Exception) -> None:
        self._cooldown.start()
        telemetry.emit("mailglass.doorbell.unreachable", level=logging.WARNING, error_type=type(error).__name__)


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK))


def _task_bell(task: str, argument: str) -> str:
    return f"{task}:{argument}" if argument else task


def _size(connection: Any, queue: str) -> int:
    connection.ensure_connection(max_retries=1, interval_start=0)
    amqp = connection.transport.driver_type == "amqp"
    # a RabbitMQ without memory listens to nobody who has published; the Redis transport has timeouts of its own
    bounded = connection.connection.transport.having_timeout(_BROKER_TIMEOUT) if amqp else nullcontext()
    with bounded, connection.channel() as channel:
        if not amqp:
            # kombu's passive declaration does not find a queue under a key prefix
            return int(channel._size(queue))
        return int(channel.queue_declare(queue, passive=True).message_count)
