"""The certificates with which Amazon SNS signs: fetched from AWS only, once each, and kept.

The URL of a certificate comes with the message, from whoever sent it. So it is checked before anything is done with
it, and what strangers can make this process fetch is bounded.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mailglass import clock
from mailglass.errors import ProviderCallError, SignatureError, SignatureErrorType
from mailglass.mail.outcomes import Outcome
from mailglass.providers.http import HTTPAnswer, HTTPClient, HTTPOptions, HTTPRequest

Fetch = Callable[[str], bytes]

# a region and nothing else: at sns.s3-us-west-2.amazonaws.com answers whoever owns the S3 bucket of the name `sns`
_HOST = re.compile(r"sns\.[a-z]{2,4}(?:-[a-z]+){1,3}-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?\Z")
_PATH = re.compile(r"/SimpleNotificationService-[0-9a-fA-F]{1,64}\.pem\Z")
_CALL: Final = "fetch the certificate of Amazon SNS"
_TIMEOUT: Final = 5.0
_MAX_PEM: Final = 64 * 1024
_KEPT_FOR: Final = 86_400.0
_REFUSED_FOR: Final = 60.0
# shorter than the 20 s after which SNS posts again
_UNAVAILABLE_FOR: Final = 5.0
_MAX_KEPT: Final = 32
_MAX_FAILED: Final = 16


def check_url(url: str) -> None:
    """Refuse any address but that of a certificate of Amazon SNS.

    Raises:
        SignatureError: type `malformed_key`.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    # the host as it is written: no user, no port, no second way to spell it
    sound = parts.scheme == "https" and _HOST.match(parts.netloc) and _PATH.match(parts.path)
    if not sound or url != f"https://{parts.netloc}{parts.path}":
        raise SignatureError(SignatureErrorType.MALFORMED_KEY, "SigningCertURL is not one of Amazon SNS")


def fetch_certificate(url: str) -> bytes:
    """Return the PEM text at a checked URL, by one request, redirects not followed.

    Raises:
        ProviderCallError: no answer, or another one than the certificate.
    """
    host, _, path = url.removeprefix("https://").partition("/")
    options = HTTPOptions(base_url=f"https://{host}", connect_timeout=_TIMEOUT, read_timeout=_TIMEOUT)
    client = HTTPClient(options, {})
    try:
        deadline = clock.monotonic() + 2 * _TIMEOUT
        answer = client.exchange(HTTPRequest(f"/{path}", method="GET"), deadline=deadline)
    finally:
        client.close()
    return pem_of(answer)


def pem_of(answer: HTTPAnswer | Outcome) -> bytes:
    """Return the body of a 200.

    Raises:
        ProviderCallError: any other answer, or none.
    """
    if isinstance(answer, Outcome):
        raise _unavailable()
    if answer.status != 200:
        passing = answer.status == 429 or answer.status >= 500
        raise ProviderCallError(_CALL, status=answer.status, retryable=passing)
    return answer.body


class _Failure(Enum):
    REFUSED = _REFUSED_FOR
    UNAVAILABLE = _UNAVAILABLE_FOR


@dataclass(slots=True)
class _Entry:
    """State of one URL: a key, a failure, or a fetch under way (`until` infinite)."""

    key: Future[RSAPublicKey | _Failure] = field(default_factory=Future)
    until: float = float("inf")

    @property
    def failed(self) -> bool:
        return self.key.done() and isinstance(self.key.result(), _Failure)


class Certificates:
    """Public keys by URL. Safe from several threads: each URL is fetched by one of them, the others wait for it.

    A key is kept for a day, a refusal for a minute, an outage for five seconds. While sixteen URLs stand as
    failed, unknown ones are not asked for at all.

    Args:
        fetch: gets the PEM text at a URL that was checked; raises `ProviderCallError`.
    """

    def __init__(self, fetch: Fetch = fetch_certificate) -> None:
        self._fetch = fetch
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def key(self, url: str) -> RSAPublicKey:
        """Return the public key of the certificate at a URL.

        Raises:
            SignatureError: type `malformed_key`: not a URL of Amazon SNS, or no RSA certificate there.
            ProviderCallError: it cannot be fetched just now.
        """
        check_url(url)
        entry, mine = self._entry(url)
        if mine:
            self._load(url, entry)
        try:
            key = entry.key.result(3 * _TIMEOUT)
        except TimeoutError:
            key = _Failure.UNAVAILABLE
        if key is _Failure.REFUSED:
            raise SignatureError(SignatureErrorType.MALFORMED_KEY, "no certificate at SigningCertURL")
        if isinstance(key, _Failure):
            raise _unavailable()
        return key

    def _entry(self, url: str) -> tuple[_Entry, bool]:
        now = clock.monotonic()
        with self._lock:
            entry = self._entries.get(url)
            if entry is not None and now < entry.until:
                return entry, False
            for known in [known for known, kept in self._entries.items() if now >= kept.until]:
                del self._entries[known]
            if sum(kept.failed for kept in self._entries.values()) >= _MAX_FAILED:
                raise _unavailable()
            while len(self._entries) >= _MAX_KEPT:
                del self._entries[next(iter(self._entries))]
            entry = self._entries[url] = _Entry()
            return entry, True

    def _load(self, url: str, entry: _Entry) -> None:
        key: RSAPublicKey | _Failure = _Failure.UNAVAILABLE
        try:
            key = _public_key(self._fetch(url))
        except ProviderCallError as error:
            key = _Failure.UNAVAILABLE if error.retryable else _Failure.REFUSED
        except (ValueError, UnsupportedAlgorithm):
            key = _Failure.REFUSED
        finally:
            # whatever happens here, those who wait are told
            entry.until = clock.monotonic() + (key.value if isinstance(key, _Failure) else _KEPT_FOR)
            entry.key.set_result(key)


def _unavailable() -> ProviderCallError:
    return ProviderCallError(_CALL, retryable=True)


def _public_key(pem: bytes) -> RSAPublicKey:
    """Return the key of a certificate. Its dates are not looked at: AWS's own validators do not either.

    Raises:
        ValueError: no certificate, or not with an RSA key.
    """
    if len(pem) > _MAX_PEM:
        raise ValueError("too large for a certificate")
    key = x509.load_pem_x509_certificate(pem).public_key()
    if not isinstance(key, RSAPublicKey) or key.key_size < 2048:
        raise ValueError("not an RSA key of at least 2048 bits")
    return key
