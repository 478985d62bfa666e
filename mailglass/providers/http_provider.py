"""Base of the HTTP providers: mails become requests, answers become outcomes, each mail once."""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from typing_extensions import override

from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import EXPIRED, Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.refusal import Scope
from mailglass.providers.base import Provider, RateSignal
from mailglass.providers.copies import with_distinct_copies
from mailglass.providers.http import HTTPAnswer, HTTPClient, HTTPOptions, HTTPRequest
from mailglass.providers.rate_signals import RateGauge, RateHeaders, read_signal
from mailglass.telemetry import emit

ROUNDS: Final = 4
"""So many times the requests that may be in flight are handed to one `send`, where each carries one mail."""


_UNENCODED = Outcome(OutcomeClass.TRANSIENT, reason="encode_failed")
_UNANSWERED = Outcome(OutcomeClass.UNCERTAIN, reason="provider_error:no_outcome")


class Unsendable(Exception):
    """This mail asks for something the provider cannot do.

    Attributes:
        reason: a closed code that names the feature, `unsupported_reply_to`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_NOT_STARTED: Final = Outcome(OutcomeClass.TRANSIENT, reason="deadline")
# what no request was made for
_UNASKED: Final = (None, _NOT_STARTED, _UNENCODED, EXPIRED)
# requests in a row without an answer after which a call begins no further one
_SILENT_AFTER: Final = 3


@dataclass(frozen=True, slots=True)
class _Ready:
    """A mail as the provider wants it, and its place among the mails of one `send`."""

    index: int
    mail: Outgoing
    part: bytes


class HTTPProvider(Provider):
    """A provider spoken to over HTTP. A room says three things: a mail's bytes, the request around them, the answer.

    Its `verify` computes; a room whose proofs need a call sets `waits_to_verify`.

    Class attributes:
        mails_per_request: how many mails one request carries.
        max_request: bytes of one request's body.
        rate_headers: header fields in which the provider tells of its rate limit, where they are its own.
    """

    waits_to_verify: ClassVar[bool] = False
    mails_per_request: ClassVar[int] = 1
    max_request: ClassVar[int] = 30_000_000
    rate_headers: ClassVar[RateHeaders | None] = None

    def __init__(self, account: str, options: HTTPOptions) -> None:
        super().__init__(account, options)
        self.http = HTTPClient(options, self.credentials())
        self.batch_size = max(self.batch_size, ROUNDS * options.concurrency)
        self._gauge = RateGauge()

    @abstractmethod
    def credentials(self) -> Mapping[str, str]:
        """Return the header fields that every request carries."""

    @abstractmethod
    def encode(self, mail: Outgoing) -> bytes:
        """One mail as the provider wants it, its tags and metadata as `fitting` left them, everybody named once.

        Raises:
            Unsendable: the provider has no way to say what the mail says.
        """

    @abstractmethod
    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        """Return the request that carries these mails, whose encoded forms are `parts`."""

    @abstractmethod
    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        """Return the outcome of each mail of the request, in order."""

    def goes_alone(self, mail: Outgoing) -> bool:
        """Return whether a mail must not share its request with others."""
        return False

    def refuses_whole(self, answer: HTTPAnswer) -> bool:
        """Return whether an answer refuses its request as a whole rather than mail by mail."""
        return answer.status >= 400

    @override
    def send(self, mails: Sequence[Outgoing], *, deadline: float) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        ready = [item for index, mail in enumerate(mails) if (item := self._ready(index, mail, outcomes))]

        silent: list[int] = []

        def attempt(bundle: list[_Ready]) -> list[_Ready]:
            if len(silent) >= _SILENT_AFTER:
                # what was not asked of a provider that answers nothing is free to go elsewhere
                outcomes.update((item.index, _NOT_STARTED) for item in bundle)
                return []
            refused = self._attempt(bundle, deadline, outcomes)
            asked = [outcomes[item.index] for item in bundle if outcomes.get(item.index) not in _UNASKED]
            if any(map(_answered, asked)):
                silent.clear()
            elif asked:
                silent.append(len(asked))
            return refused

        unknown = _UNANSWERED
        try:
            refused = self.http.each(attempt, list(self._bundles(ready)))
            # a whole request that was refused may have been so for one of its mails: each is asked about alone. Nothing
            # was accepted, so nothing can go twice.
            self.http.each(attempt, [[item] for bundle in refused for item in bundle])
        except Exception as error:  # such as Celery's soft time limit: what was answered stays answered
            self._warn("mailglass.dispatch.provider_failed", error)
            unknown = Outcome(OutcomeClass.UNCERTAIN, reason=f"provider_error:{type(error).__name__}")
        return [outcomes.get(index, unknown) for index in range(len(mails))]

    @override
    def rate_signal(self) -> RateSignal | None:
        return self._gauge.take()

    @override
    def close(self) -> None:
        self.http.close()

    def _ready(self, index: int, mail: Outgoing, outcomes: dict[int, Outcome]) -> _Ready | None:
        try:
            return _Ready(index, mail, self.encode(self.fitting(with_distinct_copies(mail))))
        except Unsendable as refusal:
            outcomes[index] = Outcome(OutcomeClass.REJECTED, reason=refusal.reason)
        except Exception as error:  # nothing was sent; a fault of ours must not fail the mails beside this one
            self._warn("mailglass.provider.encode_failed", error)
            outcomes[index] = _UNENCODED
        return None

    def _bundles(self, ready: Iterable[_Ready]) -> Iterator[list[_Ready]]:
        bundle: list[_Ready] = []
        size = 0
        for item in ready:
            if self.goes_alone(item.mail):
                yield [item]
                continue
            if bundle and (len(bundle) >= self.mails_per_request or size + len(item.part) > self.max_request):
                yield bundle
                bundle, size = [], 0
            bundle.append(item)
            size += len(item.part) + 1
        if bundle:
            yield bundle

    def _attempt(self, bundle: list[_Ready], deadline: float, outcomes: dict[int, Outcome]) -> list[_Ready]:
        """Send one request and note its outcomes; returns the mails to be asked about alone."""
        for item in [item for item in bundle if item.mail.expired]:
            outcomes[item.index] = EXPIRED
            bundle = [other for other in bundle if other is not item]
        if not bundle:
            return []
        mails = [item.mail for item in bundle]
        answer = self._exchange(mails, [item.part for item in bundle], deadline)
        if answer is None:
            return bundle
        told = [answer] * len(bundle) if isinstance(answer, Outcome) else self._read(answer, mails)
        for item, outcome in zip(bundle, told, strict=True):
            outcomes[item.index] = outcome
        if isinstance(answer, HTTPAnswer) and len(bundle) > 1 and self.refuses_whole(answer):
            return [item for item in bundle if _may_be_of_one(outcomes[item.index])]
        return []

    def _exchange(self, mails: list[Outgoing], parts: list[bytes], deadline: float) -> HTTPAnswer | Outcome | None:
        """Return the answer, or None where there is no request for these mails together."""
        try:
            request = self.request(mails, parts)
        except Exception as error:
            self._warn("mailglass.provider.encode_failed", error)
            return None if len(mails) > 1 else _UNENCODED
        answer = self.http.exchange(request, deadline=deadline)
        if isinstance(answer, HTTPAnswer):
            self._listen(answer, len(mails))
        return answer

    def _listen(self, answer: HTTPAnswer, mails: int) -> None:
        """Keep what the answer says of the rate limit; it must not decide about the mails it answers."""
        try:
            signal = read_signal(answer.headers, self.rate_headers)
            if signal is not None:
                # the provider counts requests, and the next ones will carry as many
                self._gauge.note(replace(signal, remaining=signal.remaining * mails))
        except Exception as error:
            self._warn("mailglass.provider.rate_unreadable", error)

    def _read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        unread = Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=answer.status)
        try:
            outcomes = self.read(answer, mails)
        except Exception as error:  # the provider has the mails, so this must end as an outcome
            self._warn("mailglass.provider.answer_unreadable", error)
            outcomes = []
        return [*outcomes[: len(mails)], *[unread] * (len(mails) - len(outcomes))]

    def _warn(self, event: str, error: Exception) -> None:
        emit(event, level=logging.WARNING, provider=self.name, account=self.account, error_type=type(error).__name__)


def _may_be_of_one(outcome: Outcome) -> bool:
    """Return whether a whole request may have been refused for one of its mails: content, sender or recipient."""
    of_a_sender = outcome.refusal is not None and outcome.refusal.scope is Scope.SENDER
    return of_a_sender or outcome.kind in (OutcomeClass.REJECTED, OutcomeClass.SUPPRESSED)


def _answered(outcome: Outcome) -> bool:
    """Return whether the provider has said anything to the request, be it an error."""
    return outcome.status is not None or outcome.kind not in (OutcomeClass.TRANSIENT, OutcomeClass.UNCERTAIN)


def encode_json(value: Any) -> bytes:
    """Compact UTF-8 JSON.

    Raises:
        Unsendable: it holds what no JSON text can carry, such as a lone surrogate.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        raise Unsendable("invalid_text") from None
    except (TypeError, ValueError, RecursionError):
        raise Unsendable("invalid_options") from None


def provider_options(mail: Outgoing, name: str, written: frozenset[str]) -> dict[str, Any]:
    """Return the message's own options for this provider.

    Args:
        mail: the mail.
        name: the provider's name, under which its options stand.
        written: fields that mailglass writes itself, in lower case: an option must not add recipients that were not
            checked, or say otherwise than the ledger.

    Raises:
        Unsendable: they are not a mapping, or name a field that mailglass writes.
    """
    options = mail.options.get(name) or {}
    if not isinstance(options, Mapping):
        raise Unsendable("invalid_options")
    if any(str(key).lower() in written for key in options):
        raise Unsendable("option_conflict")
    return dict(options)


def mailbox(address: Address) -> str:
    """`Name <address>` with the name as a quoted string (RFC 5322 3.2.4), for APIs that take addresses as text."""
    if not address.name:
        return address.email
    name = address.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{address.email}>'


def mailboxes(addresses: Iterable[Address], form: Callable[[Address], str] = mailbox) -> str:
    """Several addresses in one field, separated by commas."""
    return ", ".join(form(address) for address in addresses)
