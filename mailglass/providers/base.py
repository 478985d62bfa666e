"""Base of every provider. Knows no table."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from mailglass.errors import SignatureError, SignatureErrorType
from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.search import UNKNOWN, SearchResult, SearchTarget
from mailglass.settings import Secret

if TYPE_CHECKING:
    from mailglass.providers.suppression_list import SuppressionList


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A webhook as it arrived.

    Attributes:
        headers: names in lower case.
        body: the raw bytes, never parsed and written again.
        url: the full URL as the provider called it, where the server knows it (some signatures cover it).
        remote_addr: the peer's address, proxies already taken into account.
    """

    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str = field(default="", repr=False)
    remote_addr: str = ""

    def header(self, name: str) -> str:
        """Return the header's value.

        Raises:
            SignatureError: it is missing.
        """
        value = self.headers.get(name.lower())
        if value is None:
            raise SignatureError(SignatureErrorType.MISSING_HEADER, name)
        return value


@dataclass(frozen=True, slots=True)
class RateSignal:
    """Rate limit that a provider states beside an answer.

    Attributes:
        remaining: mails, 0 or more.
        reset_seconds: until it counts anew, 0 or more.
    """

    remaining: int
    reset_seconds: float


Store = Callable[[str, bytes, Mapping[str, str], str], object]
"""`store(account, body, headers, dedupe_key)`: returns when a webhook is kept, now or before; raises if it is not."""


