"""One process that stands in for the outside world: HTTP APIs, an SMTP server, and the webhooks they cause."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import uvicorn

from mailglass.errors import ConfigError
from mailglass.testing.lab.accounts import LabAccount, open_accounts
from mailglass.testing.lab.fates import Fates
from mailglass.testing.lab.hanging_up import HangingUpProtocol
from mailglass.testing.lab.http import lab_app
from mailglass.testing.lab.inbox import Inbox
from mailglass.testing.lab.posting import Poster
from mailglass.testing.lab.postmark import PostmarkLab
from mailglass.testing.lab.sendgrid import SendGridLab, signing_key
from mailglass.testing.lab.smtp import SMTPLab
from mailglass.testing.lab.weather import Climate
from mailglass.testing.lab.witness import Witness
from mailglass.testing.lab.world import World

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabOptions:
    """Configuration of a lab. Credentials that are None are not asked for.

    Attributes:
        http_port: 0 lets the system choose.
        smtp_port: 0 lets the system choose; None: no SMTP server.
        webhooks: URL below which each account's webhooks are received; None: none are posted.
        state_file: where the witness keeps what was accepted; a lab that is started again continues it.
        climate: the weather.
        open_rate: the share of delivered mails that are opened; 0 to 1.
        event_delay: seconds from acceptance to delivery.
        latency: seconds until a request is answered.
        posts: webhooks in flight at once.
        watch_stdin: end when the standard input is closed.
        accounts: more accounts, each with its API at `http_url/NAME`.
    """

    http_port: int = 0
    smtp_port: int | None = None
    webhooks: str | None = None
    state_file: Path | None = None
    climate: Climate = field(default_factory=Climate)
    open_rate: float = 0.3
    event_delay: float = 0.2
    latency: float = 0.0
    posts: int = 16
    postmark_account: str = "postmark"
    postmark_token: str | None = field(default=None, repr=False)
    webhook_username: str = "lab"
    webhook_password: str | None = field(default=None, repr=False)
    sendgrid_account: str = "sendgrid"
    sendgrid_key: str | None = field(default=None, repr=False)
    sendgrid_signing_key: str | None = field(default=None, repr=False)
    smtp_account: str = "smtp"
    smtp_username: str | None = None
    smtp_password: str | None = field(default=None, repr=False)
    watch_stdin: bool = False
    accounts: tuple[LabAccount, ...] = ()

    def __post_init__(self) -> None:
        if self.webhooks and not self.webhook_password:
            raise ConfigError("webhook-password", "missing", "Postmark's webhooks need one: give env:NAME or file:PATH")


async def serve(options: LabOptions) -> None:
    """Run a lab until SIGTERM, SIGINT or, on request, the end of the standard input.

    When all of it listens, one line of JSON is printed: `http_url`, `smtp_port`, `sendgrid_public_key`, and
    `accounts` with what each of the further ones has to tell.
    """
    stop = asyncio.Event()
    _stop_on_signals(stop)
    if options.watch_stdin:
        _stop_at_end_of_input(stop)
    witness = Witness(options.state_file)
    poster = Poster(options.webhooks, concurrency=options.posts)
    world = World(
        options.climate,
        witness,
        poster,
        # chance for a test world, not for secrets
        fates=Fates(open_rate=options.open_rate, random=Random(options.climate.seed)),  # noqa: S311
        event_delay=options.event_delay,
        latency=options.latency,
    )
    postmark, sendgrid = _fixed_accounts(world, options)
    accounts = open_accounts(world, options.accounts)
    inbox = Inbox()
    smtp = SMTPLab(
        lambda mail: witness.accept([mail]),
        options.climate,
        options.smtp_username,
        options.smtp_password,
        account=options.smtp_account,
        keep=inbox.keep,
    )
    listener = _listen(options.http_port)
    server = _server(lab_app(world, [postmark, sendgrid, inbox], accounts))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        smtp_port = None if options.smtp_port is None else await smtp.start(HOST, options.smtp_port)
        await poster.start()
        await server.listening.wait()
        ready = {
            "http_url": f"http://{HOST}:{listener.getsockname()[1]}",
            "smtp_port": smtp_port,
            "sendgrid_public_key": sendgrid.public_key,
            "accounts": {name: dict(account.public()) for name, account in accounts.items()},
        }
        print(json.dumps(ready), flush=True)
        await stop.wait()
    finally:
        server.should_exit = True
        await poster.stop()
        await smtp.stop()
        await serving
        witness.close()


def _fixed_accounts(world: World, options: LabOptions) -> tuple[PostmarkLab, SendGridLab]:
    """Open the two accounts that every lab has."""
    password = options.webhook_password or ""
    key = signing_key(options.sendgrid_signing_key)
    return (
        PostmarkLab(world, options.postmark_account, options.postmark_token, options.webhook_username, password),
        SendGridLab(world, options.sendgrid_account, options.sendgrid_key, key),
    )


def _server(app: Any) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=HangingUpProtocol,
            loop="asyncio",
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=60,
        )
    )


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(port: int) -> socket.socket:
    # asyncio turns Nagle's delay off only for sockets whose protocol is named
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(512)
    listener.setblocking(False)
    return listener


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _stop_at_end_of_input(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()

    def watch() -> None:
        # plain reads: a thread that waits inside sys.stdin would hold its lock when the interpreter ends
        with contextlib.suppress(OSError):
            while os.read(descriptor, 4096):
                pass
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, name="lab-stdin", daemon=True).start()
