"""The SMTP provider: mails over kept sessions to a submission server."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from typing_extensions import override

from mailglass import telemetry
from mailglass.bounces import proofs
from mailglass.bounces.events import read_bounce
from mailglass.bounces.proofs import Proofs
from mailglass.errors import ProviderCallError
from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider
from mailglass.providers.copies import with_distinct_copies
from mailglass.providers.smtp.auth import TokenSource
from mailglass.providers.smtp.opening import SessionFailed, open_session
from mailglass.providers.smtp.options import SMTPOptions, tls_context
from mailglass.providers.smtp.pool import SessionPool
from mailglass.providers.smtp.prepared_mail import Envelope, PreparedMail
from mailglass.providers.smtp.sending import Batch
from mailglass.providers.smtp.session import EnvelopePipelining
from mailglass.rendering import mime
from mailglass.rendering.dkim import Signer

CAME_TO: Final = "came-to"
"""Under this name the envelope's recipient is kept with a bounce mail."""

_NOT_STARTED: Final = Outcome(OutcomeClass.TRANSIENT, reason="deadline")
# what a process that dies in the middle leaves uncertain, and what is committed at once
_MAILS_PER_CONNECTION: Final = 25
_MOST: Final = 200


class SMTPProvider(Provider):
    """Sends over SMTP on kept connections, over several at once where the server makes one wait.

    SMTP posts no webhooks; what comes back by mail is kept in their place (`mailglass.inbound`) and understood here.

    Reasons that are not a server's reply (`smtp_<code>`): `connect_failed`, `tls_failed`, `tls_untrusted`,
    `starttls_unavailable`, `auth_unavailable`, `insecure_auth`, `connection_lost`, `timed_out`, `protocol_error`,
    `deadline`, `too_large`, `smtputf8_unsupported`, `message_invalid`, `answer_lost`, `encode_failed`,
    `provider_error:<type>`, and of OAuth 2.0 `oauth2_unavailable`, `oauth2_answer_invalid`, `oauth2_refused` or
    `oauth2_<error of RFC 6749 5.2>`.
    """

    name = "smtp"
    Options = SMTPOptions

    def __init__(self, account: str, options: Any) -> None:
        super().__init__(account, options)
        context = None if options.security == "none" else tls_context(options.ca_file)
        self._tokens = _token_source(options)
        pipelining = EnvelopePipelining(options.pipelining == "full")
        open_ = partial(open_session, context=context, tokens=self._tokens, pipelining=pipelining)
        self._pool = SessionPool(lambda: open_(self._within_margin()), options.max_connections)
        self.batch_size = min(_MAILS_PER_CONNECTION * options.max_connections, _MOST)
        self._signer = Signer(options.dkim)
        self._proofs = Proofs([secret.reveal() for secret in options.bounce_secret], options.bounce_domain)

    @override
    def send(self, mails: Sequence[Outgoing], *, deadline: float) -> list[Outcome]:
        if not mails or not self._pool.acquire_slot(deadline):
            return [_NOT_STARTED] * len(mails)
        try:
            return Batch(mails, deadline, self._pool, self._pack, self.account).send()
        finally:
            self._pool.release_slot()

    @override
    def hold_back(self) -> None:
        self._pool.hold_back()

    def check_credentials(self) -> bool:
        """Open a session of its own, up to and including AUTH, and close it."""
        try:
            self._pool.connect().quit()
        except SessionFailed as failure:
            retryable = failure.outcome.kind in (OutcomeClass.TRANSIENT, OutcomeClass.THROTTLED)
            raise ProviderCallError(f"{self.account}: {failure.outcome.reason}", retryable=retryable) from None
        return True

    @override
    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        reading = read_bounce(body, self._proofs, headers.get(CAME_TO, ""))
        if reading.doubt is not None:
            telemetry.emit(
                "mailglass.bounce.unproven", level=logging.WARNING, account=self.account, reason=reading.doubt
            )
        return list(reading.events)

    def _pack(self, mail: Outgoing) -> PreparedMail:
        """Return the mail as it is said to a server.

        Raises:
            ValueError: there is no way to say it.
        """
        mail = with_distinct_copies(mail)
        message = mime.build(mail)
        if token := self._proofs.token(mail):
            message = f"{proofs.HEADER}: {token}\r\n".encode("ascii") + message
        message = self._signer.sign(message, domain=mail.sender.domain, created_at=mail.created_at)
        envelope = _envelope(mail, self._proofs)
        return PreparedMail.of(envelope, mime.message_id(mail)[1:-1], message, _copies(mail, envelope))

    def _within_margin(self) -> SMTPOptions:
        """Return the options with a timeout that the last mail may take twice, for its content and for the answer."""
        options: SMTPOptions = self.options
        return options if options.timeout * 2 <= self.overrun else replace(options, timeout=self.overrun / 2)

    @override
    def close(self) -> None:
        self._pool.close()
        if self._tokens is not None:
            self._tokens.close()


def _token_source(options: SMTPOptions) -> TokenSource | None:
    if not options.uses_oauth2:
        return None
    from mailglass.providers.smtp.oauth2 import token_source  # brings an HTTP client along

    return token_source(options)


def _copies(mail: Outgoing, envelope: Envelope) -> tuple[int, ...]:
    """Return which of the mail's copies each recipient of the envelope is."""
    if not (mail.cc or mail.bcc):
        return ()
    places = {mail.recipient.email: -1}
    for place, copy in enumerate((*mail.cc, *mail.bcc)):
        places.setdefault(copy.email, place)
    return tuple(places.get(address, -1) for address in (*envelope.recipients, *envelope.optional))


def _envelope(mail: Outgoing, proofs: Proofs) -> Envelope:
    """Return the envelope; blind copies that the server cannot address are optional, the mail does not depend on them.

    Raises:
        ValueError: an address that no command line can carry.
    """
    sender, token = proofs.envelope_sender(mail), proofs.token(mail)
    if not (mail.cc or mail.bcc):
        return Envelope(sender, (mail.recipient.email,), mime.needs_smtputf8(mail), token)
    visible = [mail.recipient, *mail.cc]
    recipients = dict.fromkeys(
        [address.email for address in visible] + [copy.email for copy in mail.bcc if not copy.smtputf8]
    )
    optional = dict.fromkeys(copy.email for copy in mail.bcc if copy.smtputf8 and copy.email not in recipients)
    return Envelope(sender, tuple(recipients), mime.needs_smtputf8(replace(mail, bcc=())), token, tuple(optional))