class Provider(ABC):
    """One account of one provider, ready to send and to understand its webhooks.

    One instance lives per account and process; `send` may be called from several threads at once.

    Class attributes:
        name: the provider's name in settings.
        Options: a frozen dataclass of the account's options; fields typed `Secret` take only references.
        batch_size: how many deliveries are marked `sending` and handed to one `send` call. An account whose options
            bear on that says so on its instance.
        retry_status: the HTTP status that makes this provider post a webhook again when the fault is ours.
        waits_to_verify: `verify` may wait for somebody, as for a certificate. False where it only computes: then the
            endpoint calls it in its event loop.
        webhook_secrets: the options that hold the secrets of webhooks, in the order in which they are tried.
        signed_headers: the webhook headers worth keeping with the raw body (never credentials).
        idempotent: the provider takes the same delivery twice as once when the payload is byte-identical. An account
            whose options rule that out says so on its instance.
        idempotency_window: for how many seconds after the first attempt that holds; None: always.
        overrun: seconds that what was begun before a call's deadline may still take: the engine's `send_margin`, set
            when the account is opened, so that no answer comes after the lease.
        searchable: the provider can be searched for a mail by our id. As with `idempotent`, an instance may differ.
        search_lag: seconds after which its search is expected to know of a mail.
        absence_proves_after: seconds after which a mail that the search does not show was certainly not taken; None:
            not being found proves nothing.
        keeps_suppressions: the provider has a list of its own that can be read: `suppression_list` gives it.
        polled: its webhooks may wait for us in a queue: `collect` fetches them.
        grants_rate: it tells what rate it grants the account: `granted_rate` asks it.
    """

    name: ClassVar[str]
    Options: ClassVar[type]
    batch_size: int = 50
    retry_status: ClassVar[int] = 503
    waits_to_verify: ClassVar[bool] = True
    webhook_secrets: ClassVar[tuple[str, ...]] = ()
    signed_headers: ClassVar[tuple[str, ...]] = ()
    idempotent: bool = False
    idempotency_window: float | None = None
    overrun: float = math.inf
    searchable: bool = False
    search_lag: float = 30.0
    absence_proves_after: float | None = None
    keeps_suppressions: bool = False
    polled: bool = False
    grants_rate: bool = False

    def __init__(self, account: str, options: Any) -> None:
        self.account = account
        self.options = options

    def __repr__(self) -> str:
        return f"<{type(self).__name__} account={self.account!r}>"

    @abstractmethod
    def send(self, mails: Sequence[Outgoing], *, deadline: float) -> list[Outcome]:
        """Attempt each mail once and say what became of it, in input order. Never retries, never raises for a mail.

        Args:
            mails: at most `batch_size`. One that is `expired` when its turn comes is not begun: its outcome is
                `mailglass.mail.outcomes.EXPIRED`.
            deadline: on `mailglass.clock.monotonic()`; no I/O may start after it, what was not started is `transient`.
        """

    def fitting(self, mail: Outgoing) -> Outgoing:
        """Return the mail with those of its tags and metadata that a request of this account can carry.

        The others are no reason to fail a mail: they stay in the ledger, and an event says that they were left out.
        `send` does the same by itself. No I/O, and the same again for a mail that fits.
        """
        return mail

    def verify(self, request: WebhookRequest) -> Secret | None:
        """Prove that a webhook comes from the provider, from its raw bytes, in constant time.

        Returns:
            The secret that proves it, so that `mailglass secrets check` can tell when it was last used; None is
            allowed.

        Raises:
            SignatureError: it does not.
            ConfigError: this account has no webhook secret, so nothing can be proved.
            ProviderCallError: a key that proves it cannot be fetched just now; the provider should post again.
        """
        raise SignatureError(SignatureErrorType.BAD_CREDENTIALS, f"{self.name} posts no webhooks")

    def delivery_key(self, request: WebhookRequest) -> str | None:
        """Return the key of this webhook, the same when it is posted again, or None if its bytes are the key."""
        return None

    def single_use(self, request: WebhookRequest) -> Sequence[bytes]:
        """Return what proves this request without covering its body, for providers that sign less than the body.

        Each value is bound to the first body it comes with, at whichever account and tenant: the same body is believed
        again, another one is not. A proof must not be valid for longer than a day before or after its own time.

        Args:
            request: verified.

        Returns:
            Digests that tell one proof from another, at most a few, without a secret in them; empty where the proof
            covers the body, or is no more than a password.
        """
        return ()

    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        """Return the events in a verified body.

        Raises:
            WebhookBodyError: the body is not in a form this provider posts.
        """
        return []

    def on_webhook(self, body: bytes, headers: Mapping[str, str]) -> None:  # noqa: B027 - optional
        """Do what a verified webhook asks beside being read, such as to confirm a subscription.

        Called by the task before `normalise`, perhaps several times for one webhook: it must do no harm again.

        Args:
            body: the raw bytes.
            headers: those of `signed_headers`.

        Raises:
            ProviderCallError: it could not be done; where that is retryable the webhook is tried again later.
            WebhookBodyError: as `normalise`.
        """

    def collect(self, store: Store) -> int:
        """Fetch webhooks that wait for us in a queue, and keep them, for providers that are `polled`.

        Returns:
            How many were kept; above zero, more may be waiting.

        Raises:
            ProviderCallError: the queue cannot be read or cleared.
        """
        return 0

    def find(self, targets: Sequence[SearchTarget], *, deadline: float) -> list[SearchResult]:
        """Look for deliveries whose answer was lost, for providers that are `searchable`. Sends nothing.

        A delivery is found only where the provider tells our own id; what merely looks like it is not ours.

        Args:
            targets: a few deliveries of this account.
            deadline: on `mailglass.clock.monotonic()`; what was not asked about by then is unknown.

        Returns:
            A result for each, in order.
        """
        return [UNKNOWN] * len(targets)

    def check_credentials(self) -> bool:
        """Ask the provider whether it accepts the account's credentials. Sends nothing and changes nothing.

        Returns:
            True if it does, False if the provider has no call that would tell.

        Raises:
            ProviderCallError: it refuses them, or, if the error is retryable, it could not be asked.
        """
        if not self.keeps_suppressions:
            return False
        self.suppression_list().pull(None)
        return True

    def suppression_list(self) -> SuppressionList:
        """Return the account's own list at the provider, for providers that `keeps_suppressions` says have one.

        Raises:
            NotImplementedError: it has none that can be read.
        """
        raise NotImplementedError(f"{self.name} has no suppression list that can be read")

    def rate_signal(self) -> RateSignal | None:
        """Return the tightest that the answers since the last call said of the account's rate limit; None: nothing.

        Asked after every `send`, so it must cost nothing where nothing was said. No I/O.
        """
        return None

    def hold_back(self) -> None:  # noqa: B027 - optional
        """Keep fewer connections at a time for a while, for providers that choose how many: there were too many."""

    def granted_rate(self) -> float | None:
        """Mails a second that the provider grants the account, for providers where `grants_rate`; None: not told.

        Asked about once an hour, by one worker. What cannot be learnt is logged and answered None.
        """
        return None

    def close(self) -> None:  # noqa: B027 - optional
        """Close kept connections."""
