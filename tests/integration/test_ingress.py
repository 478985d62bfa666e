"""The webhook endpoint, as a function and over HTTP: who is believed, what is kept, what is answered."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import sqlalchemy
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.applications import Starlette
from starlette.routing import Mount

from mailglass import telemetry
from mailglass.doorbell import WEBHOOKS
from mailglass.errors import ConfigError, SignatureError, SignatureErrorType
from mailglass.ledger.database import Database, close_databases
from mailglass.mail.outcomes import Outcome
from mailglass.providers.base import Provider, WebhookRequest
from mailglass.providers.registry import Accounts
from mailglass.runtime import Runtime
from mailglass.settings import AccountSettings, Secret, Settings, WebhookSettings
from mailglass.testing.provider import FixedAccounts
from mailglass.testing.provider_suite import Declaration, Feature
from mailglass.web import WebApp, create_app
from mailglass.web import asgi as web_asgi
from mailglass.web import http as web_http
from mailglass.webhooks import ingress
from mailglass.webhooks.ingress import Response
from tests.ingress import handle as one_webhook
from tests.rooms import ROOMS

SECRET = b"between us"
SETTINGS = Settings(
    accounts={
        "main": AccountSettings("main", "signed"),
        "mail": AccountSettings("mail", "smtp", options={"host": "127.0.0.1", "security": "none"}),
        "bare": AccountSettings("bare", "signed", options={"bare": True}),
    },
    webhooks=WebhookSettings(max_body=2000),
)


@dataclass(frozen=True)
class SignedOptions:
    """Whether there is a secret."""

    bare: bool = False


class SignedProvider(Provider):
    """Signs the body with HMAC in one header, and may name the delivery in another."""

    name = "signed"
    Options = SignedOptions
    retry_status = 429
    signed_headers = ("x-signature", "Authorization")

    def send(self, mails: Any, *, deadline: float) -> list[Outcome]:
        raise AssertionError("nothing is sent here")

    def verify(self, request: WebhookRequest) -> None:
        if self.options.bare:
            raise ConfigError("accounts.bare.secret", "not set", "Set it")
        if request.header("x-signature") == "bug":
            raise RuntimeError("a bug in a provider's room")
        if not hmac.compare_digest(request.header("x-signature"), signature(request.body)):
            raise SignatureError(SignatureErrorType.BAD_SIGNATURE)

    def delivery_key(self, request: WebhookRequest) -> str | None:
        return request.headers.get("x-delivery")


def signature(body: bytes) -> str:
    return hmac.new(SECRET, body, hashlib.sha256).hexdigest()


class TestAccounts(Accounts):
    """The settings' accounts, where `signed` is the provider above."""

    __test__ = False

    def open(self, name: str) -> Provider:
        account = self.settings(name)
        if account.provider != "signed":
            return super().open(name)
        return SignedProvider(name, SignedOptions(**account.options))


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def rung() -> list[str]:
    return []


@pytest.fixture
def take(ledger: Database, rung: list[str]) -> Callable[..., Response]:
    """Hand a request to the endpoint; signed unless it says otherwise."""

    def handle(
        body: bytes = b"[]", headers: Mapping[str, str] | None = None, *, account: str = "main", **parts: Any
    ) -> Response:
        given = {"x-signature": signature(body)} if headers is None else dict(headers)
        context = {
            "settings": SETTINGS,
            "database": ledger,
            "accounts": TestAccounts(SETTINGS),
            "ring": rung.append,
        }
        return one_webhook(account, WebhookRequest(given, body), **(context | parts))

    return handle


def kept(ledger: Database) -> list[Any]:
    return ledger.query(sqlalchemy.text("SELECT * FROM mailglass.webhook_events ORDER BY id"))


BINARY = bytes(range(256)) + b"\r\n\x00 {\xff"


