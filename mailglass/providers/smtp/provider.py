"""The SMTP provider: mails over kept sessions to a submission server."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from mailglass import telemetry
from mailglass.bounces import proofs
from mailglass.bounces.events import read_bounce
from mailglass.bounces.proofs import Proofs
from mailglass.clock import monotonic
from mailglass.providers.base import Outcome, OutcomeClass, Outgoing, Provider, ProviderEvent
from mailglass.providers.smtp.auth import TokenSource
from mailglass.providers.smtp.opening import SessionFailed, open_session
from mailglass.providers.smtp.options import SMTPOptions, tls_context
from mailglass.providers.smtp.pool import SessionPool
from mailglass.providers.smtp.session import Envelope, Session, StaleSession
from mailglass.rendering import mime
from mailglass.rendering.dkim import Signer

CAME_TO: Final = "came-to"
"""Under this name the envelope's recipient is kept with a bounce mail."""

_NOT_STARTED: Final = Outcome(OutcomeClass.TRANSIENT, reason="deadline")
_UNBUILDABLE: Final = Outcome(OutcomeClass.REJECTED, reason="message_invalid")


class SMTPProvider(Provider):
    """Sends over SMTP, one mail after the other on a kept connection.

    SMTP posts no webhooks; what comes back by mail is kept in their place (`mailglass.inbound`) and understood here.

    Reasons that are not a server's reply (`smtp_<code>`): `connect_failed`, `tls_failed`, `tls_untrusted`,
    `starttls_unavailable`, `auth_unavailable`, `insecure_auth`, `connection_lost`, `timed_out`, `protocol_error`,
    `deadline`, `too_large`, `smtputf8_unsupported`, `message_invalid`, `answer_lost`, and of OAuth 2.0
    `oauth2_unavailable`, `oauth2_answer_invalid`, `oauth2_refused` or `oauth2_<error of RFC 6749 5.2>`.
    """

    name = "smtp"
    Options = SMTPOptions
    batch_size = 25

    def __init__(self, account: str, options: Any) -> None:
        super().__init__(account, options)
        context = None if options.security == "none" else tls_context(options.ca_file)
        self._tokens = _token_source(options)
        self._pool = SessionPool(
            partial(open_session, options, context, self._tokens),
            options.max_connections,
            options.max_messages_per_connection,
        )
        self._signer = Signer(options.dkim)
        self._proofs = Proofs([secret.reveal() for secret in options.bounce_secret], options.bounce_domain)

    def send(self, mails: Sequence[Outgoing], *, deadline: float) -> list[Outcome]:
        if not mails or not self._pool.acquire_slot(deadline):
            return [_NOT_STARTED] * len(mails)
        batch = _Batch(self._pool, deadline, self._signer, self._proofs)
        try:
            return [batch.send(mail) for mail in mails]
        finally:
            batch.end()
            self._pool.release_slot()

    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        reading = read_bounce(body, self._proofs, headers.get(CAME_TO, ""))
        if reading.doubt is not None:
            telemetry.emit(
                "mailglass.bounce.unproven", level=logging.WARNING, account=self.account, reason=reading.doubt
            )
        return list(reading.events)

    def close(self) -> None:
        self._pool.close()
        if self._tokens is not None:
            self._tokens.close()


class _Batch:
    """One call of `send`: carries its session from mail to mail."""

    def __init__(self, pool: SessionPool, deadline: float, signer: Signer, proofs: Proofs) -> None:
        self._pool = pool
        self._deadline = deadline
        self._signer = signer
        self._proofs = proofs
        self._session: Session | None = None
        self._no_session: Outcome | None = None

    def send(self, mail: Outgoing) -> Outcome:
        if monotonic() >= self._deadline:
            return _NOT_STARTED
        if self._no_session is not None:
            return self._no_session
        try:
            message = self._message(mail)
            message_id = mime.message_id(mail).strip("<>")
        except ValueError:
            return _UNBUILDABLE
        try:
            outcome = self._attempt(mail, message)
        except SessionFailed as failure:
            # the batch's other mails would only wait before the same door
            self._no_session = failure.outcome
            return failure.outcome
        if outcome.kind in (OutcomeClass.ACCEPTED, OutcomeClass.UNCERTAIN):
            return replace(outcome, provider_message_id=message_id)
        return outcome

    def end(self) -> None:
        """Give the session back."""
        if self._session is not None:
            self._pool.keep(self._session)
            self._session = None

    def _message(self, mail: Outgoing) -> bytes:
        message = mime.build(mail)
        if token := self._proofs.token(mail):
            message = f"{proofs.HEADER}: {token}\r\n".encode("ascii") + message
        return self._signer.sign(message, domain=mail.sender.domain, created_at=mail.created_at)

    def _attempt(self, mail: Outgoing, message: bytes, *, fresh: bool = False) -> Outcome:
        session = self._ready_session(fresh)
        if monotonic() >= self._deadline:
            return _NOT_STARTED
        try:
            envelope = _envelope(mail, self._proofs, smtputf8_offered="SMTPUTF8" in session.features)
        except ValueError:
            return _UNBUILDABLE
        if objection := session.objection(envelope, len(message)):
            return objection
        try:
            return session.transmit(envelope, message)
        except StaleSession:
            # nothing was sent, and a fresh session is never stale: this happens once
            return self._attempt(mail, message, fresh=True)

    def _ready_session(self, fresh: bool) -> Session:
        if self._session is None or not self._pool.can_carry_more(self._session):
            self.end()
            self._session = self._pool.connect() if fresh else self._pool.take()
        return self._session


def _token_source(options: SMTPOptions) -> TokenSource | None:
    if not options.uses_oauth2:
        return None
    from mailglass.providers.smtp.oauth2 import token_source  # brings an HTTP client along

    return token_source(options)


def _envelope(mail: Outgoing, proofs: Proofs, *, smtputf8_offered: bool) -> Envelope:
    """The envelope; blind copies that the server cannot address are left out, the mail does not depend on them.

    Raises:
        ValueError: an address that no command line can carry.
    """
    blind = tuple(copy for copy in mail.bcc if smtputf8_offered or not copy.smtputf8)
    recipients = dict.fromkeys(address.email for address in (mail.recipient, *mail.cc, *blind))
    smtputf8 = mime.needs_smtputf8(replace(mail, bcc=blind))
    return Envelope(proofs.envelope_sender(mail), tuple(recipients), smtputf8, proofs.token(mail))
