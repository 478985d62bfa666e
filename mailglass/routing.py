"""Routes: tenant and stream to accounts in order, and the lane the work waits in."""

from __future__ import annotations

from dataclasses import dataclass

from mailglass.errors import RouteError
from mailglass.settings import Route, Settings


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """Where due work waits: a queue, a tenant, a stream. The unit of ringing and claiming."""

    queue: str
    tenant: str
    stream: str

    def __str__(self) -> str:
        return f"{self.queue}/{self.tenant}/{self.stream}"

    @classmethod
    def parse(cls, text: str) -> Lane:
        """The lane that `str()` wrote.

        Raises:
            ValueError: not a lane.
        """
        queue, tenant, stream = text.split("/")
        return cls(queue, tenant, stream)


def resolve_route(settings: Settings, tenant: str, stream: str) -> Route:
    """The first route that matches.

    Raises:
        RouteError: none does; there is no fallback.
    """
    for route in settings.routes:
        if route.tenant in ("*", tenant) and route.stream in ("*", stream):
            return route
    raise RouteError(f"no route for tenant {tenant!r} and stream {stream!r}: add one to [[routes]] in mailglass.toml")