def test_a_verified_webhook_is_kept_byte_for_byte_and_its_task_is_rung(
    take: Callable[..., Response], ledger: Database, rung: list[str]
) -> None:
    assert take(BINARY) == Response(200)
    (row,) = kept(ledger)
    assert bytes(row.body) == BINARY
    assert (row.account, row.provider, row.status, row.attempts) == ("main", "signed", "received", 0)
    assert row.headers == {"x-signature": signature(BINARY)}
    assert rung == [WEBHOOKS]


def test_credentials_are_never_kept_even_if_a_provider_asks_for_them(
    take: Callable[..., Response], ledger: Database
) -> None:
    take(b"[]", {"x-signature": signature(b"[]"), "authorization": "Basic c2VjcmV0", "user-agent": "poster"})
    assert kept(ledger)[0].headers == {"x-signature": signature(b"[]")}


def test_a_forged_webhook_is_answered_401_with_nothing_in_it_and_leaves_no_trace(
    take: Callable[..., Response], ledger: Database, rung: list[str]
) -> None:
    for headers in ({"x-signature": signature(b"another body")}, {}):
        answer = take(b"[]", headers)
        assert (answer.status, answer.body) == (401, b"")
    assert kept(ledger) == []
    assert rung == []


def test_an_account_whose_provider_posts_no_webhooks_believes_none(take: Callable[..., Response]) -> None:
    assert take(account="mail").status == 401


def test_an_account_that_does_not_exist_is_not_found(take: Callable[..., Response]) -> None:
    assert take(account="nobody") == Response(404)


def test_a_body_beyond_the_limit_is_refused_before_it_is_verified(take: Callable[..., Response]) -> None:
    assert take(b"x" * 2000).status == 200
    assert take(b"x" * 2001).status == 413
    assert take(b"x" * 2001, {}).status == 413


@pytest.mark.parametrize("headers", [{}, {"x-signature": "bug"}])
def test_an_account_that_cannot_verify_believes_nothing_and_says_so_to_the_operator(
    take: Callable[..., Response], ledger: Database, headers: dict[str, str]
) -> None:
    told: list[str] = []
    stop = telemetry.subscribe(lambda name, fields: told.append(name))
    try:
        assert take(b"[]", headers, account="main" if headers else "bare") == Response(500)
    finally:
        stop()
    assert told == ["mailglass.webhook.failed" if headers else "mailglass.webhook.misconfigured"]
    assert kept(ledger) == []


def test_the_same_webhook_again_is_answered_200_and_kept_once(
    take: Callable[..., Response], ledger: Database, rung: list[str]
) -> None:
    assert [take(b"one"), take(b"one"), take(b"two")] == [Response(200)] * 3
    assert [bytes(row.body) for row in kept(ledger)] == [b"one", b"two"]
    assert rung == [WEBHOOKS] * 2


def test_two_accounts_keep_the_same_webhook_each(take: Callable[..., Response], ledger: Database) -> None:
    settings = replace(SETTINGS, accounts={name: AccountSettings(name, "signed") for name in ("one", "two")})
    for name in ("one", "two"):
        take(b"same", account=name, settings=settings, accounts=TestAccounts(settings))
    assert [row.account for row in kept(ledger)] == ["one", "two"]


@pytest.mark.parametrize("key", ["delivery-7", "x" * 100_000, "\x00\ud800", "ä\n"])
def test_the_providers_own_key_tells_repetitions_whatever_is_in_it(
    take: Callable[..., Response], ledger: Database, key: str
) -> None:
    for body in (b"signed at one", b"signed at two"):
        assert take(body, {"x-signature": signature(body), "x-delivery": key}) == Response(200)
    (row,) = kept(ledger)
    assert bytes(row.body) == b"signed at one"
    assert len(row.dedupe_key) <= 200


def test_a_doorbell_that_does_not_ring_is_no_failure_of_the_request(
    take: Callable[..., Response], ledger: Database
) -> None:
    def broken(task: str) -> None:
        raise ConnectionError("no broker")

    assert take(ring=broken) == Response(200)
    assert len(kept(ledger)) == 1


