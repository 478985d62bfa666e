"""Accounts of the lab that refuse in their provider's own words, as a test told them to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class ScriptedRefusal:
    """An answer that an account gives to requests instead of taking their mail.

    Attributes:
        status: of the answer.
        body: JSON.
        headers: beside those of any answer.
        holding: refuse only requests whose body holds this text; "" for all.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    holding: str = ""


class Refusals:
    """Refusals by account, changed over HTTP."""

    def __init__(self) -> None:
        self._by_account: dict[str, ScriptedRefusal] = {}

    def routes(self) -> list[Route]:
        """Return the control API: `PUT /lab/refusals/NAME` takes a `ScriptedRefusal` as JSON, DELETE ends it."""
        return [Route("/lab/refusals/{account}", self._change, methods=["PUT", "DELETE"])]

    def guard(self, account: str, routes: list[Route]) -> list[Route]:
        """Return an account's routes, whose POST is refused while the account refuses."""
        return [Route(route.path, self._guarded(account, route), methods=list(route.methods or ())) for route in routes]

    def _guarded(self, account: str, route: Route) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            refusal = self._by_account.get(account) if request.method == "POST" else None
            if refusal is not None and refusal.holding.encode() in await request.body():
                return JSONResponse(refusal.body, refusal.status, dict(refusal.headers))
            answer: Response = await route.endpoint(request)
            return answer

        return endpoint

    async def _change(self, request: Request) -> Response:
        account = request.path_params["account"]
        self._by_account.pop(account, None)
        if request.method == "PUT":
            self._by_account[account] = ScriptedRefusal(**await request.json())
        return Response(status_code=204)
