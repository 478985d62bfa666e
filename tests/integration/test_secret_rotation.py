"""Secrets rotate under load: no mail is lost or sent twice, and no webhook refused while its secret is accepted."""

from __future__ import annotations

import base64
import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mailglass import Message, clock, deliver_later, tenant
from mailglass.engine import Engine
from mailglass.engine.provider_call import call
from mailglass.ledger import deliveries
from mailglass.ledger.breakers import breakers
from mailglass.ledger.lifecycle import Status
from mailglass.mail.outcomes import OutcomeClass
from mailglass.providers.registry import Accounts
from mailglass.routing import Lane
from mailglass.settings import configure, load_settings
from tests.provider_lab import mail
from tests.rotation import Mount, Postmark, postmark

LANE = Lane("mailglass", "acme", "transactional")


@pytest.fixture
def api() -> Iterator[Postmark]:
    with postmark("token-0") as world:
        yield world


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    return Mount(tmp_path / "mount", token="token-0", hook="hook-0", hook_before="hook-0")


def use(cluster: Any, api: Postmark, server_token: str, passwords: list[str]) -> None:
    """Let all mail go through one Postmark account."""
    config = Path(cluster.environment["MAILGLASS_CONFIG"])
    webhooks = f'webhook_username = "hooks"\nwebhook_passwords = {passwords!r}' if passwords else ""
    config.write_text(
        f"""
default_from = "Shop <shop@example.com>"
log_format = "console"

[accounts.main]
provider = "postmark"
server_token = {server_token}
base_url = "{api.url}"
{webhooks}
suppressions = "off"

[[routes]]
accounts = ["main"]

[streams.transactional]
backoff_base = 0.1
backoff_max = 0.5
""",
        encoding="utf-8",
    )
    configure(load_settings())


