"""The rate that a provider grants an account: asked once an hour by one worker, heeded by all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy

from mailglass import clock
from mailglass.errors import RateLimitType
from mailglass.ids import uuid7
from mailglass.ledger.database import Database
from mailglass.limits import Limiter, Rule, learn_granted_rates
from mailglass.limits.gcra_redis import RedisGcra
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import RateSignal
from mailglass.providers.registry import Accounts, provider_class
from mailglass.settings import AccountSettings, Settings, build_options
from mailglass.testing.provider import FixedAccounts, ScriptedProvider
from mailglass.testing.provider_suite.wire import HTTPWire, Reply, Seen

UNLIMITED = Rule("account:first", 0.0, 1, RateLimitType.PER_ACCOUNT, account="first")
HOUR = 3600


class Granting(ScriptedProvider):
    """Tells the rate that it grants, and counts how often it was asked."""

    grants_rate = True

    def __init__(self, rate: float | Exception | None, account: str = "first") -> None:
        super().__init__(account=account)
        self.rate = rate
        self.asked = 0

    def granted_rate(self) -> float | None:
        self.asked += 1
        if isinstance(self.rate, Exception):
            raise self.rate
        return self.rate


@pytest.fixture
def ledger(database_url: str) -> Database:
    return Database(database_url)


@pytest.fixture(params=["redis", "ledger"])
def limiter(request: pytest.FixtureRequest, ledger: Database) -> Limiter:
    if request.param == "redis":
        return Limiter(ledger, RedisGcra(request.getfixturevalue("redis_url")))
    return Limiter(ledger)


def ask(ledger: Database, limiter: Limiter, *providers: ScriptedProvider) -> int:
    given = {provider.account: provider for provider in providers}
    return learn_granted_rates(list(given), ledger, FixedAccounts(Settings(), given), limiter)


def granted(limiter: Limiter, mails: int = 100) -> int:
    return sum(grant.granted for grant in limiter.take([(UNLIMITED,)] * mails))


def pass_time(ledger: Database, seconds: float) -> None:
    moved = "UPDATE mailglass.rate_lessons SET rate_until = rate_until - CAST(:passed AS bigint)"
    ledger.query(sqlalchemy.text(moved).bindparams(passed=round(seconds * 1e6)))


def test_a_granted_rate_limits_an_account_without_a_limit(ledger: Database, limiter: Limiter) -> None:
    assert ask(ledger, limiter, Granting(14.0)) == 1
    assert 28 <= granted(limiter) <= 30


def test_an_account_is_asked_about_once_an_hour(ledger: Database, limiter: Limiter) -> None:
    provider = Granting(14.0)
    for _ in range(3):
        ask(ledger, limiter, provider)
    pass_time(ledger, HOUR - 60)
    ask(ledger, limiter, provider)
    assert provider.asked == 1
    pass_time(ledger, 20 * 60)
    provider.rate = 50.0
    assert ask(ledger, limiter, provider) == 1
    assert provider.asked == 2
    assert granted(limiter, 200) >= 100


def test_of_many_workers_one_asks(ledger: Database, limiter: Limiter) -> None:
    providers = [Granting(14.0) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        learnt = list(pool.map(lambda provider: ask(ledger, limiter, provider), providers))
    assert sum(learnt) == 1
    assert sum(provider.asked for provider in providers) == 1


@pytest.mark.parametrize("answer", [None, RuntimeError("nobody@example.com"), 0.0])
def test_a_provider_that_does_not_tell_is_asked_again_in_minutes_and_the_rate_before_holds(
    ledger: Database, limiter: Limiter, answer: Any
) -> None:
    provider = Granting(14.0)
    ask(ledger, limiter, provider)
    provider.rate = answer
    pass_time(ledger, 1.2 * HOUR)
    assert ask(ledger, limiter, provider) == 0
    assert ask(ledger, limiter, provider) == 0
    assert provider.asked == 2
    assert 28 <= granted(limiter) <= 30
    pass_time(ledger, 301)
    ask(ledger, limiter, provider)
    assert provider.asked == 3


def test_provider_without_a_rate_costs_no_statement(limiter: Limiter) -> None:
    nobody = Database("postgresql://nobody@127.0.0.1:1/nothing")
    assert ask(nobody, limiter, ScriptedProvider(account="first")) == 0


@pytest.fixture
def wire() -> Iterator[HTTPWire]:
    with HTTPWire(lambda request: Reply(500)) as found:
        yield found


def ses_says(**quota: float) -> Callable[[Seen], Reply]:
    return lambda request: Reply.json({"SendQuota": quota, "SendingEnabled": True})


def test_ses_grants_what_its_account_says(ledger: Database, limiter: Limiter, wire: HTTPWire) -> None:
    wire.behaviour = ses_says(MaxSendRate=14.0, Max24HourSend=50_000.0, SentLast24Hours=50_000.0)
    options = {
        "region": "eu-west-1",
        "access_key_id": "env:KEY",
        "secret_access_key": "env:KEY",
        "endpoint_url": wire.url,
    }
    accounts = Accounts(Settings(accounts={"first": AccountSettings("first", "ses", None, options)}), {"KEY": "k"})
    assert learn_granted_rates(["first", "unknown"], ledger, accounts, limiter) == 1
    assert [request.path for request in wire.seen] == ["/v2/email/account"]
    assert 28 <= granted(limiter) <= 30
    accounts.close()


@pytest.mark.parametrize(
    ("room", "options", "fields", "expected"),
    [
        ("sendgrid", {"api_key": "env:KEY"}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "epoch"}, 0),
        ("resend", {"api_key": "env:KEY"}, {"RateLimit-Remaining": "1", "RateLimit-Reset": "30"}, 1),
        ("brevo", {"api_key": "env:KEY"}, {"x-sib-ratelimit-remaining": "2", "x-sib-ratelimit-reset": "30"}, 2),
        (
            "mailgun",
            {"api_key": "env:KEY", "domain": "mg.example.com"},
            {"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "epoch"},
            3,
        ),
        ("postmark", {"server_token": "env:KEY"}, {"RateLimit": "limit=10, remaining=4, reset=30"}, 4),
    ],
)
@pytest.mark.parametrize("status", [200, 429])
def test_rate_in_an_answer_is_there_for_whoever_asks(
    wire: HTTPWire, room: str, options: dict[str, Any], fields: dict[str, str], expected: int, status: int
) -> None:
    soon = f"{clock.now().timestamp() + 30:.0f}"
    told = {name: soon if value == "epoch" else value for name, value in fields.items()}
    wire.behaviour = lambda request: Reply.json({}, status, told)
    cls = provider_class(room)
    account = {**options, "base_url": wire.url}
    provider = cls("first", build_options(cls.Options, account, "accounts.first", {"KEY": "k"}))
    assert provider.rate_signal() is None
    address = Address("shop@example.org")
    mail = Outgoing(uuid7(), "acme", "transactional", Address("ada@example.com"), address, "S", clock.now(), text="T")
    (outcome,) = provider.send([mail], deadline=clock.monotonic() + 30)
    assert (outcome.kind is OutcomeClass.THROTTLED) is (status == 429)
    signal = provider.rate_signal()
    assert isinstance(signal, RateSignal)
    assert signal.remaining == expected
    assert 20 < signal.reset_seconds <= 31
    assert provider.rate_signal() is None
    provider.close()
