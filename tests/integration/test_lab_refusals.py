"""Routes whose first account is refused over HTTP, in each provider's own words and in each of its ways."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy

from mailglass.engine import Engine
from mailglass.ids import uuid7
from mailglass.ledger import deliveries
from mailglass.ledger.breakers import breakers
from mailglass.ledger.database import Database
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.suppressions import suppressions_of
from mailglass.mail.addresses import Address
from mailglass.providers.base import Provider
from mailglass.providers.mailgun import MailgunOptions, MailgunProvider
from mailglass.providers.postmark import PostmarkOptions, PostmarkProvider
from mailglass.providers.sendgrid import SendGridOptions, SendGridProvider
from mailglass.providers.ses import SESOptions, SESProvider
from mailglass.routing.lane import Lane
from mailglass.settings import AccountSettings, Route, Secret, Settings
from mailglass.testing.provider import FixedAccounts

ARGUMENTS = [
    "--calm",
    "--watch-stdin",
    "--account",
    "ses=ses",
    "--account",
    "mailgun=mailgun",
    "--account",
    "spare=mailgun",
]
FIRSTS = ("postmark", "sendgrid", "ses", "mailgun")
SENDER = Address("shop@example.org")


@dataclass(frozen=True)
class Way:
    """A way of refusing an account, or one sender of it.

    Attributes:
        at_once: one such answer is enough for the breaker, because it can be about nothing but the account.
    """

    provider: str
    name: str
    status: int
    body: Any
    headers: dict[str, str] | None = None
    at_once: bool = True


def postmark(name: str, code: int, *, at_once: bool = True, status: int = 422) -> Way:
    return Way("postmark", name, status, {"ErrorCode": code, "Message": name}, at_once=at_once)


def ses(name: str, code: str, message: str = "", *, at_once: bool = True, status: int = 400) -> Way:
    return Way("ses", name, status, {"message": message}, {"x-amzn-errortype": code}, at_once)


def sendgrid(name: str, status: int, message: str, *, at_once: bool = True) -> Way:
    return Way("sendgrid", name, status, {"errors": [{"message": message}]}, at_once=at_once)


def mailgun(name: str, status: int, message: str) -> Way:
    return Way("mailgun", name, status, {"message": message})


WAYS = [
    postmark("identity not verified", 400, at_once=False),
    postmark("identity not confirmed", 401, at_once=False),
    postmark("sending paused", 413),
    postmark("account suspended", 412),
    postmark("quota", 405),
    postmark("auth withdrawn", 10, status=401),
    ses("identity not verified", "MessageRejected", "Email address is not verified. In region X: a@b.c", at_once=False),
    ses("mail from not verified", "MailFromDomainNotVerifiedException", at_once=False),
    ses("sending paused", "SendingPausedException"),
    ses("account suspended", "AccountSuspendedException"),
    ses("quota", "TooManyRequestsException", "Daily message quota exceeded.", status=429),
    ses("auth withdrawn", "UnrecognizedClientException", status=403),
    sendgrid("identity not verified", 403, "The from address does not match a verified Sender Identity", at_once=False),
    sendgrid("sending paused", 403, "access forbidden"),
    sendgrid("account suspended", 403, "Your account is suspended"),
    sendgrid("quota", 401, "Maximum credits exceeded"),
    sendgrid("auth withdrawn", 401, "The provided authorization grant is invalid, expired, or revoked"),
    mailgun("identity not verified", 400, "Sandbox subdomains are for test purposes only."),
    mailgun("sending paused", 403, "The domain is not allowed to send: the domain is disabled"),
    mailgun("account suspended", 403, "Forbidden"),
    mailgun("quota", 402, "Payment required"),
    mailgun("auth withdrawn", 401, "Forbidden"),
]


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "mailglass.testing.lab", *ARGUMENTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin and process.stdout
    try:
        yield json.loads(process.stdout.readline())["http_url"]
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="module")
def providers(lab: str) -> Iterator[dict[str, Provider]]:
    key = Secret("lab-key")
    opened: dict[str, Provider] = {
        "postmark": PostmarkProvider("postmark", PostmarkOptions(server_token=key, base_url=lab)),
        "sendgrid": SendGridProvider("sendgrid", SendGridOptions(api_key=key, base_url=lab)),
        "ses": SESProvider(
            "ses",
            SESOptions(region="us-east-1", access_key_id=key, secret_access_key=key, endpoint_url=f"{lab}/ses"),
        ),
        **{
            name: MailgunProvider(name, MailgunOptions(api_key=key, domain="example.org", base_url=f"{lab}/{name}"))
            for name in ("mailgun", "spare")
        },
    }
    yield opened
    for provider in opened.values():
        provider.close()


class Setup:
    """An engine with a route for each provider: its account, then a spare one elsewhere."""

    def __init__(self, ledger: Database, lab: str, providers: dict[str, Provider]) -> None:
        self.ledger, self.lab = ledger, lab
        settings = Settings(
            accounts={name: AccountSettings(name, provider.name, SENDER) for name, provider in providers.items()},
            routes=tuple(Route((name, "spare"), tenant=name) for name in FIRSTS),
        )
        self.settings, self.providers = settings, providers
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what workers and ledger have learnt of the accounts."""
        self.ledger.query(sqlalchemy.text("DELETE FROM mailglass.breakers"))
        self.engine = Engine(self.settings, self.ledger, FixedAccounts(self.settings, self.providers))

    def refuse(self, account: str, status: int, body: Any, headers: dict[str, str] | None = None, **more: str) -> None:
        told = {"status": status, "body": body, "headers": headers or {}, **more}
        httpx.put(f"{self.lab}/lab/refusals/{account}", json=told, trust_env=False).raise_for_status()

    def allow(self, account: str) -> None:
        httpx.delete(f"{self.lab}/lab/refusals/{account}", trust_env=False).raise_for_status()

    def send(self, account: str, *recipients: str) -> list[UUID]:
        lane = Lane("mailglass", account, "transactional")
        body = json.dumps({"v": 1, "subject": "s", "text": "t"})
        items = [
            Item(id=uuid7(), lane=lane, message_id=uuid7(), content=body, recipient=Address(recipient))
            for recipient in recipients
        ]
        ids = [recorded.id for recorded in submit(self.ledger.run, items)]
        while self.engine.run(lane).claimed:
            pass
        return ids

    def statuses(self, ids: list[UUID]) -> list[str]:
        return [deliveries.get(self.ledger, delivery).status.value for delivery in ids]

    def attempts(self, delivery: UUID) -> list[str | None]:
        return [event.account for event in deliveries.timeline(self.ledger, delivery) if event.kind == "attempted"]


