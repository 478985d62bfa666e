"""The webhook endpoint on a port of loopback, with providers that believe everybody once they are let go."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import uvicorn

from mailglass.ledger.database import close_databases
from mailglass.mail.outcomes import Outcome
from mailglass.providers.base import Provider, WebhookRequest
from mailglass.runtime import Runtime
from mailglass.settings import AccountSettings, Secret, Settings, WebhookSettings
from mailglass.testing.provider import FixedAccounts
from mailglass.web import WebApp, create_app
from mailglass.web.protocol import bounded_protocol


class PatientProvider(Provider):
    """Believes everybody, once it is let go; one account of it may be told to wait."""

    name = "patient"
    Options = Settings
    retry_status = 429

    def __init__(self, account: str) -> None:
        super().__init__(account, None)
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def send(self, mails: Any, *, deadline: float) -> list[Outcome]:
        raise AssertionError("nothing is sent here")

    def verify(self, request: WebhookRequest) -> None:
        assert self.go.wait(120)
        if self.error is not None:
            raise self.error


class SteadyProvider(PatientProvider):
    """The same, under another name."""

    name = "steady"
    retry_status = 503


class StillRuntime(Runtime):
    """A runtime with providers as above, and a doorbell that nobody hears."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.slow, self.steady = PatientProvider("slow"), SteadyProvider("steady")
        self.__dict__["accounts"] = FixedAccounts(settings, {"slow": self.slow, "steady": self.steady})
        self.__dict__["doorbell"] = self

    def ring_task(self, task: str) -> None:
        """Nobody hears it."""


@contextmanager
def serving(database_url: str, http: Any = None, **webhooks: Any) -> Iterator[tuple[int, WebApp, StillRuntime]]:
    """The application on a port of loopback."""
    settings = Settings(
        database_url=Secret(database_url),
        accounts={"slow": AccountSettings("slow", "patient"), "steady": AccountSettings("steady", "steady")},
        webhooks=WebhookSettings(max_body=200_000, **webhooks),
    )
    runtime, application = StillRuntime(settings), create_app(settings)
    application._own = runtime
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            log_config=None,
            lifespan="off",
            access_log=False,
            proxy_headers=False,
            ws="none",
            http=http or bounded_protocol(),
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1], application, runtime
    finally:
        runtime.slow.go.set()
        server.should_exit = True
        thread.join(60)
        listener.close()
        close_databases()


def post(port: int, account: str = "steady", body: bytes = b"[]") -> int:
    """Return the status of a webhook."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", f"/webhooks/{account}", body)
        return connection.getresponse().status


def status(port: int, path: str) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status