def test_without_a_database_the_provider_is_asked_to_post_again(
    take: Callable[..., Response], unused_port: int, rung: list[str]
) -> None:
    away = Database(f"postgresql://nobody@127.0.0.1:{unused_port}/nowhere")
    answer = take(database=away)
    assert (answer.status, answer.body, dict(answer.headers)) == (429, b"", {"retry-after": "5"})
    assert rung == []


def test_a_database_that_refuses_has_the_provider_post_again(take: Callable[..., Response], ledger: Database) -> None:
    ledger.query(sqlalchemy.text("ALTER TABLE mailglass.webhook_events RENAME TO elsewhere"))
    assert take().status == 429


def test_of_many_at_once_one_is_kept_and_all_are_acknowledged(take: Callable[..., Response], ledger: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: take(b"same"), range(40)))
    assert answers == [Response(200)] * 40
    assert len(kept(ledger)) == 1


def test_no_part_of_a_request_is_told_to_anybody(take: Callable[..., Response], capsys: Any) -> None:
    body = b'{"email": "ada@example.com"}'
    told: list[Any] = []
    stop = telemetry.subscribe(lambda name, fields: told.append((name, fields)))
    try:
        take(body)
        take(body, {"x-signature": "ada@example.com"})
        take(body, account="ada@example.com")
        take(body * 100)
    finally:
        stop()
    shown = capsys.readouterr()
    assert len(told) == 4
    assert "ada" not in repr(told) + shown.out + shown.err


# --- over HTTP ---


class TestRuntime(Runtime):
    """A runtime with the accounts above and a doorbell that notes what was rung."""

    __test__ = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.rung: list[str] = []
        self.__dict__["accounts"] = TestAccounts(settings)
        self.__dict__["doorbell"] = self

    def ring_task(self, task: str) -> None:
        self.rung.append(task)


@contextmanager
def serve(app: Any) -> Iterator[int]:
    """Serve an application on a port of loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, lifespan="on", access_log=False, proxy_headers=False, ws="none")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(60)
        listener.close()


@pytest.fixture
def app(database_url: str) -> Iterator[WebApp]:
    settings = replace(SETTINGS, database_url=Secret(database_url))
    application = create_app(settings)
    application._own = TestRuntime(settings)
    yield application
    close_databases()


@pytest.fixture
def port(app: WebApp) -> Iterator[int]:
    with serve(app) as found:
        yield found


def ask(port: int, method: str, path: str, body: Any = None, headers: Any = (), **options: Any) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, body, dict(headers), **options)
        response = connection.getresponse()
        return response.status, response.read()


def raw(port: int, text: bytes) -> bytes:
    """What comes back for these bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(text)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def test_a_webhook_over_http_arrives_byte_for_byte(
    port: int, app: WebApp, ledger: Database, wait_for: Callable[..., None]
) -> None:
    assert ask(port, "POST", "/webhooks/main", BINARY, {"X-Signature": signature(BINARY)}) == (200, b"")
    later = BINARY[::-1]
    chunks = (later[start : start + 7] for start in range(0, len(later), 7))
    headers = {"X-Signature": signature(later), "Transfer-Encoding": "chunked"}
    assert ask(port, "POST", "/webhooks/main", chunks, headers, encode_chunked=True) == (200, b"")
    assert [bytes(row.body) for row in kept(ledger)] == [BINARY, later]
    # the second one follows a moment later
    wait_for(lambda: app._own.rung == [WEBHOOKS] * 2)  # type: ignore[union-attr]


def test_a_forged_webhook_over_http_is_answered_401_with_nothing_in_it(port: int, ledger: Database) -> None:
    assert ask(port, "POST", "/webhooks/main", b"[]", {"X-Signature": signature(b"x")}) == (401, b"")
    assert ask(port, "POST", "/webhooks/main", b"[]") == (401, b"")
    assert kept(ledger) == []


