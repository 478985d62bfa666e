"""The lab's SendGrid: bounces, invalid addresses, spam reports, and global unsubscribes, the one to add to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mailglass.testing.lab.witness import Witness

LISTS: Final = ("bounces", "invalid_emails", "spam_reports", "unsubscribes")
MAX_PAGE: Final = 500
_GLOBAL: Final = "/v3/asm/suppressions/global"


class SendGridSuppressionsLab:
    """The lists of one account.

    Args:
        account: whose sending they refuse.
        witness: notes who is refused.
        refusal: the answer to a request without the account's key; None for one that has it.
    """

    def __init__(self, account: str, witness: Witness, refusal: Callable[[Request], Response | None]) -> None:
        self.listed: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in LISTS}
        self._account = account
        self._witness = witness
        self._refusal = refusal

    def routes(self) -> list[Route]:
        """Its part of the HTTP server."""
        return [
            Route("/v3/suppression/{name:str}", self._page, methods=["GET"]),
            Route("/v3/suppression/{name:str}/{address:str}", self._delete, methods=["DELETE"]),
            Route(_GLOBAL, self._unsubscribe, methods=["POST"]),
            Route(f"{_GLOBAL}/{{address:str}}", self._delete, methods=["DELETE"]),
        ]

    def suppress(self, name: str, address: str, status: str = "") -> None:
        """Put an address onto a list, with the SMTP status where there was one."""
        entry = {"email": address.lower(), "created": int(time.time())} | ({"status": status} if status else {})
        self.listed[name].setdefault(address.lower(), entry)
        self._witness.deactivate(self._account, address)

    async def _page(self, request: Request) -> Response:
        if refused := self._refusal(request):
            return refused
        name = request.path_params["name"]
        limit, offset = (
            int(request.query_params.get(key, fallback)) for key, fallback in (("limit", 50), ("offset", 0))
        )
        if name not in self.listed or not 0 < limit <= MAX_PAGE:
            return _error(404 if name not in self.listed else 400)
        return JSONResponse(list(self.listed[name].values())[offset : offset + limit])

    async def _unsubscribe(self, request: Request) -> Response:
        if refused := self._refusal(request):
            return refused
        addresses = (await request.json())["recipient_emails"]
        if not addresses or not all("@" in address for address in addresses):
            return _error(400)
        for address in addresses:
            self.suppress("unsubscribes", address)
        return JSONResponse({"recipient_emails": [address.lower() for address in addresses]}, 201)

    async def _delete(self, request: Request) -> Response:
        if refused := self._refusal(request):
            return refused
        name, address = request.path_params.get("name", "unsubscribes"), request.path_params["address"].lower()
        if self.listed.get(name, {}).pop(address, None) is None:
            return _error(404)
        if not any(address in entries for entries in self.listed.values()):
            self._witness.activate(self._account, address)
        return Response(status_code=204)


def _error(status: int) -> JSONResponse:
    return JSONResponse({"errors": [{"message": "not what this endpoint takes", "field": None}]}, status)
