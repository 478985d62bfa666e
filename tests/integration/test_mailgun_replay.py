"""A Mailgun webhook's token counts once: what is verified, what is kept, what becomes of a copy."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy

from mailglass.ledger.database import Database
from mailglass.providers.base import WebhookRequest
from mailglass.providers.registry import Accounts
from mailglass.settings import AccountSettings, Settings
from mailglass.webhooks import ingress
from mailglass.webhooks.ingress import Answer

KEY = "mg-signing-key"
OPTIONS = {"api_key": "env:MG_KEY", "domain": "mg.example.org", "webhook_signing_keys": ["env:MG_SIGN"]}
SETTINGS = Settings(
    accounts={
        "mg": AccountSettings("mg", "mailgun", options=OPTIONS),
        "mg2": AccountSettings("mg2", "mailgun", options=OPTIONS),
    }
)
ACCOUNTS = Accounts(SETTINGS, {"MG_KEY": "k", "MG_SIGN": KEY})


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


def posted(token: str, event: str = "delivered", away: int = 0) -> WebhookRequest:
    timestamp = str(int(time.time()) + away)
    signature = hmac.new(KEY.encode(), f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()
    proof = {"timestamp": timestamp, "token": token, "signature": signature}
    data = {"event": event, "id": "ev-1", "timestamp": 1772630930.25, "recipient": "ada@example.com"}
    return WebhookRequest(
        {"content-type": "application/json"}, json.dumps({"signature": proof, "event-data": data}).encode()
    )


def another_body(request: WebhookRequest, **data: Any) -> WebhookRequest:
    found = json.loads(request.body)
    found["event-data"] |= data
    return WebhookRequest(request.headers, json.dumps(found).encode())


def take(ledger: Database, request: WebhookRequest, account: str = "mg") -> Answer:
    return ingress.handle(
        account, request, settings=SETTINGS, database=ledger, accounts=ACCOUNTS, ring=lambda task: None
    )


def kept(ledger: Database) -> list[tuple[str, str, bytes]]:
    rows = ledger.query(sqlalchemy.text("SELECT account, dedupe_key, body FROM mailglass.webhook_events ORDER BY id"))
    return [(row.account, row.dedupe_key, bytes(row.body)) for row in rows]


def test_a_token_that_was_used_is_acknowledged_and_keeps_nothing_whatever_the_body_says(ledger: Database) -> None:
    first = posted("t1" * 25)
    replays = [first, another_body(first, event="complained"), another_body(first, recipient="eve@example.com")]
    assert [take(ledger, request).status for request in replays] == [200, 200, 200]
    assert kept(ledger) == [("mg", "t1" * 25, first.body)]


def test_a_retry_with_a_fresh_token_is_kept_and_tells_the_same_event(ledger: Database) -> None:
    requests = [posted("t1" * 25), posted("t2" * 25)]
    assert [take(ledger, request).status for request in requests] == [200, 200]
    provider = ACCOUNTS.open("mg")
    events = [provider.normalise(body, {}) for _, _, body in kept(ledger)]
    assert len(events) == 2 and events[0] == events[1]


def test_of_many_copies_at_once_one_is_kept(ledger: Database) -> None:
    first = posted("t1" * 25)
    copies = [another_body(first, recipient=f"r{number}@example.com") for number in range(8)]
    threads = [threading.Thread(target=take, args=(ledger, copy)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [key for _, key, _ in kept(ledger)] == ["t1" * 25]


def test_a_token_counts_once_for_each_account(ledger: Database) -> None:
    request = posted("t1" * 25)
    assert [take(ledger, request, account).status for account in ("mg", "mg2")] == [200, 200]
    assert len(kept(ledger)) == 2


def test_an_old_or_forged_proof_keeps_nothing(ledger: Database) -> None:
    forged = another_body(posted("t1" * 25))
    broken = json.loads(forged.body) | {"signature": {"timestamp": "1", "token": "t", "signature": "0" * 64}}
    requests = [posted("t1" * 25, away=-1000), WebhookRequest({}, json.dumps(broken).encode()), WebhookRequest({}, b"")]
    assert [take(ledger, request).status for request in requests] == [401, 401, 401]
    assert kept(ledger) == []