def test_a_signature_that_is_there_twice_with_different_values_is_no_signature(port: int, ledger: Database) -> None:
    good = signature(b"[]").encode()
    for first, second, status in ((good, b"x", b"401"), (b"x", good, b"401"), (good, good, b"200")):
        request = (
            b"POST /webhooks/main HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
            b"X-Signature: " + first + b"\r\nX-Signature: " + second + b"\r\n\r\n[]"
        )
        assert raw(port, request).startswith(b"HTTP/1.1 " + status)
    assert len(kept(ledger)) == 1


def test_a_body_whose_announced_length_is_too_large_is_refused_unread(port: int) -> None:
    for length in (b"2001", b"9" * 18, b"9" * 4000):
        request = b"POST /webhooks/main HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n"
        answer = raw(port, request)
        # a server may have a limit of its own for what is no number any more
        assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    assert raw(port, b"POST /webhooks/main HTTP/1.1\r\nHost: x\r\nContent-Length: 2001\r\n\r\n").startswith(
        b"HTTP/1.1 413"
    )


def test_a_chunked_body_is_read_no_further_than_the_limit(port: int, ledger: Database) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"POST /webhooks/main HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        # the body never ends, so an answer proves that nobody waited for its end
        for _ in range(3):
            connection.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    assert kept(ledger) == []


def test_a_body_that_does_not_come_is_given_up(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_http, "BODY_TIMEOUT", 0.05)
    request = b"POST /webhooks/main HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"
    assert raw(port, request).startswith(b"HTTP/1.1 408")


def test_a_client_that_leaves_early_leaves_nothing_behind(port: int, app: WebApp, wait_for: Any) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"POST /webhooks/main HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        wait_for(lambda: len(app._memory) == 1)
    wait_for(lambda: len(app._memory) == 0)
    assert ask(port, "GET", "/healthz") == (200, b"ok\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/webhooks/main", 405),
        ("PUT", "/webhooks/main", 405),
        ("GET", "/webhooks/nobody", 405),
        ("POST", "/webhooks/nobody", 404),
        ("POST", "/webhooks/", 404),
        ("POST", "/webhooks", 404),
        ("POST", "/webhooks/main//", 404),
        ("POST", "/webhooks/main/more", 404),
        ("POST", "/webhooks/..%2fmain", 404),
        ("POST", "/webhooks/%00", 404),
        ("GET", "/", 404),
        ("POST", "/healthz", 405),
        ("POST", "/readyz", 405),
    ],
)
def test_unserved_request_is_refused(port: int, method: str, path: str, status: int) -> None:
    assert ask(port, method, path, b"" if method != "GET" else None) == (status, b"")


def test_a_webhook_may_be_posted_to_its_tenants_path(port: int, ledger: Database) -> None:
    for path, body in (("/webhooks/main", b"1"), ("/webhooks/acme/main", b"2"), ("/webhooks/a.b/main", b"3")):
        assert ask(port, "POST", path, body, {"x-signature": signature(body)}) == (200, b"")
    assert [row.tenant_id for row in kept(ledger)] == [None, "acme", "a.b"]


@pytest.mark.parametrize(
    ("path", "signed", "status"),
    [
        ("/webhooks/Not%20One/main", True, 422),
        ("/webhooks/Not%20One/main", False, 401),
        ("/webhooks/acme/nobody", True, 404),
        ("/webhooks//main", True, 404),
        ("/webhooks/../main", True, 404),
        ("/webhooks/acme/main/more", True, 404),
    ],
)
def test_a_path_that_names_no_tenant_keeps_nothing(
    port: int, ledger: Database, path: str, signed: bool, status: int
) -> None:
    assert ask(port, "POST", path, b"1", {"x-signature": signature(b"1" if signed else b"2")}) == (status, b"")
    assert kept(ledger) == []


