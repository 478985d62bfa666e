"""Bodies that are being read: bounded for each peer, each account and in all, in number and in bytes.

Where a bound is met the oldest body within it is given up, and where memory runs out the largest. A body that comes
as bodies do is read within milliseconds, so it is the one that stalls which goes, and a stranger who opens many
requests and sends nothing gives up their own.
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
class Reading:
    """One body that is being read.

    Attributes:
        size: bytes that have come, and that it takes of the memory.
        given_up: it had to make room for another one.
    """

    groups: tuple[Hashable, ...]
    stop: Callable[[], object]
    size: int = 0
    given_up: bool = field(default=False)


class Bodies:
    """All bodies of one process. To be used from one event loop.

    Args:
        memory: bytes that they may take together, until they are done with.

    Attributes:
        free: bytes that are left.
    """

    def __init__(self, memory: int) -> None:
        self.free = memory
        # in the order in which they began
        self._groups: dict[Hashable, dict[Reading, None]] = {}

    def __len__(self) -> int:
        """Return how many are being read."""
        return len(self._groups.get(_ALL, ()))

    def begin(self, account: str, peer: str, stop: Callable[[], object]) -> Reading:
        """Begin to read a body.

        Args:
            account: for which it is posted.
            peer: the address it comes from.
            stop: called where the body is given up: it must end the reading soon.
        """
        reading = Reading((("peer", network_of(peer)), ("account", account), _ALL), stop)
        for key, bound in zip(reading.groups, (PER_PEER, PER_ACCOUNT, IN_ALL), strict=True):
            group = self._groups.get(key)
            if group is not None and len(group) >= bound:
                self._give_up(next(iter(group)))
        for key in reading.groups:
            self._groups.setdefault(key, {})[reading] = None
        return reading

    def take(self, reading: Reading, size: int) -> bool:
        """Take memory for bytes that have come. Returns whether there is enough, once larger bodies are given up."""
        if reading.given_up:
            return False
        reading.size += size
        self.free -= size
        while self.free < 0:
            largest = max(self._groups[_ALL], key=lambda one: one.size)
            if largest.size <= reading.size:
                return False
            self._give_up(largest)
        return True

    def end(self, reading: Reading, *, keep: bool) -> None:
        """End the reading. What a body that is kept takes is given back by `release`, once it is done with."""
        self._leave(reading)
        if not keep:
            self.release(reading)

    def release(self, reading: Reading) -> None:
        """Give back what the body takes of the memory."""
        self.free += reading.size
        reading.size = 0

    def _give_up(self, reading: Reading) -> None:
        reading.given_up = True
        self.end(reading, keep=False)
        reading.stop()

    def _leave(self, reading: Reading) -> None:
        for key in reading.groups:
            group = self._groups.get(key)
            if group is not None and reading in group:
                del group[reading]
                if not group:
                    del self._groups[key]


_ALL = ("all",)


def network_of(peer: str) -> str:
    """The network that one peer has to itself: an IPv4 address, or the 64 bits that an IPv6 host may choose within."""
    if ":" not in peer:
        return peer
    try:
        return str(ipaddress.ip_network((peer.partition("%")[0], 64), strict=False))
    except ValueError:
        return peer
