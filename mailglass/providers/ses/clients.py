"""The AWS clients of one account: made when first used, kept, and never shared across a fork."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from mailglass.errors import ProviderCallError
from mailglass.providers.ses.exchange import watch
from mailglass.providers.ses.options import SESOptions

T = TypeVar("T")
R = TypeVar("R")

_QUEUE_REGION = re.compile(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/")
# calls that may be made twice without harm wait and repeat; SES allows about one of them per second
_PATIENT: Final = {"mode": "standard", "total_max_attempts": 5}
# "standard" also against an AWS_RETRY_MODE of "adaptive", which would wait on its own account
_ONCE: Final = {"mode": "standard", "total_max_attempts": 1}
_PASSING: Final = (HTTPClientError, NoConnectionError, CredentialRetrievalError, TokenRetrievalError, OSError)


class Clients:
    """One account's clients and threads. Safe from several threads; after a fork the child makes its own.

    Args:
        account: its name, for errors.
        options: credentials, region, timeouts.
    """

    def __init__(self, account: str, options: SESOptions) -> None:
        self._account = account
        self._options = options
        self._life: _Life | None = None

    def sender(self) -> Any:
        """SES for SendEmail: one attempt per call, whose progress is watched.

        Raises:
            BotoCoreError: the environment's AWS configuration cannot be used.
        """
        return self._client("sender", lambda: watch(self._make("sesv2", _ONCE, self._options.endpoint_url)))

    def manager(self) -> Any:
        """SES for everything else."""
        return self._client("manager", lambda: self._make("sesv2", _PATIENT, self._options.endpoint_url))

    def sns(self, region: str) -> Any:
        """SNS in a topic's region."""
        return self._client(f"sns.{region}", lambda: self._make("sns", _PATIENT, region=region))

    def sqs(self, queue_url: str) -> Any:
        """SQS in a queue's region."""
        match = _QUEUE_REGION.match(queue_url)
        region = match[1] if match else self._options.region
        return self._client(f"sqs.{region}", lambda: self._make("sqs", _PATIENT, region=region))

    def manage(self, call: str, action: Callable[[], T]) -> T:
        """Do something that is no mail.

        Args:
            call: what it is, for the error: `put suppressed destination`.
            action: does it, with one of these clients.

        Raises:
            ProviderCallError: it failed; says whether it may work later. Never quotes AWS's text, which may hold an
                address.
        """
        try:
            return action()
        except ClientError as error:
            raise self.failed(call, error) from None
        except (BotoCoreError, OSError, ValueError) as error:
            raise ProviderCallError(f"{self._account}: {call}", retryable=isinstance(error, _PASSING)) from None

    def failed(self, call: str, error: ClientError) -> ProviderCallError:
        """AWS's refusal as our error."""
        code = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        status = code if isinstance(code, int) else None
        throttled = "Throttl" in code_of(error) or code_of(error) == "TooManyRequestsException"
        retryable = throttled or status is None or status == 429 or status >= 500
        return ProviderCallError(f"{self._account}: {call}", status=status, retryable=retryable)

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`work` for every item, on the account's bounded pool of threads; results in the items' order."""
        if len(items) < 2:
            return [work(item) for item in items]
        pool = self._own().pool
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Close the kept connections; the next call opens new ones."""
        life, self._life = self._life, None
        if life is not None and life.pid == os.getpid():
            life.pool.shutdown(wait=False, cancel_futures=True)
            for client in life.clients.values():
                client.close()

    def _client(self, name: str, make: Callable[[], Any]) -> Any:
        life = self._own()
        if client := life.clients.get(name):
            return client
        # botocore's clients may be shared by threads, but must not be made by several at once
        with life.lock:
            if name not in life.clients:
                life.clients[name] = make()
            return life.clients[name]

    def _own(self) -> _Life:
        life = self._life
        if life is None or life.pid != os.getpid():
            # two threads may both come here once; the loser's holds no connection
            life = self._life = _Life(self._options.concurrency)
        return life

    def _make(
        self, service: str, retries: dict[str, Any], endpoint_url: str | None = None, region: str | None = None
    ) -> Any:
        options = self._options
        config = Config(
            retries=retries,
            connect_timeout=options.connect_timeout,
            read_timeout=options.read_timeout,
            max_pool_connections=options.concurrency,
            # http is allowed on this machine only, where no proxy of the environment belongs
            proxies={} if (endpoint_url or "").startswith("http:") else None,
        )
        return self._own().session.create_client(
            service,
            region_name=region or options.region,
            endpoint_url=endpoint_url,
            config=config,
            aws_access_key_id=options.access_key_id and options.access_key_id.reveal(),
            aws_secret_access_key=options.secret_access_key and options.secret_access_key.reveal(),
            aws_session_token=options.session_token and options.session_token.reveal(),
        )


def code_of(error: ClientError) -> str:
    """AWS's code of an error, or ""."""
    return str(error.response.get("Error", {}).get("Code") or "")


class _Life:
    """State of one process: neither sockets nor threads nor a held lock survive a fork."""

    def __init__(self, concurrency: int) -> None:
        # they would write whole requests, or URLs in which addresses stand
        for name in ("botocore", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.pid = os.getpid()
        self.session: Any = botocore.session.Session()
        self.clients: dict[str, Any] = {}
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(concurrency, "ses")