def test_a_refused_method_is_told_the_allowed_one(port: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/webhooks/main")
        assert connection.getresponse().headers["allow"] == "POST"


def test_endpoint_is_alive_and_ready(port: int) -> None:
    assert ask(port, "GET", "/healthz") == (200, b"ok\n")
    assert ask(port, "GET", "/readyz") == (200, b"ready\n")
    assert ask(port, "HEAD", "/readyz") == (200, b"")


def test_without_its_schema_it_is_alive_and_not_ready(port: int, ledger: Database) -> None:
    ledger.query(sqlalchemy.text("UPDATE mailglass.schema_version SET version_num = '9999'"))
    assert ask(port, "GET", "/readyz") == (200, b"ready\n")
    ledger.query(sqlalchemy.text("UPDATE mailglass.schema_support SET oldest_code = '9999'"))
    assert ask(port, "GET", "/readyz") == (503, b"schema\n")
    ledger.query(sqlalchemy.text("DROP TABLE mailglass.schema_version"))
    assert ask(port, "GET", "/readyz") == (503, b"schema\n")
    assert ask(port, "GET", "/healthz") == (200, b"ok\n")


def test_without_a_database_it_is_alive_not_ready_and_has_providers_post_again(unused_port: int) -> None:
    settings = replace(SETTINGS, database_url=Secret(f"postgresql://nobody@127.0.0.1:{unused_port}/nowhere"))
    application = create_app(settings)
    application._own = TestRuntime(settings)
    with serve(application) as port:
        assert ask(port, "GET", "/healthz") == (200, b"ok\n")
        assert ask(port, "GET", "/readyz") == (503, b"database\n")
        assert ask(port, "POST", "/webhooks/main", b"[]", {"x-signature": signature(b"[]")}) == (429, b"")
        assert ask(port, "POST", "/webhooks/main", b"[]") == (401, b"")
    close_databases()


def test_mounted_in_another_application_it_serves_below_the_mount(app: WebApp, ledger: Database) -> None:
    outer = Starlette(routes=[Mount("/mail", app)])
    with serve(outer) as port:
        headers = {"x-signature": signature(b"[]")}
        assert ask(port, "POST", "/mail/webhooks/main", b"[]", headers) == (200, b"")
        assert ask(port, "POST", "/webhooks/main", b"[]", headers)[0] == 404
        assert ask(port, "GET", "/mail/readyz") == (200, b"ready\n")
    assert len(kept(ledger)) == 1


def test_when_too_much_waits_the_provider_is_asked_to_post_again(
    port: int, app: WebApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_asgi, "MAX_PENDING", 0)
    assert ask(port, "POST", "/webhooks/main", b"[]", {"x-signature": signature(b"[]")}) == (429, b"")
    assert ask(port, "POST", "/webhooks/nobody", b"[]")[0] == 404


def test_many_webhooks_at_once_are_all_kept(port: int, ledger: Database) -> None:
    bodies = [str(number).encode() for number in range(100)]
    with ThreadPoolExecutor(16) as threads:
        headers = [{"x-signature": signature(body)} for body in bodies]
        answers = list(threads.map(partial(ask, port, "POST", "/webhooks/main"), bodies, headers))
    assert answers == [(200, b"")] * 100
    assert {bytes(row.body) for row in kept(ledger)} == set(bodies)


def test_a_provider_sees_the_url_and_the_peer_and_no_word_of_a_proxy() -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/webhooks/main",
        "raw_path": b"/webhooks/main",
        "query_string": b"a=%2F",
        "client": ("192.0.2.1", 4711),
        "headers": [(b"Host", b"mail.example.com"), (b"X-Forwarded-For", b"198.51.100.1")],
    }
    request = web_http.webhook_request(scope, b"")
    assert request.url == "http://mail.example.com/webhooks/main?a=%2F"
    assert request.remote_addr == "192.0.2.1"
    assert request.header("Host") == "mail.example.com"


def test_proxies_that_write_a_line_each_are_read_as_one_list() -> None:
    lines = [(b"X-Forwarded-For", b"198.51.100.1, 203.0.113.5"), (b"x-forwarded-for", b"10.1.1.1")]
    scope = {"type": "http", "path": "/", "headers": [*lines, (b"x-signature", b"a"), (b"x-signature", b"b")]}
    headers = web_http.webhook_request(scope, b"").headers
    assert headers == {"x-forwarded-for": "198.51.100.1, 203.0.113.5,10.1.1.1"}


