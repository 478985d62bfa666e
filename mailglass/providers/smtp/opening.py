"""Opening of a session: connect, greeting, EHLO, TLS, AUTH. Whatever fails here, nothing was sent."""

from __future__ import annotations

import base64
import socket
import ssl
from typing import Final

from mailglass.clock import monotonic
from mailglass.errors import MailglassError
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.refusal import Stage
from mailglass.providers.smtp.auth import MECHANISMS, Mechanism, TokenSource, TokenUnavailable
from mailglass.providers.smtp.options import SMTPOptions, is_loopback
from mailglass.providers.smtp.prepared_mail import Features
from mailglass.providers.smtp.replies import Reply, refusal
from mailglass.providers.smtp.session import EnvelopePipelining, Session
from mailglass.providers.smtp.wire import ProtocolError, Wire

_CHALLENGE: Final = 334
_UNKNOWN_MECHANISM: Final = 504
_CREDENTIALS_REFUSED: Final = 535


class SessionFailed(MailglassError):
    """No session could be opened.

    Attributes:
        outcome: what that makes of every mail that waited for it.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"no SMTP session: {outcome.reason}; see the reason in the delivery's last error")
        self.outcome = outcome


def open_session(
    options: SMTPOptions,
    context: ssl.SSLContext | None,
    tokens: TokenSource | None = None,
    pipelining: EnvelopePipelining | None = None,
) -> Session:
    """Return a session that is ready for its first mail.

    Args:
        options: the account's.
        context: for TLS; None when the account wants none.
        tokens: for AUTH in place of the password; None when the account uses none.
        pipelining: what the account's sessions know of the server; None: nothing.

    Raises:
        SessionFailed: with what it means.
    """
    until = monotonic() + options.timeout
    try:
        # before the server is kept waiting
        token = None if tokens is None else tokens.token(until)
    except TokenUnavailable as unavailable:
        raise SessionFailed(unavailable.outcome) from None
    try:
        sock = socket.create_connection((options.host, options.port), timeout=options.connect_timeout)
    except OSError:
        raise _transient("connect_failed") from None
    wire = Wire(sock)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        features = _Opening(options, wire, until, tokens, token).run(context)
    except TokenUnavailable as unavailable:
        wire.close()
        raise SessionFailed(unavailable.outcome) from None
    except TimeoutError:
        wire.close()
        raise _transient("timed_out") from None
    except OSError:
        wire.close()
        raise _transient("connection_lost") from None
    except ProtocolError:
        wire.close()
        raise _transient("protocol_error") from None
    except BaseException:
        wire.close()
        raise
    return Session(
        wire,
        features if options.pipelining != "none" else features.without("PIPELINING"),
        options.timeout,
        min(options.connect_timeout, options.timeout),
        options.max_messages_per_connection,
        pipelining or EnvelopePipelining(),
        options.host,
    )


class _Opening:
    """The dialogue before the first mail."""

    def __init__(
        self, options: SMTPOptions, wire: Wire, until: float, tokens: TokenSource | None, token: str | None
    ) -> None:
        self._options = options
        self._wire = wire
        self._until = until
        self._tokens = tokens
        self._token = token

    def run(self, context: ssl.SSLContext | None) -> Features:
        if self._options.security == "tls":
            self._start_tls(context)
        self._expect_ok(self._wire.read_reply(self._until), Stage.GREETING)
        features = self._hello()
        if self._options.security == "starttls":
            if "STARTTLS" not in features:
                raise _misconfigured("starttls_unavailable")
            self._expect_ok(self._say(b"STARTTLS"), Stage.TLS)
            self._start_tls(context)
            features = self._hello()  # what was said before TLS does not count (RFC 3207 section 4.2)
        if self._options.username is not None:
            self._authenticate(features)
        return features

    def _say(self, line: bytes) -> Reply:
        self._wire.write(line + b"\r\n", self._until)
        return self._wire.read_reply(self._until)

    def _expect_ok(self, reply: Reply, stage: Stage) -> None:
        if not reply.ok:
            raise SessionFailed(refusal(stage, reply, host=self._options.host))

    def _hello(self) -> Features:
        name = self._options.helo_name or _own_name(self._wire.local_address)
        reply = self._say(b"EHLO " + name.encode("ascii"))
        self._expect_ok(reply, Stage.EHLO)
        return Features.parse(reply)

    def _start_tls(self, context: ssl.SSLContext | None) -> None:
        if context is None:
            raise _misconfigured("tls_failed")
        try:
            self._wire.start_tls(context, self._options.host, self._until)
        except ssl.SSLCertVerificationError:
            raise _transient("tls_untrusted") from None
        except OSError:
            raise _transient("tls_failed") from None

    def _authenticate(self, features: Features) -> None:
        encrypted = self._options.security != "none"
        if not (encrypted or self._options.allow_insecure_auth or is_loopback(self._wire.peer_address)):
            raise _misconfigured("insecure_auth")
        for mechanism in MECHANISMS:
            if mechanism.token is not (self._tokens is not None) or mechanism.name not in features.mechanisms:
                continue
            reply = self._try_mechanism(mechanism)
            if reply.code == _CREDENTIALS_REFUSED and self._renew_token():
                reply = self._try_mechanism(mechanism)
            if reply.code != _UNKNOWN_MECHANISM:
                return self._expect_ok(reply, Stage.AUTH)
        raise _misconfigured("auth_unavailable")

    def _renew_token(self) -> bool:
        """Return whether there is another token to try: one may be revoked before its time is over."""
        if self._tokens is None or self._token is None:
            return False
        token = self._tokens.renew(self._token, self._until)
        if token is None:
            return False
        self._token = token
        return True

    def _try_mechanism(self, mechanism: Mechanism) -> Reply:
        username, password = self._options.username, self._options.password
        secret = self._token if password is None else password.reveal()
        if username is None or secret is None:
            raise _misconfigured("auth_unavailable")
        answers = [base64.b64encode(answer) for answer in mechanism.answers(username, secret)]
        command = b"AUTH " + mechanism.name.encode("ascii")
        reply = self._say(b" ".join([command, answers.pop(0)]) if mechanism.initial else command)
        for answer in answers:
            if reply.code != _CHALLENGE:
                break
            reply = self._say(answer)
        return reply


def _own_name(local_address: str) -> str:
    """Return this host's name if it is a full one, else its address as a literal (RFC 5321 4.1.4)."""
    name = socket.gethostname()
    if "." in name and name.isascii() and name.replace(".", "").replace("-", "").isalnum():
        return name
    return f"[IPv6:{local_address}]" if ":" in local_address else f"[{local_address}]"


def _transient(reason: str) -> SessionFailed:
    return SessionFailed(Outcome(OutcomeClass.TRANSIENT, reason=reason))


def _misconfigured(reason: str) -> SessionFailed:
    return SessionFailed(Outcome(OutcomeClass.MISCONFIGURED, reason=reason))
