"""The lab's Postmark: the suppression list of each message stream, read whole or by days, written 50 at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mailglass.clock import now
from mailglass.testing.lab.witness import Witness

MAX_BATCH: Final = 50
_COMPLAINT: Final = "SpamComplaint"


class PostmarkSuppressionsLab:
    """The lists of one server.

    Args:
        account: whose sending they refuse.
        witness: notes who is refused.
        refusal: the answer to a request without the server's token; None for one that has it.
    """

    def __init__(self, account: str, witness: Witness, refusal: Callable[[Request], Response | None]) -> None:
        self.listed: dict[str, dict[str, dict[str, Any]]] = {}
        self._account = account
        self._witness = witness
        self._refusal = refusal

    def routes(self) -> list[Route]:
        """Its part of the HTTP server."""
        base = "/message-streams/{stream:str}/suppressions"
        return [
            Route(f"{base}/dump", self._dump, methods=["GET"]),
            Route(base, self._add, methods=["POST"]),
            Route(f"{base}/delete", self._delete, methods=["POST"]),
        ]

    def suppress(self, stream: str, address: str, reason: str, origin: str) -> None:
        """Put an address onto a stream's list; a complaint stays one."""
        entry = {
            "EmailAddress": address.lower(),
            "SuppressionReason": reason,
            "Origin": origin,
            "CreatedAt": now().isoformat(timespec="seconds"),
        }
        entries = self.listed.setdefault(stream, {})
        if entries.get(address.lower(), {}).get("SuppressionReason") != _COMPLAINT:
            entries[address.lower()] = entry
        self._witness.deactivate(self._account, address)

    async def _dump(self, request: Request) -> Response:
        if refused := self._refusal(request):
            return refused
        since = date.fromisoformat(request.query_params.get("fromdate", "0001-01-01"))
        until = date.fromisoformat(request.query_params.get("todate", "9999-12-31"))
        entries = self.listed.get(request.path_params["stream"], {}).values()
        found = [entry for entry in entries if since <= date.fromisoformat(entry["CreatedAt"][:10]) <= until]
        return JSONResponse({"Suppressions": found})

    async def _add(self, request: Request) -> Response:
        def add(stream: str, address: str) -> tuple[str, str | None]:
            if "@" not in address:
                return "Failed", "The address is not valid."
            self.suppress(stream, address, "ManualSuppression", "Customer")
            return "Suppressed", None

        return await self._change(request, add)

    async def _delete(self, request: Request) -> Response:
        def delete(stream: str, address: str) -> tuple[str, str | None]:
            entries = self.listed.get(stream, {})
            if entries.get(address.lower(), {}).get("SuppressionReason") == _COMPLAINT:
                return "Failed", "A spam complaint cannot be deleted."
            entries.pop(address.lower(), None)
            self._witness.activate(self._account, address)
            return "Deleted", None

        return await self._change(request, delete)

    async def _change(self, request: Request, change: Callable[[str, str], tuple[str, str | None]]) -> Response:
        if refused := self._refusal(request):
            return refused
        items = (await request.json())["Suppressions"]
        if not 0 < len(items) <= MAX_BATCH:
            return JSONResponse({"ErrorCode": 300, "Message": "Give 1 to 50 addresses."}, 422)
        answers = []
        for item in items:
            status, message = change(request.path_params["stream"], str(item["EmailAddress"]))
            answers.append({"EmailAddress": item["EmailAddress"], "Status": status, "Message": message})
        return JSONResponse({"Suppressions": answers})
