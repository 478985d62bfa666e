"""Webhooks of a Mailgun account, signed with its key, for tests that post them to a real server."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import time
from contextlib import closing

import sqlalchemy

from mailglass.ledger.database import Database

KEY = "signing-key"
ENVIRONMENT = {"MAILGUN_KEY": "key", "MAILGUN_SIGNING_KEY": KEY}
MAX_BODY = 5000
ACCOUNT = f"""
[accounts.gun]
provider = "mailgun"
domain = "mg.example.com"
api_key = "env:MAILGUN_KEY"
webhook_signing_keys = ["env:MAILGUN_SIGNING_KEY"]

[webhooks]
max_body = {MAX_BODY}
"""


def event(key: str = KEY, token: str = "token-1") -> bytes:
    """Return the body of an event, signed now."""
    moment = str(int(time.time()))
    signature = hmac.new(key.encode(), f"{moment}{token}".encode(), hashlib.sha256).hexdigest()
    return (
        f'{{"signature": {{"timestamp": "{moment}", "token": "{token}", "signature": "{signature}"}}, '
        f'"event-data": {{"event": "delivered", "timestamp": {moment}, "id": "one", '
        '"recipient": "ada@example.com", "message": {"headers": {"message-id": "m@example.com"}}}}'
    ).encode()


def post(port: int, path: str, body: bytes, **headers: str) -> int:
    """Return the status of a request."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", path, body, {"content-type": "application/json", **headers})
        return connection.getresponse().status


def stored(url: str) -> int:
    """Return how many webhooks are in the ledger."""
    database = Database(url)
    try:
        return len(database.query(sqlalchemy.text("SELECT id FROM mailglass.webhook_events")))
    finally:
        database.dispose()