@pytest.fixture
def setup(database_url: str, lab: str, providers: dict[str, Provider]) -> Iterator[Setup]:
    setup = Setup(Database(database_url), lab, providers)
    yield setup
    for account in FIRSTS:
        setup.allow(account)


@pytest.mark.parametrize("account", FIRSTS)
def test_second_account_sends_what_the_first_accounts_provider_refuses(setup: Setup, account: str) -> None:
    people = ("ada@example.com", "bob@example.net")
    for way in (way for way in WAYS if way.provider == account):
        setup.begin_anew()
        setup.refuse(account, way.status, way.body, way.headers)
        ids = setup.send(account, *people)
        assert setup.statuses(ids) == ["sent", "sent"], way
        for delivery in ids:
            # the one that found out met the first account once; nobody met the second one twice
            assert setup.attempts(delivery) in ([account, "spare"], ["spare"]), way
        assert (account in breakers(setup.ledger, [account])) is way.at_once, way
        for person in people:
            assert suppressions_of(setup.ledger, account, Address(person)) == [], way


BAD = "bad@example.net"
OF_ONE = [
    ("postmark", 422, {"ErrorCode": 406, "Message": f"Inactive recipient: {BAD}"}, None, "suppressed"),
    ("ses", 400, {"message": "Invalid address"}, {"x-amzn-errortype": "BadRequestException"}, "failed"),
    ("sendgrid", 400, {"errors": [{"message": "Does not contain a valid address."}]}, None, "failed"),
    ("mailgun", 400, {"message": "'to' parameter is not a valid address"}, None, "failed"),
]


@pytest.mark.parametrize(("account", "status", "body", "headers", "end"), OF_ONE, ids=lambda value: str(value)[:9])
def test_refused_recipient_beside_a_hundred_changes_nothing_for_the_others(
    setup: Setup, account: str, status: int, body: Any, headers: dict[str, str] | None, end: str
) -> None:
    setup.refuse(account, status, body, headers, holding=BAD)
    good = [f"u{number}@example.com" for number in range(100)]
    ids = setup.send(account, *good[:50], *[BAD] * 4, *good[50:])
    bad = ids[50:54]
    rest = [delivery for delivery in ids if delivery not in bad]
    assert Counter(setup.statuses(rest)) == {"sent": 100}
    assert {tuple(setup.attempts(delivery)) for delivery in rest} == {(account,)}
    assert set(setup.statuses(bad)) == {end}
    # a refusal of the recipient ends there: no other account is asked, and none is stopped
    assert {tuple(setup.attempts(delivery)) for delivery in bad} == {(account,)}
    assert breakers(setup.ledger, [account, "spare"]) == {}
