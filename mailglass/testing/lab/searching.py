"""Search answers of the lab's accounts, in each provider's own form."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mailglass.testing.lab.archive import Archive, Kept

_OUR_ID: Final = re.compile(r"unique_args\['mailglass_id'\]=\"([^\"]*)\"")
_ADDRESS: Final = re.compile(r'full_email:"([^"]*)"')


def postmark(archive: Archive, account: str, request: Request) -> Response:
    """`GET /messages/outbound`, filtered by metadata."""
    wanted = request.query_params.get("metadata_mailglass_id")
    found = [kept for kept in archive.newest(account) if wanted in (None, kept.mail.delivery_id)]
    start = int(request.query_params["offset"])
    messages = [
        {
            "MessageID": kept.message_id,
            "MessageStream": request.query_params.get("messagestream", "outbound"),
            "To": [{"Email": kept.mail.recipient, "Name": None}],
            "ReceivedAt": _iso(kept.moment),
            "Status": "Sent",
            "Metadata": {"mailglass_id": kept.mail.delivery_id} if kept.mail.delivery_id else {},
        }
        for kept in found[start : start + int(request.query_params["count"])]
    ]
    return JSONResponse({"TotalCount": len(found), "Messages": messages})


def mailgun(archive: Archive, account: str, request: Request) -> Response:
    """`GET /v3/DOMAIN/events` of one recipient."""
    begin, end = (float(request.query_params[name]) for name in ("begin", "end"))
    events = [
        event
        for kept in archive.to(account, request.query_params["recipient"])
        for event in kept.events(time.time())
        if begin <= event["timestamp"] <= end
    ]
    page = sorted(events, key=lambda event: event["timestamp"])[: int(request.query_params["limit"])]
    return JSONResponse({"items": page, "paging": {"next": str(request.url), "previous": str(request.url)}})


def mailjet(archive: Archive, account: str, request: Request) -> Response:
    """`GET /v3/REST/message` by CustomID, which is told only on request."""
    wanted, params = request.query_params.get("CustomID"), request.query_params
    found = [kept for kept in archive.newest(account) if wanted in (None, kept.mail.delivery_id)]
    messages = [
        {"ID": int(kept.message_id), "ArrivedAt": _iso(kept.moment), "Status": "sent"}
        | ({"CustomID": kept.mail.delivery_id} if params.get("ShowCustomID") == "true" else {})
        | ({"ContactAlt": kept.mail.recipient} if params.get("ShowContactAlt") == "true" else {})
        for kept in found[: int(params.get("Limit", "10"))]
    ]
    return JSONResponse({"Count": len(messages), "Data": messages, "Total": len(messages)})


def sparkpost(archive: Archive, account: str, request: Request) -> Response:
    """`GET /api/v1/events/message` of some recipients."""
    people, kinds = (request.query_params[name].split(",") for name in ("recipients", "events"))
    events = [
        next(iter(event["msys"].values()))
        for person in people
        for kept in archive.to(account, person)
        for event in kept.events(time.time())
    ]
    found = [event for event in events if event["type"] in kinds][: int(request.query_params["per_page"])]
    return JSONResponse({"results": found, "total_count": len(found), "links": {}})


def mandrill(archive: Archive, account: str, found: Mapping[str, Any]) -> Response:
    """`/messages/search.json` by recipients."""
    messages = [
        {
            "ts": int(kept.moment),
            "_id": kept.message_id,
            "email": kept.mail.recipient,
            "state": "sent",
            "metadata": {"mailglass_id": kept.mail.delivery_id} if kept.mail.delivery_id else [],
        }
        for person in _ADDRESS.findall(str(found.get("query")))
        for kept in archive.to(account, person)
    ]
    return JSONResponse(messages[: int(found.get("limit", 100))])


def brevo(archive: Archive, account: str, tags: Mapping[str, list[str]], request: Request) -> Response:
    """`GET /v3/smtp/emails` of one recipient; without any it has no list."""
    mails = [
        {
            "email": kept.mail.recipient,
            "messageId": kept.message_id,
            "date": _iso(kept.moment),
            "tags": tags.get(kept.message_id, []),
        }
        for kept in archive.to(account, request.query_params["email"])
    ]
    return JSONResponse({"count": len(mails)} | ({"transactionalEmails": mails} if mails else {}))


def sendgrid(archive: Archive, account: str, request: Request) -> Response:
    """`GET /v3/messages` by our argument, which this list does not repeat."""
    wanted = _OUR_ID.search(request.query_params["query"])
    found = [kept for kept in archive.newest(account) if wanted and kept.mail.delivery_id == wanted[1]]
    return JSONResponse({"messages": [_activity(kept) for kept in found[: int(request.query_params["limit"])]]})


def sendgrid_message(archive: Archive, account: str, request: Request) -> Response:
    """`GET /v3/messages/ID`."""
    for kept in archive.newest(account):
        if kept.message_id == request.path_params["message_id"].partition(".")[0]:
            return JSONResponse(_activity(kept) | {"unique_args": json.dumps({"mailglass_id": kept.mail.delivery_id})})
    return JSONResponse({"errors": [{"message": "not found"}]}, 404)


def _activity(kept: Kept) -> dict[str, Any]:
    return {
        "msg_id": f"{kept.message_id}.filter0001.1.lab.0",
        "to_email": kept.mail.recipient,
        "status": "delivered",
        "last_event_time": _iso(kept.moment),
    }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
