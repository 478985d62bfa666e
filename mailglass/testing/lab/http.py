"""The lab's HTTP side: the providers' APIs, and the control API that tests and the demo read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from mailglass.testing.lab.refusing import Refusals
from mailglass.testing.lab.world import World


class Api(Protocol):
    """A provider's API in the lab."""

    def routes(self) -> list[Route]:
        """Return the paths it answers."""


def lab_app(world: World, apis: Sequence[Api], accounts: Mapping[str, Api] | None = None) -> Starlette:
    """Return the ASGI application of a lab.

    `GET /lab/counts` says the totals, `GET /lab/received` how often each delivery was accepted; `POST /lab/pause`
    holds the webhooks back and `POST /lab/resume` lets them go. `PUT /lab/refusals/NAME` has an account refuse in the
    provider's own words, `{"status": 401, "body": {...}}`, until `DELETE` ends it. It has no password: serve it on
    loopback only.

    Args:
        world: what they share.
        apis: each at its provider's own paths.
        accounts: each below `/NAME`, so that providers with like paths, or two accounts of one, do not meet.
    """

    async def counts(request: Request) -> JSONResponse:
        return JSONResponse(world.counts() | {"accounts": dict(world.witness.accounts)})

    async def received(request: Request) -> JSONResponse:
        return JSONResponse(dict(world.witness.received))

    async def pause(request: Request) -> JSONResponse:
        world.poster.pause()
        return JSONResponse(world.counts())

    async def resume(request: Request) -> JSONResponse:
        world.poster.resume()
        return JSONResponse(world.counts())

    control = [
        Route("/lab/counts", counts, methods=["GET"]),
        Route("/lab/received", received, methods=["GET"]),
        Route("/lab/pause", pause, methods=["POST"]),
        Route("/lab/resume", resume, methods=["POST"]),
    ]
    refusals = Refusals()
    mounts = [Mount(f"/{name}", routes=refusals.guard(name, api.routes())) for name, api in (accounts or {}).items()]
    routes = [route for api in apis for route in refusals.guard(getattr(api, "account", ""), api.routes())]
    return Starlette(routes=[*control, *refusals.routes(), *mounts, *routes])
