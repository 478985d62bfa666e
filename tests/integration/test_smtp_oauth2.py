"""OAuth 2.0 in place of a password: tokens given or fetched, refused, renewed, shared, and never shown."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from mailglass.clock import monotonic
from mailglass.errors import ConfigError
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers.smtp import SMTPOptions, oauth2
from mailglass.providers.smtp.auth import TokenUnavailable
from mailglass.providers.smtp.oauth2 import FetchedToken
from mailglass.settings import Secret, build_options
from tests.integration.test_smtp_scripted import ALL, PATIENCE, Peer, brief, mail, provider, send, server

USER = "shop@example.org"
# as Microsoft words it: a challenge that holds JSON, to be answered with an empty line before the reply comes
ERROR = base64.b64encode(b'{"status":"401","schemes":"Bearer","scope":"https://mail.example/"}').decode()


def xoauth2(token: str) -> str:
    return base64.b64encode(f"user={USER}\x01auth=Bearer {token}\x01\x01".encode()).decode()


def bearer(token: str) -> str:
    return base64.b64encode(f"n,a={USER},\x01auth=Bearer {token}\x01\x01".encode()).decode()


def accept(peer: Peer, token: str) -> None:
    peer.hear(f"AUTH XOAUTH2 {xoauth2(token)}")
    peer.say("235 2.7.0 ok")


def refuse(peer: Peer, token: str) -> None:
    peer.hear(f"AUTH XOAUTH2 {xoauth2(token)}")
    peer.say(f"334 {ERROR}")
    assert peer.file.readline() == b"\r\n"
    peer.say("535 5.7.3 Authentication unsuccessful")


def greet(peer: Peer, mechanisms: str = "LOGIN XOAUTH2") -> None:
    peer.greet(*ALL, f"AUTH {mechanisms}")


def good_session(token: str) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        greet(peer)
        accept(peer, token)
        peer.take_mail()
        peer.hear_the_end()

    return script


# a given token


def test_a_given_token_is_used_in_place_of_a_password() -> None:
    with server(good_session("t1")) as port:
        assert brief(send(port, username=USER, oauth2_token=Secret("t1"))) == [("accepted", None)]


def test_oauthbearer_serves_where_xoauth2_is_unknown() -> None:
    def script(peer: Peer) -> None:
        greet(peer, "PLAIN OAUTHBEARER")
        peer.hear(f"AUTH OAUTHBEARER {bearer('t1')}")
        peer.say(f"334 {ERROR}")
        peer.hear("AQ==")
        peer.say("535 5.7.8 no")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, username=USER, oauth2_token=Secret("t1"))) == [("misconfigured", "smtp_535")]


def test_a_token_is_never_given_to_a_mechanism_for_passwords() -> None:
    def script(peer: Peer) -> None:
        greet(peer, "PLAIN LOGIN")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, username=USER, oauth2_token=Secret("t1"))) == [("misconfigured", "auth_unavailable")]


def test_a_password_is_never_given_to_a_mechanism_for_tokens() -> None:
    def script(peer: Peer) -> None:
        greet(peer, "XOAUTH2 OAUTHBEARER")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, username=USER, password=Secret("t1"))) == [("misconfigured", "auth_unavailable")]


def test_a_given_token_that_is_refused_is_not_tried_twice_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        greet(peer)
        refuse(peer, "hunter2")
        peer.hear_the_end()

    options = {"username": USER, "oauth2_token": Secret("hunter2", "env:T")}
    with caplog.at_level(logging.DEBUG), server(script) as port, provider(port, **options) as opened:
        outcomes = opened.send([mail(), mail()], deadline=monotonic() + PATIENCE)
        shown = f"{opened!r} {opened.options!r} {vars(opened)!r} {outcomes!r} {caplog.text}"

    assert brief(outcomes) == [("misconfigured", "smtp_535")] * 2
    for secret in ("hunter2", xoauth2("hunter2"), USER):
        assert secret not in shown


def test_a_token_in_a_file_is_read_again_for_each_session_and_after_a_refusal(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t1\n")
    secret = build_options(
        SMTPOptions, {"host": "localhost", "username": USER, "oauth2_token": f"file:{file}"}, "accounts.relay", {}
    ).oauth2_token

    def second(peer: Peer) -> None:
        greet(peer)
        peer.hear(f"AUTH XOAUTH2 {xoauth2('t2')}")
        file.write_text("t3")  # somebody renews it at this very moment
        peer.say("535 5.7.3 expired")
        accept(peer, "t3")
        peer.take_mail()
        peer.hear_the_end()

    with server(good_session("t1"), second) as port:
        options = {"username": USER, "oauth2_token": secret, "max_messages_per_connection": 1}
        with provider(port, **options) as opened:
            outcomes = opened.send([mail()], deadline=monotonic() + PATIENCE)
            file.write_text("t2")
            outcomes += opened.send([mail()], deadline=monotonic() + PATIENCE)
            file.unlink()
            assert opened._tokens is not None
            assert opened._tokens.token(0.0) == "t1"  # what was read at the start is better than nothing
    assert brief(outcomes) == [("accepted", None)] * 2


# fetched tokens


@dataclass
class Endpoint:
    """A token endpoint on loopback: answers in order, the last one for ever."""

    answers: list[tuple[int, Any]]
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    gate: Callable[[], object] = lambda: None

    def handle(self, form: dict[str, str]) -> tuple[int, Any]:
        self.asked.append(form)
        self.gate()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextlib.contextmanager
def endpoint(*answers: tuple[int, Any], **values: Any) -> Iterator[Endpoint]:
    world = Endpoint(list(answers), **values)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            assert self.headers["content-type"] == "application/x-www-form-urlencoded"
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode(), strict_parsing=True)
            status, value = world.handle({name: values[0] for name, values in form.items()} | {"path": self.path})
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, content in world.headers.items():
                self.send_header(name, content)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        world.url = f"http://127.0.0.1:{listener.server_address[1]}/tenant/oauth2/v2.0/token"
        yield world
        listener.shutdown()
        thread.join(PATIENCE)


def token(name: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return 200, {"access_token": name, "token_type": "Bearer", "expires_in": 3600, **more}


def fetching(world: Endpoint, **changes: Any) -> dict[str, Any]:
    return {
        "username": USER,
        "oauth2_token_url": world.url,
        "oauth2_client_id": "app",
        "oauth2_client_secret": Secret("hunter2"),
        "oauth2_scope": "https://mail.example/.default",
        **changes,
    }


def source(world: Endpoint, **changes: Any) -> FetchedToken:
    return FetchedToken(SMTPOptions(host="localhost", security="none", **fetching(world, **changes)))


def failure(tokens: FetchedToken) -> Outcome:
    with pytest.raises(TokenUnavailable) as caught:
        tokens.token(monotonic() + PATIENCE)
    return caught.value.outcome


def test_a_token_is_fetched_with_the_clients_credentials_and_kept() -> None:
    with endpoint(token("t1")) as world, server(good_session("t1"), good_session("t1")) as port:
        outcomes = send(port, mail(), mail(), **fetching(world), max_messages_per_connection=1)
    assert brief(outcomes) == [("accepted", None)] * 2
    assert world.asked == [
        {
            "grant_type": "client_credentials",
            "client_id": "app",
            "client_secret": "hunter2",
            "scope": "https://mail.example/.default",
            "path": "/tenant/oauth2/v2.0/token",
        }
    ]


def test_a_refresh_token_goes_before_the_clients_credentials(tmp_path: Path) -> None:
    file = tmp_path / "refresh"
    file.write_text("r1")
    with endpoint(token("t1")) as world:
        tokens = source(
            world, oauth2_refresh_token=Secret("r0", f"file:{file}"), oauth2_client_secret=None, oauth2_scope=None
        )
        assert tokens.token(monotonic() + PATIENCE) == "t1"
    assert world.asked == [
        {
            "grant_type": "refresh_token",
            "client_id": "app",
            "refresh_token": "r1",
            "path": "/tenant/oauth2/v2.0/token",
        }
    ]


def test_a_token_is_fetched_again_a_minute_before_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [monotonic()]
    with endpoint(token("t1"), token("t2", expires_in="120"), token("t3", expires_in=None), token("t4")) as world:
        tokens = source(world)
        monkeypatch.setattr(oauth2, "monotonic", lambda: moment[0])
        seen = []
        for step in (0, 3530, 20, 50, 20, 230, 20):
            moment[0] += step
            seen.append(tokens.token(monotonic() + 1e6))
    assert seen == ["t1", "t1", "t2", "t2", "t3", "t3", "t4"]


def test_a_refused_token_is_renewed_once_within_the_session() -> None:
    def script(peer: Peer) -> None:
        greet(peer)
        refuse(peer, "t1")
        accept(peer, "t2")
        peer.take_mail()
        peer.hear_the_end()

    with endpoint(token("t1"), token("t2")) as world, server(script) as port:
        assert brief(send(port, **fetching(world))) == [("accepted", None)]
    assert len(world.asked) == 2


@pytest.mark.parametrize(("second", "asked"), [("t2", 2), ("t1", 2)])
def test_a_token_that_is_refused_although_it_is_new_is_misconfigured(second: str, asked: int) -> None:
    def script(peer: Peer) -> None:
        greet(peer)
        refuse(peer, "t1")
        if second != "t1":
            refuse(peer, second)
        peer.hear_the_end()

    with endpoint(token("t1"), token(second), token("t3")) as world, server(script) as port:
        assert brief(send(port, mail(), mail(), **fetching(world))) == [("misconfigured", "smtp_535")] * 2
    assert len(world.asked) == asked


def test_a_token_that_cannot_be_renewed_says_why() -> None:
    def script(peer: Peer) -> None:
        greet(peer)
        refuse(peer, "t1")
        peer.hear_the_end()

    with endpoint(token("t1"), (400, {"error": "invalid_grant"})) as world, server(script) as port:
        assert brief(send(port, **fetching(world))) == [("misconfigured", "oauth2_invalid_grant")]


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        ((400, {"error": "invalid_grant"}), "misconfigured", "oauth2_invalid_grant"),
        ((401, {"error": "invalid_client", "error_description": "hunter2"}), "misconfigured", "oauth2_invalid_client"),
        ((400, {"error": "AADSTS hunter2"}), "misconfigured", "oauth2_refused"),
        ((400, {"error": "temporarily_unavailable"}), "transient", "oauth2_unavailable"),
        ((400, {"error": ["x"]}), "misconfigured", "oauth2_refused"),
        ((400, []), "misconfigured", "oauth2_refused"),
        ((403, b"<html>"), "misconfigured", "oauth2_refused"),
        ((302, b""), "misconfigured", "oauth2_refused"),
        ((429, {"error": "x"}), "transient", "oauth2_unavailable"),
        ((500, b""), "transient", "oauth2_unavailable"),
        ((503, {"error": "invalid_client"}), "transient", "oauth2_unavailable"),
        ((200, b"<html>"), "misconfigured", "oauth2_answer_invalid"),
        ((200, {"access_token": ""}), "misconfigured", "oauth2_answer_invalid"),
        ((200, {"access_token": 3}), "misconfigured", "oauth2_answer_invalid"),
        ((200, {"access_token": "a\x01b"}), "misconfigured", "oauth2_answer_invalid"),
        ((200, {"access_token": "é"}), "misconfigured", "oauth2_answer_invalid"),
        ((200, ["access_token"]), "misconfigured", "oauth2_answer_invalid"),
    ],
)
def test_refusal_of_a_token_endpoint_is_an_outcome_with_its_reason(
    answer: tuple[int, Any], kind: str, reason: str
) -> None:
    with endpoint(answer) as world:
        outcome = failure(source(world))
    assert (outcome.kind, outcome.reason) == (kind, reason)
    assert "hunter2" not in repr(outcome)


def test_a_token_endpoint_may_ask_to_wait() -> None:
    with endpoint((429, {}), headers={"retry-after": "30"}) as world:
        assert failure(source(world)) == Outcome(
            OutcomeClass.TRANSIENT, reason="oauth2_unavailable", status=429, retry_after=30.0
        )


def test_without_a_token_no_connection_is_opened() -> None:
    answer = (401, {"error": "invalid_client"})
    with endpoint(answer) as world, socket.create_server(("127.0.0.1", 0)) as listener:
        outcomes = send(listener.getsockname()[1], mail(), mail(), **fetching(world))
        assert not select.select([listener], [], [], 0)[0]
    assert brief(outcomes) == [("misconfigured", "oauth2_invalid_client")] * 2
    assert len(world.asked) == 1


def test_a_token_endpoint_that_is_away_is_transient() -> None:
    with endpoint(token("t1")) as world:
        pass
    assert failure(source(world)) == Outcome(OutcomeClass.TRANSIENT, reason="oauth2_unavailable")


def test_an_answer_that_gets_lost_is_transient_as_no_mail_was_in_the_request() -> None:
    with endpoint(token("t1")) as world:
        release = threading.Event()
        world.gate = lambda: release.wait(PATIENCE)
        assert failure(source(world, timeout=0.6)) == Outcome(OutcomeClass.TRANSIENT, reason="oauth2_unavailable")
        release.set()


@pytest.mark.parametrize("answer", [token("t1"), (400, {"error": "invalid_grant"})])
def test_threads_that_need_a_token_at_once_ask_once(answer: tuple[int, Any]) -> None:
    waiting, results = threading.Barrier(9), []
    with endpoint(answer) as world:
        tokens = source(world)
        seen = tokens._last

        def fetch() -> None:
            waiting.wait(PATIENCE)
            try:
                # what each of them does after it saw that there is no token
                results.append(tokens._next(seen, monotonic() + PATIENCE))
            except TokenUnavailable as unavailable:
                results.append(unavailable.outcome.reason)

        threads = [threading.Thread(target=fetch) for _ in range(8)]
        for thread in threads:
            thread.start()
        waiting.wait(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
    assert results == [answer[1].get("access_token") or "oauth2_invalid_grant"] * 8
    assert len(world.asked) == 1


def test_threads_with_the_same_refused_token_renew_it_once() -> None:
    with endpoint(token("t1"), token("t2"), token("t3")) as world:
        tokens = source(world)
        assert tokens.token(monotonic() + PATIENCE) == "t1"
        assert [tokens.renew("t1", monotonic() + PATIENCE) for _ in range(3)] == ["t2"] * 3
        assert tokens.token(monotonic() + PATIENCE) == "t2"
    assert len(world.asked) == 2


def test_a_thread_waits_for_anothers_round_no_longer_than_it_has_time() -> None:
    busy, release = threading.Event(), threading.Event()
    with endpoint(token("t1")) as world:
        world.gate = lambda: (busy.set(), release.wait(PATIENCE))
        tokens = source(world)
        first = threading.Thread(target=tokens.token, args=(monotonic() + PATIENCE,))
        first.start()
        assert busy.wait(PATIENCE)
        with pytest.raises(TokenUnavailable):
            tokens.token(monotonic() + 0.05)
        release.set()
        first.join(PATIENCE)
        assert tokens.token(monotonic()) == "t1"


def test_a_child_process_is_not_held_up_by_its_parents_round() -> None:
    busy, release = threading.Event(), threading.Event()
    with endpoint(token("t1")) as world:
        world.gate = lambda: (busy.set(), release.wait(PATIENCE))
        tokens = source(world)
        first = threading.Thread(target=tokens.token, args=(monotonic() + PATIENCE,))
        first.start()
        assert busy.wait(PATIENCE)
        world.gate = lambda: None
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if tokens.token(monotonic() + 10) == "t1" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        release.set()
        first.join(PATIENCE)


# options


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("password", {"password": Secret("x")}),
        ("username", {"username": None}),
        ("username", {"username": "a\x01b"}),
        ("oauth2_token", {"oauth2_token": Secret("x")}),
        ("oauth2_token_url", {"oauth2_token_url": None}),
        ("oauth2_token_url", {"oauth2_token_url": "http://login.example.com/token"}),
        ("oauth2_token_url", {"oauth2_token_url": "https://a:b@login.example.com/token"}),
        ("oauth2_token_url", {"oauth2_token_url": "login.example.com"}),
        ("oauth2_client_id", {"oauth2_client_id": None}),
        ("oauth2_client_secret", {"oauth2_client_secret": None}),
        ("security", {"security": "none", "host": "relay.example.com"}),
    ],
)
def test_oauth2_options_that_contradict_each_other_are_named(key: str, changes: dict[str, Any]) -> None:
    world = Endpoint([], url="https://login.example.com/token")
    with pytest.raises(ConfigError) as caught:
        SMTPOptions(**{"host": "smtp.example.com", **fetching(world, **changes)})
    assert caught.value.key == key