async def lifespan(application: WebApp) -> list[dict[str, Any]]:
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    await application({"type": "lifespan"}, receive, send)
    return sent


def test_wrong_settings_show_at_the_start_with_their_remedy() -> None:
    (failed,) = asyncio.run(lifespan(create_app(SETTINGS)))
    assert failed["type"] == "lifespan.startup.failed"
    assert "MAILGLASS_DATABASE_URL" in failed["message"]


def test_the_processs_own_settings_are_read_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("MAILGLASS_CONFIG", str(tmp_path / "missing.toml"))
    application = create_app()
    (failed,) = asyncio.run(lifespan(application))
    assert "MAILGLASS_CONFIG" in failed["message"]


# --- with the rooms of real providers ---


def der(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_key().public_bytes(serialization.Encoding.DER, form)).decode()


@pytest.mark.parametrize("room", [room for room in ROOMS.values() if Feature.WEBHOOKS not in room.lacks])
def test_own_fault_has_every_provider_post_again(room: type[Declaration], unused_port: int) -> None:
    # Brevo discards what it is answered with any other 4xx or a 5xx; the others try again on 5xx
    expected = 429 if room.provider_class.name == "brevo" else 503
    declared = room()
    settings = Settings(accounts={"main": AccountSettings("main", room.provider_class.name)})
    accounts = FixedAccounts(settings, {"main": declared.build(declared.at(unused_port))})
    away = Database(f"postgresql://nobody@127.0.0.1:{unused_port}/nowhere")
    context = {"settings": settings, "database": away, "accounts": accounts, "ring": lambda task: None}
    request = declared.webhooks()[0].request()
    assert one_webhook("main", request, **context).status == expected
    assert ingress.retry_later("main", accounts).status == expected
    bare = {name: value for name, value in declared.options.items() if name not in declared.webhook_options}
    accounts = FixedAccounts(settings, {"main": declared.build(bare)})
    secretless = one_webhook("main", request, **(context | {"accounts": accounts})).status
    assert secretless == (429 if expected == 429 else 500)


def test_sendgrids_and_postmarks_own_webhooks_are_verified_and_kept(ledger: Database, database_url: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    environ = {"TOKEN": "t", "PASSWORD": "p"}
    settings = Settings(
        database_url=Secret(database_url),
        accounts={
            "grid": AccountSettings(
                "grid", "sendgrid", options={"api_key": "env:TOKEN", "webhook_public_keys": [der(key)]}
            ),
            "mark": AccountSettings(
                "mark",
                "postmark",
                options={
                    "server_token": "env:TOKEN",
                    "webhook_username": "u",
                    "webhook_passwords": ["env:PASSWORD"],
                },
            ),
        },
    )
    application = create_app(settings)
    application._own = TestRuntime(settings)
    application._own.__dict__["accounts"] = Accounts(settings, environ)
    body = json.dumps([{"event": "delivered", "sg_event_id": "e", "timestamp": 1_795_000_000}]).encode() + b"\r\n"
    signed = base64.b64encode(key.sign(b"1795000000" + body, ec.ECDSA(SHA256()))).decode()
    grid = {
        "X-Twilio-Email-Event-Webhook-Signature": signed,
        "X-Twilio-Email-Event-Webhook-Timestamp": "1795000000",
    }
    mark = {"Authorization": "Basic " + base64.b64encode(b"u:p").decode()}
    with serve(application) as port:
        assert ask(port, "POST", "/webhooks/grid", body, grid)[0] == 200
        assert ask(port, "POST", "/webhooks/grid", body + b" ", grid)[0] == 401
        assert ask(port, "POST", "/webhooks/mark", body, mark)[0] == 200
        assert ask(port, "POST", "/webhooks/mark", body, {"Authorization": "Basic dTp4"})[0] == 401
    first, second = kept(ledger)
    assert set(first.headers) == {name.lower() for name in grid}
    assert second.headers == {}
    close_databases()