class Producer:
    """Queues mail until it is stopped."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            with tenant("acme"):
                message = Message(to=f"u{len(self.ids)}@example.com", subject="Receipt", text="Thank you.")
                self.ids.append(str(deliver_later.delay(message).id))

    def stop(self) -> list[str]:
        self._ended.set()
        self._thread.join(60)
        return self.ids


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_mail_sent_while_its_key_rotates_goes_out_once(
    cluster: Any, api: Postmark, mount: Mount, pool: str, wait_for: Callable[..., None]
) -> None:
    use(cluster, api, f'"{mount.reference("token")}"', [])
    worker = cluster.worker("-P", pool, "-c", "2")
    producer = Producer()
    try:
        wait_for(lambda: api.used["token-0"])
        # a good one: both are valid for a while, as every rotation has it
        api.tokens.add("token-1")
        mount.swap(token="token-1", hook="hook-0", hook_before="hook-0")
        wait_for(lambda: api.used["token-1"])
        # a wrong one: the provider refuses it, and the one before it goes on
        mount.swap(token="wrong", hook="hook-0", hook_before="hook-0")
        wait_for(lambda: api.refused["wrong"])
        # that is token-0 in a process that has not used token-1 yet
        before = api.used.total()
        wait_for(lambda: api.used.total() > before + 3)
        # the right one; those before it stay valid until every process has seen it
        api.tokens.add("token-2")
        mount.swap(token="token-2", hook="hook-0", hook_before="hook-0")
        wait_for(lambda: api.used["token-2"])
    finally:
        ids = producer.stop()
    wait_for(lambda: len(api.received) == len(ids))
    assert api.received == Counter(dict.fromkeys(ids, 1))
    ledger = cluster.runtime.database
    wait_for(lambda: deliveries.counts(ledger)["acme"] == {"sent": len(ids)})
    assert breakers(ledger, ["main"]) == {}
    log = worker.log.read_text(encoding="utf-8")
    assert "mailglass.secrets.refused" in log
    assert not any(f"token-{number}" in log for number in range(3))
    assert "Traceback" not in log


def queue(*recipients: str) -> list[str]:
    with tenant("acme"):
        return [
            str(deliver_later.delay(Message(to=f"{name}@example.com", subject="Receipt", text="Thank you.")).id)
            for name in recipients
        ]


def test_a_refused_key_costs_no_attempt_and_opens_no_breaker(
    cluster: Any, api: Postmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_NEW", "token-new")
    monkeypatch.setenv("KEY_OLD", "token-0")
    use(cluster, api, '["env:KEY_NEW", "env:KEY_OLD"]', [])
    runtime = cluster.runtime
    accounts = Accounts(runtime.settings)
    engine = Engine(runtime.settings, runtime.database, accounts)
    ids = queue(*(f"u{number}" for number in range(5)))
    while engine.run(LANE).claimed:
        pass
    assert api.received == Counter(dict.fromkeys(ids, 1))
    assert {deliveries.get(runtime.database, UUID(key)).attempts for key in ids} == {1}
    assert breakers(runtime.database, ["main"]) == {}
    # the old one is withdrawn and the new one taken: what was refused is tried again before the account is given up
    api.tokens = {"token-new"}
    (last,) = queue("last")
    while engine.run(LANE).claimed:
        pass
    assert api.received[last] == 1
    # both are withdrawn: the mail waits, as for any account that is refused
    api.tokens = set()
    (waits,) = queue("waits")
    while engine.run(LANE).claimed:
        pass
    assert api.received[waits] == 0
    assert deliveries.get(runtime.database, UUID(waits)).status in (Status.HELD, Status.QUEUED)
    assert breakers(runtime.database, ["main"])["main"].reason == "misconfigured"
    accounts.close()


def test_a_batch_that_has_begun_asks_with_a_refused_key_once(
    cluster: Any, api: Postmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_NEW", "token-new")
    monkeypatch.setenv("KEY_OLD", "token-0")
    use(cluster, api, '["env:KEY_NEW", "env:KEY_OLD"]', [])
    accounts = Accounts(cluster.runtime.settings)
    provider = accounts.open("main")
    for number in range(3):
        ((outcome,), _) = call(accounts, provider, [mail(f"u{number}@example.com")], clock.monotonic() + 30)
        assert outcome.kind is OutcomeClass.ACCEPTED
    assert api.refused == {"token-new": 1}
    accounts.close()


class Poster:
    """Posts webhooks, each with the newest password that the provider was told, until it is stopped."""

    def __init__(self, port: int, password: str) -> None:
        self.password = password
        self.statuses: Counter[tuple[str, int]] = Counter()
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._ended.wait(0.01):
            number += 1
            password = self.password
            self.statuses[password, post(self._port, password, number)] += 1

    def has_posted(self, password: str) -> bool:
        return self.statuses[password, 200] > 20

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(60)


def _is_taken(port: int, password: str) -> bool:
    return post(port, password) == 200


def post(port: int, password: str, number: int = 0) -> int:
    credentials = base64.b64encode(f"hooks:{password}".encode()).decode()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        body = b'{"RecordType": "Open", "MessageID": "%d"}' % number
        connection.request("POST", "/webhooks/main", body, {"authorization": f"Basic {credentials}"})
        return connection.getresponse().status


def test_no_webhook_is_refused_while_its_password_rotates(
    cluster: Any, api: Postmark, mount: Mount, unused_port: int, wait_for: Callable[..., None]
) -> None:
    passwords = [mount.reference("hook"), mount.reference("hook_before")]
    use(cluster, api, f'"{mount.reference("token")}"', passwords)
    web = cluster.web(unused_port)
    poster = Poster(unused_port, "hook-0")
    try:
        for number in range(1, 4):
            mount.swap(token="token-0", hook=f"hook-{number}", hook_before=f"hook-{number - 1}")
            # as the guide has it: the provider is told of a password once it is accepted here
            new, old = f"hook-{number}", f"hook-{number - 1}"
            wait_for(partial(_is_taken, unused_port, new), 10)
            poster.password = new
            wait_for(partial(poster.has_posted, new))
            assert post(unused_port, old) == 200
            if number > 1:
                assert post(unused_port, f"hook-{number - 2}") == 401
        # half of a rotation is no reason to refuse anything
        (mount.directory / "..data" / "hook").resolve().write_text("", encoding="utf-8")
        wait_for(lambda: "mailglass.secrets.refused" in web.log.read_text(encoding="utf-8"), 20)
        assert post(unused_port, "hook-3") == 200
    finally:
        poster.stop()
    assert {status for _, status in poster.statuses} == {200}
    assert not any(f"hook-{number}" in web.log.read_text(encoding="utf-8") for number in range(4))
