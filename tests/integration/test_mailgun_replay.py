"""A Mailgun webhook's token proves one body: what is kept, and what becomes of copies and of other bodies."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy

from mailglass import telemetry
from mailglass.ledger import webhooks
from mailglass.ledger.database import Database
from mailglass.providers.base import WebhookRequest
from mailglass.providers.registry import Accounts
from mailglass.settings import AccountSettings, Settings
from mailglass.webhooks import ingress
from mailglass.webhooks.ingress import IncomingWebhook, IngressContext, Response
from tests.ingress import handle as one_webhook

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


def posted(token: str, event: str = "delivered", away: int = 0, key: str = KEY) -> WebhookRequest:
    timestamp = str(int(time.time()) + away)
    signature = hmac.new(key.encode(), f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()
    proof = {"timestamp": timestamp, "token": token, "signature": signature}
    data = {"event": event, "id": "ev-1", "timestamp": 1772630930.25, "recipient": "ada@example.com"}
    return WebhookRequest(
        {"content-type": "application/json"}, json.dumps({"signature": proof, "event-data": data}).encode()
    )


def another_body(request: WebhookRequest, **data: Any) -> WebhookRequest:
    found = json.loads(request.body)
    found["event-data"] |= data
    return WebhookRequest(request.headers, json.dumps(found).encode())


def take(
    ledger: Database,
    request: WebhookRequest,
    account: str = "mg",
    tenant: str | None = None,
    accounts: Accounts = ACCOUNTS,
) -> Response:
    return one_webhook(
        account, request, settings=SETTINGS, database=ledger, accounts=accounts, ring=lambda task: None, tenant=tenant
    )


def kept(ledger: Database) -> list[tuple[str, str | None, bytes]]:
    rows = ledger.query(sqlalchemy.text("SELECT account, tenant_id, body FROM mailglass.webhook_events ORDER BY id"))
    return [(row.account, row.tenant_id, bytes(row.body)) for row in rows]


URLS = [(account, tenant) for account in ("mg", "mg2") for tenant in (None, "acme", "news")]


def test_a_used_token_proves_no_other_body_at_any_account_or_tenant(ledger: Database) -> None:
    first = posted("t1" * 25)
    assert take(ledger, first, "mg", "acme").status == 200
    others = [another_body(first, event="complained"), another_body(first, recipient="eve@example.com")]
    answers = [take(ledger, other, account, tenant) for other in others for account, tenant in URLS]
    assert {(answer.status, answer.body) for answer in answers} == {(401, b"")}
    assert kept(ledger) == [("mg", "acme", first.body)]


def test_the_same_body_at_each_url_is_a_webhook_of_its_own(ledger: Database) -> None:
    first = posted("t1" * 25)
    answers = [take(ledger, first, account, tenant).status for account, tenant in URLS * 2]
    assert answers == [200] * 12
    assert kept(ledger) == [(account, tenant, first.body) for account, tenant in URLS]


def test_a_token_signed_for_another_time_is_the_same_token(ledger: Database) -> None:
    assert take(ledger, posted("t1" * 25)).status == 200
    assert take(ledger, posted("t1" * 25, away=7)).status == 401


def test_a_token_under_another_signing_key_is_another_token(ledger: Database) -> None:
    theirs = Accounts(SETTINGS, {"MG_KEY": "k", "MG_SIGN": "another-key"})
    assert take(ledger, posted("t1" * 25)).status == 200
    assert take(ledger, posted("t1" * 25, "complained", key="another-key"), accounts=theirs).status == 200
    assert take(ledger, posted("t1" * 25, "opened", key="another-key"), accounts=theirs).status == 401


def test_a_retry_with_a_fresh_token_is_kept_and_tells_the_same_event(ledger: Database) -> None:
    requests = [posted("t1" * 25), posted("t2" * 25)]
    assert [take(ledger, request).status for request in requests] == [200, 200]
    provider = ACCOUNTS.open("mg")
    events = [provider.normalise(body, {}) for _, _, body in kept(ledger)]
    assert len(events) == 2 and events[0] == events[1]


def test_of_many_bodies_with_one_token_at_once_one_is_kept_and_the_others_are_refused(ledger: Database) -> None:
    first = posted("t1" * 25)
    copies = [another_body(first, recipient=f"r{number}@example.com") for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda pair: take(ledger, pair[0], *pair[1]), zip(copies, URLS * 2, strict=False)))
    assert sorted(answer.status for answer in answers) == [200] + [401] * 7
    assert len(kept(ledger)) == 1


def test_a_group_that_shows_one_token_twice_keeps_the_first_body(ledger: Database) -> None:
    first, innocent = posted("t1" * 25), posted("t2" * 25)
    group = [
        IncomingWebhook("mg", first, "acme"),
        IncomingWebhook("mg2", another_body(first, event="opened"), "news"),
        IncomingWebhook("mg", innocent),
        IncomingWebhook("mg2", first, "news"),
        IncomingWebhook("mg", another_body(innocent, event="opened"), "acme"),
        IncomingWebhook("mg", first, "acme"),
    ]
    desk = IngressContext(SETTINGS, ledger, ACCOUNTS, lambda task: None)
    assert [answer.status for answer in ingress.handle_all(group, desk)] == [200, 401, 200, 200, 401, 200]
    assert kept(ledger) == [
        ("mg", "acme", first.body),
        ("mg", None, innocent.body),
        ("mg2", "news", first.body),
    ]


def test_a_refused_copy_is_told_without_a_word_of_it(ledger: Database) -> None:
    told: list[dict[str, Any]] = []
    take(ledger, posted("t1" * 25))
    stop = telemetry.subscribe(lambda name, fields: told.append({"name": name, **fields}))
    try:
        take(ledger, another_body(posted("t1" * 25), event="complained"), "mg2")
    finally:
        stop()
    assert [(fact["name"], fact["account"], fact["reason"]) for fact in told] == [
        ("mailglass.webhook.refused", "mg2", "reused_proof")
    ]
    assert "t1t1" not in repr(told)


def test_bound_tokens_are_forgotten_once_their_time_has_long_passed(ledger: Database) -> None:
    for token in ("t1", "t2"):
        assert take(ledger, posted(token * 25)).status == 200
    ledger.query(
        sqlalchemy.text(
            "UPDATE mailglass.webhook_proofs SET used_at = now() - interval '73 hours'"
            " WHERE proof = (SELECT min(proof) FROM mailglass.webhook_proofs) RETURNING 1"
        )
    )
    assert [webhooks.prune_proofs(ledger, 10) for _ in range(2)] == [1, 0]


def test_an_old_or_forged_proof_keeps_nothing(ledger: Database) -> None:
    forged = another_body(posted("t1" * 25))
    broken = json.loads(forged.body) | {"signature": {"timestamp": "1", "token": "t", "signature": "0" * 64}}
    requests = [posted("t1" * 25, away=-1000), WebhookRequest({}, json.dumps(broken).encode()), WebhookRequest({}, b"")]
    assert [take(ledger, request).status for request in requests] == [401, 401, 401]
    assert kept(ledger) == []
    # nor does it use the token up
    assert take(ledger, posted("t1" * 25)).status == 200
