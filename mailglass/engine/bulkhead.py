"""Bulkheads between accounts: which of a worker's slots may wait for which provider.

A worker has a number of slots: processes, threads or greenlets. A slow provider must not hold all of them. So a slot
waits two seconds for a provider call and no longer: then the call goes on in a thread beside the pool, and the slot
takes other work. A call at an account that is known to be slow begins there. Of accounts that nobody knows yet, all
calls together hold at most half of the slots, so that not even the first two seconds can stop a worker.

All of this is about one worker, so its figures stand in memory that the processes of its pool share: no query, no
round trip, and nothing that could be unreachable. The entry of a process that died is free again at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final, NamedTuple, Self

from mailglass import clock

# seconds of a provider call after which its account is slow
SLOW: Final = 2.0
# seconds of a call after which mail that was never attempted need not wait for its end
HANGING: Final = 10.0
# seconds without a slow call after which a quick one shows that an account is quick again
RECOVERY: Final = 10.0
# more accounts than this share entries in the table, and may be taken for unknown
_KNOWN: Final = 1024
_TRIES: Final = 16
_HEAD: Final = struct.Struct("<Q")
# account, when a call of it was last slow (0: never); both 0 where the entry is free
_ACCOUNT: Final = struct.Struct("<Qd")
# process, account, when the entry is free again whatever happens, 1 where the call is beside the pool
_CALL: Final = struct.Struct("<QQdQ")
_CALLS_AT: Final = _HEAD.size + _KNOWN * _ACCOUNT.size


class Entry(NamedTuple):
    """Entry of the table of calls: its position, and until when it is held, which no other entry there has had."""

    position: int
    until: float


class _Call(NamedTuple):
    account: int
    beside: bool
    until: float


class Job:
    """One batch in one slot, watched by whoever waits for it.

    Attributes:
        changed: set when the batch has ended, or a call began that the slot need not wait for.
        call: the provider call that is under way.
    """

    def __init__(self) -> None:
        self.changed = threading.Event()
        self.call: Call | None = None

    @property
    def overdue(self) -> bool:
        """Return whether the slot has waited long enough for the call that is under way."""
        call = self.call
        return call is not None and (call.beside or call.seconds >= SLOW)


class Call:
    """Leave to call one account's provider, for one batch. Used as a context manager around each call.

    Args:
        bulkhead: who gave it.
        account: whose provider.
        key: the account in the shared table.
        entry: in the shared table; None for a quick account, which needs none.
        beside: the slot need not wait for the call.
        job: who watches.
    """

    def __init__(
        self, bulkhead: Bulkhead, account: str, key: int, entry: Entry | None, beside: bool, job: Job | None
    ) -> None:
        self.account = account
        self.beside = beside
        self._bulkhead = bulkhead
        self._key = key
        self._entry = entry
        self._job = job
        self._began: float | None = None
        # the slot may let the call go while its batch ends
        self._lock = threading.Lock()
        self._over = False

    @property
    def quick(self) -> bool:
        """Return whether the account was known to be quick when leave was given."""
        return self._entry is None

    @property
    def seconds(self) -> float:
        """Return how long the call under way has lasted."""
        began = self._began
        return 0.0 if began is None else clock.monotonic() - began

    def __enter__(self) -> Self:
        self._began = clock.monotonic()
        if self._job is not None:
            self._job.call = self
            if self.beside:
                self._job.changed.set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = self.seconds
        if self._job is not None:
            self._job.call = None
        self._began = None
        self._bulkhead.learn(self._key, seconds)

    def step_aside(self) -> bool:
        """Let the slot go while the call goes on, unless too many do so already, or its batch has ended."""
        with self._lock:
            if not self.beside and not self._over:
                entry = self._bulkhead.step_aside(self._key, self._entry)
                if entry is not None:
                    self._entry, self.beside = entry, True
            return self.beside

    def release(self) -> None:
        """Give the leave back: no further call of this batch follows."""
        with self._lock:
            self._over = True
            entry, self._entry = self._entry, None
        if entry is not None:
            self._bulkhead.release(entry)


class Bulkhead:
    """Bulkhead of one worker, which counts its slow calls.

    Make it before the pool forks. Safe to use from several threads.

    Args:
        slots: batches that the worker runs at once.
        leaves: a slot may go on to other work while a slow call lasts. False where the pool may end a process that
            holds no task, which would cut the call off: then slow calls hold their slots, at most half of them.
        lease: seconds after which no call can be under way any more.
    """

    def __init__(self, slots: int, *, leaves: bool = True, lease: float = 120.0) -> None:
        self.leaves = leaves
        self._lease = lease
        self._capacity = 8 * slots + 32
        size = _CALLS_AT + self._capacity * _CALL.size
        # the lock of a file is let go when its process dies, which no lock in shared memory is
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the worker
        self._file.truncate(size)
        self._memory = mmap.mmap(self._file.fileno(), size)
        self._lock = threading.Lock()
        self._local = threading.local()
        self.resize(slots)

    @property
    def most_jobs(self) -> int:
        """Batches that one process may have under way: in slots, and beside them."""
        return self._capacity

    @property
    def slots(self) -> int:
        """Batches that the worker runs at once."""
        return int(_HEAD.unpack_from(self._memory)[0])

    def resize(self, slots: int) -> None:
        """Note the slots of a pool that has grown or shrunk."""
        _HEAD.pack_into(self._memory, 0, max(1, slots))

    @contextmanager
    def watched(self, job: Job) -> Iterator[None]:
        """All that this thread does meanwhile belongs to one job."""
        self._local.job = job
        try:
            yield
        finally:
            self._local.job = None

    def admit(self, account: str) -> Call | None:
        """Give leave to call an account's provider for one batch, or None where its slow calls have what they may have.

        An account may have half of the worker's slots in slow calls, one at the least. All calls of accounts that are
        not known to be quick hold together at most half of the slots; those beside the pool hold none.
        """
        key = _key(account)
        job: Job | None = getattr(self._local, "job", None)
        slow = self._slow(key)
        if slow is False:
            return Call(self, account, key, None, False, job)
        beside = bool(slow) and self.leaves and job is not None
        with self._locked():
            if not self._fits(key, beside, self._entries()):
                return None
            entry = self._insert(key, beside)
        return None if entry is None else Call(self, account, key, entry, beside, job)

    def has_room(self, account: str) -> bool:
        """Return whether `admit` would give leave now."""
        key = _key(account)
        slow = self._slow(key)
        if slow is False:
            return True
        with self._locked():
            return self._fits(key, bool(slow) and self.leaves, self._entries())

    def hangs(self, account: str) -> bool:
        """Return whether a call of this account's has been under way for so long that new mail should go elsewhere."""
        key = _key(account)
        if not self._slow(key):
            return False
        begun = clock.monotonic() - HANGING + self._lease
        with self._locked():
            return any(entry.account == key and entry.until <= begun for entry in self._entries())

    def learn(self, key: int, seconds: float) -> None:
        """Note how many seconds a call of an account took."""
        now = clock.monotonic()
        if seconds >= SLOW:
            self._write(key, now)
            return
        known = self._slow_at(key)
        if known is None or (known and now - known >= RECOVERY):
            self._write(key, 0.0)

    def step_aside(self, key: int, entry: Entry | None) -> Entry | None:
        """Note that a call goes on beside the pool; None where it must hold its slot."""
        self._write(key, clock.monotonic())
        if not self.leaves:
            return None
        with self._locked():
            entries = self._entries()
            if sum(other.beside for other in entries) >= 2 * self._beside_most:
                return None
            if entry is not None:
                self._clear(entry)
            return self._insert(key, True)

    def release(self, entry: Entry) -> None:
        """Free an entry of the table of calls."""
        with self._locked():
            self._clear(entry)

    @property
    def _half(self) -> int:
        return max(1, self.slots // 2)

    @property
    def _beside_most(self) -> int:
        return 2 * self.slots + 2

    def _fits(self, key: int, beside: bool, entries: list[_Call]) -> bool:
        if sum(entry.account == key for entry in entries) >= self._half:
            return False
        if beside:
            return sum(entry.beside for entry in entries) < self._beside_most
        return sum(not entry.beside for entry in entries) < self._half

    def _slow(self, key: int) -> bool | None:
        """Return whether an account is slow; None where nothing is known of it."""
        known = self._slow_at(key)
        return None if known is None else known > 0

    def _slow_at(self, key: int) -> float | None:
        for offset in self._offsets(key):
            account, slow_at = _ACCOUNT.unpack_from(self._memory, offset)
            if account == key:
                return float(slow_at)
            if not account:
                return None
        return None

    def _write(self, key: int, slow_at: float) -> None:
        with self._locked():
            offsets = list(self._offsets(key))
            for offset in offsets:
                if _ACCOUNT.unpack_from(self._memory, offset)[0] in (key, 0):
                    break
            else:
                offset = offsets[0]
            _ACCOUNT.pack_into(self._memory, offset, key, slow_at)

    def _offsets(self, key: int) -> Iterator[int]:
        for step in range(_TRIES):
            yield _HEAD.size + (key + step) % _KNOWN * _ACCOUNT.size

    def _entries(self) -> list[_Call]:
        """Return the calls of processes that live, and clear the entries of others."""
        now = clock.monotonic()
        table = memoryview(self._memory)[_CALLS_AT:]
        living: dict[int, bool] = {}
        entries = []
        for index, (pid, account, until, beside) in enumerate(_CALL.iter_unpack(table)):
            if not pid:
                continue
            if pid not in living:
                living[pid] = _lives(pid)
            if living[pid] and now < until:
                entries.append(_Call(account, bool(beside), until))
            else:
                self._clear(Entry(index, until))
        return entries

    def _insert(self, key: int, beside: bool) -> Entry | None:
        for index in range(self._capacity):
            offset = _CALLS_AT + index * _CALL.size
            if not _CALL.unpack_from(self._memory, offset)[0]:
                entry = Entry(index, clock.monotonic() + self._lease)
                _CALL.pack_into(self._memory, offset, os.getpid(), key, entry.until, int(beside))
                return entry
        return None

    def _clear(self, entry: Entry) -> None:
        offset = _CALLS_AT + entry.position * _CALL.size
        if _CALL.unpack_from(self._memory, offset)[2] == entry.until:
            _CALL.pack_into(self._memory, offset, 0, 0, 0.0, 0)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


def _key(account: str) -> int:
    """Return the account's key in the shared table, never 0."""
    return int.from_bytes(hashlib.blake2b(account.encode(), digest_size=8).digest(), "little") or 1


def _lives(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


_current: Bulkhead | None = None


def install(bulkhead: Bulkhead | None) -> None:
    """Let the engines of this process, and of those that it forks, heed a worker's bulkhead."""
    global _current
    _current = bulkhead


def current() -> Bulkhead | None:
    """Return this worker's bulkhead, or None in a process that is no worker."""
    return _current
