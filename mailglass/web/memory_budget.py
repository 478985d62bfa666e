"""Memory for bodies that are being read: bounded for each peer, for each account and in all, by number and by bytes.

At a bound of numbers the oldest body within it is dropped. At the bound of memory the largest one is. An ordinary body
is read within milliseconds, so it is the stalling one that is dropped, and a stranger who opens many requests without
sending anything drops their own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

# at one time; a proxy that reads requests whole before it passes them on comes nowhere near
PER_PEER = 50
PER_ACCOUNT = 100
IN_ALL = 400


@dataclass(slots=True, eq=False)
class BodyReading:
    """One body that is being read.

    Attributes:
        groups: the bounds that the body counts for.
        stop: ends the reading soon.
        size: bytes read so far, which the body takes of the budget.
        dropped: whether the body had to leave its memory to others.
    """

    groups: tuple[Hashable, ...]
    stop: Callable[[], object]
    size: int = 0
    dropped: bool = field(default=False)


class MemoryBudget:
    """The bodies of one process. Used from one event loop.

    Args:
        size: bytes that all bodies may take together, until they are released.

    Attributes:
        free: bytes left.
    """

    def __init__(self, size: int) -> None:
        self.free = size
        # in the order in which they began
        self._groups: dict[Hashable, dict[BodyReading, None]] = {}

    def __len__(self) -> int:
        """Return the number of bodies that are being read."""
        return len(self._groups.get(_ALL, ()))

    def begin(self, account: str, peer: str, stop: Callable[[], object]) -> BodyReading:
        """Begin to read a body.

        Args:
            account: the account in the URL.
            peer: the client's address.
            stop: called if the body is dropped; it must end the reading soon.
        """
        reading = BodyReading((("peer", network_of(peer)), ("account", account), _ALL), stop)
        for key, bound in zip(reading.groups, (PER_PEER, PER_ACCOUNT, IN_ALL), strict=True):
            group = self._groups.get(key)
            if group is not None and len(group) >= bound:
                self._drop(next(iter(group)))
        for key in reading.groups:
            self._groups.setdefault(key, {})[reading] = None
        return reading

    def take(self, reading: BodyReading, size: int) -> bool:
        """Take memory for received bytes, and drop larger bodies if it is short.

        Returns:
            Whether there is enough.
        """
        if reading.dropped:
            return False
        reading.size += size
        self.free -= size
        while self.free < 0:
            largest = max(self._groups[_ALL], key=lambda body: body.size)
            if largest.size <= reading.size:
                return False
            self._drop(largest)
        return True

    def end(self, reading: BodyReading, *, keep: bool) -> None:
        """End the reading.

        Args:
            reading: the body.
            keep: keep its memory until `release`.
        """
        self._leave(reading)
        if not keep:
            self.release(reading)

    def release(self, reading: BodyReading) -> None:
        """Return a body's memory to the budget."""
        self.free += reading.size
        reading.size = 0

    def _drop(self, reading: BodyReading) -> None:
        reading.dropped = True
        self.end(reading, keep=False)
        reading.stop()

    def _leave(self, reading: BodyReading) -> None:
        for key in reading.groups:
            group = self._groups.get(key)
            if group is not None and reading in group:
                del group[reading]
                if not group:
                    del self._groups[key]


_ALL = ("all",)


def network_of(peer: str) -> str:
    """Return the network that one peer has to itself: an IPv4 address, or the /64 of an IPv6 host."""
    if ":" not in peer:
        return peer
    try:
        return str(ipaddress.ip_network((peer.partition("%")[0], 64), strict=False))
    except ValueError:
        return peer
