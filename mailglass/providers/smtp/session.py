"""One SMTP session: one mail after the other, each with an outcome that is sure about what was sent and what not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from mailglass.clock import monotonic
from mailglass.errors import MailglassError
from mailglass.mail.outcomes import CopyRefusal, Outcome, OutcomeClass
from mailglass.mail.refusal import Stage
from mailglass.providers.smtp.prepared_mail import DATA, RESET, Features, PreparedMail, Step, addressed
from mailglass.providers.smtp.replies import (
    AUTHENTICATION_NEEDED,
    SERVICE_CLOSING,
    Reply,
    blames_the_dialogue,
    blames_the_session,
    refusal,
)
from mailglass.providers.smtp.wire import ProtocolError, Wire
from mailglass.refusals.understand import understand

# how long a server that may have stumbled over envelopes behind content is spared them
SPARED: Final = 600.0
_QUIT_TIMEOUT: Final = 1.0
# with more content than this the round trip saved is little, and the copy that joins the two is not
_MAX_JOINED: Final = 1024 * 1024


class StaleSession(MailglassError):
    """A kept session turned out to be over before it answered anything about this mail, which was not sent."""


class EnvelopePipelining:
    """Knowledge of the server's sessions.

    It says whether a mail's envelope may travel behind the content of the mail before (RFC 2920 3.1), whether the
    server wants RSET between two mails, and whether it takes a second one at all.

    Shared by an account's sessions: what one of them learns spares the others.

    Args:
        allowed: by the account's options.
    """

    def __init__(self, allowed: bool = True) -> None:
        self._allowed = allowed
        self._spared_until = 0.0
        self._reset_until = 0.0
        self._single_until = 0.0

    @property
    def allowed(self) -> bool:
        """True while envelopes may be sent ahead."""
        return self._allowed and monotonic() >= self._spared_until and not (self.wants_reset or self.one_mail)

    @property
    def wants_reset(self) -> bool:
        """True if the server was met that takes a further mail only after RSET."""
        return monotonic() < self._reset_until

    @property
    def one_mail(self) -> bool:
        """True if the server was met that takes one mail a session."""
        return monotonic() < self._single_until

    def learn_reset(self) -> None:
        """RSET made a server take a mail that it had refused to begin: say it ahead of mails for a while."""
        self._reset_until = monotonic() + SPARED

    def learn_one_mail(self) -> None:
        """Not even RSET made a server begin a further mail: open a session for each for a while."""
        self._single_until = monotonic() + SPARED

    def spare(self) -> None:
        """Do without it for a while: the server may have stumbled over it."""
        self._spared_until = monotonic() + SPARED


@dataclass(frozen=True, slots=True)
class _PipelinedEnvelope:
    """A mail whose envelope was written behind the content of the mail before, and is not answered yet."""

    prepared: PreparedMail
    steps: list[Step] = field(repr=False)


class Session:
    """A greeted, secured and authenticated connection. For one thread at a time.

    Args:
        wire: the connection.
        features: what the server offers.
        timeout: seconds for one mail up to its final dot, and again for the answer to it.
        probe_timeout: seconds for the answer to NOOP.
        max_mails: after so many the session is not used any more.
        pipelining: what the account's sessions have learnt of the server.
        host: the server's name.

    Attributes:
        transactions: mails begun on this session.
        last_used: on `mailglass.clock.monotonic()`.
    """

    def __init__(
        self,
        wire: Wire,
        features: Features,
        timeout: float,
        probe_timeout: float,
        max_mails: int,
        pipelining: EnvelopePipelining,
        host: str = "",
    ) -> None:
        self.features = features
        self.transactions = 0
        self.last_used = monotonic()
        self._wire = wire
        self._timeout = timeout
        self._probe_timeout = probe_timeout
        self._max_mails = max_mails
        self._pipelining = pipelining
        self._pipelined = "PIPELINING" in features
        self._max_size = features.max_size
        self._open = True
        self._in_mail = False
        self._needs_reset = False
        self._answered = False
        self._torn = False
        self._ahead: _PipelinedEnvelope | None = None
        self._host = host
        # by the recipient's place in the envelope
        self._copies: dict[int, Reply] = {}

    @property
    def sound(self) -> bool:
        """True if it is between two mails.

        A mail that an exception tore off, or whose envelope was said and content was not, forbids all but closing.
        """
        return self._open and not self._in_mail and self._ahead is None

    @property
    def usable(self) -> bool:
        """True if any mail may go here next."""
        return self.sound and self.transactions < (1 if self._pipelining.one_mail else self._max_mails)

    def expects(self, prepared: PreparedMail) -> bool:
        """Return whether this mail, and no other, may go here next: its envelope was said already."""
        return self._open and not self._in_mail and self._ahead is not None and self._ahead.prepared is prepared

    def objection(self, prepared: PreparedMail) -> Outcome | None:
        """Return the refusal that this server announced for such a mail, or None."""
        if prepared.envelope.smtputf8 and "SMTPUTF8" not in self.features:
            return Outcome(OutcomeClass.REJECTED, reason="smtputf8_unsupported")
        if self._max_size is not None and prepared.size > self._max_size:
            return Outcome(OutcomeClass.REJECTED, reason="too_large")
        return None

    def transmit(self, prepared: PreparedMail, following: PreparedMail | None = None) -> Outcome:
        """Attempt one mail.

        Until the last byte of the final dot was handed to the network, whatever happens means: not sent. From then on
        only the server's answer can tell; without one the mail is uncertain (RFC 5321 section 6.1).

        Args:
            prepared: the mail; where the session `expects` one, that one.
            following: the mail to come next. Its envelope may travel behind this one's content; it is not sent before
                it is transmitted in its turn, and may also go elsewhere.

        Raises:
            StaleSession: this session had carried mails before and is over; a new one may carry this mail.
        """
        ahead, self._ahead = self._ahead, None
        self._in_mail = True
        until = monotonic() + self._timeout
        try:
            refused = self._offer(prepared, ahead, until)
            if refused is None:
                self._hand_over(prepared, following, until)
        except (OSError, ProtocolError) as error:
            self.close()
            if ahead is not None and not self._answered:
                self._pipelining.spare()
            if self._is_stale and not isinstance(error, TimeoutError):
                raise StaleSession("the server closed a kept session") from None
            return Outcome(OutcomeClass.TRANSIENT, reason=_loss(error))
        outcome = refused or self._answer(prepared)
        if self._copies:
            outcome = replace(outcome, copies=self._refused_copies(prepared))
        if self._torn:
            self.close()
        self._in_mail = False
        self.last_used = monotonic()
        return outcome

    def is_alive(self) -> bool:
        """Return whether the server still answers; asks with NOOP."""
        until = monotonic() + self._probe_timeout
        try:
            self._wire.write(b"NOOP\r\n", until)
            alive = self._wire.read_reply(until).ok
        except (OSError, ProtocolError):
            alive = False
        if not alive:
            self.close()
        return alive

    def quit(self) -> None:
        """Take leave and close. Never raises, never waits long."""
        if not self._open:
            return
        until = monotonic() + _QUIT_TIMEOUT
        try:
            self._wire.write(b"QUIT\r\n", until)
            self._wire.read_reply(until)
        except (OSError, ProtocolError):
            pass
        self.close()

    def close(self) -> None:
        """Close at once, without a word. Never raises."""
        self._open = False
        self._wire.close()

    @property
    def _is_stale(self) -> bool:
        return self.transactions > 1 and not self._answered

    def _offer(self, prepared: PreparedMail, ahead: _PipelinedEnvelope | None, until: float) -> Outcome | None:
        """Everything before the content; the outcome if the server refuses, None if it waits for the content."""
        self._answered = False
        self._copies.clear()
        if ahead is None:
            self.transactions += 1
            if self._wire.has_unread:
                raise ProtocolError("a reply to no command")
            refused = self._address(prepared, until)
        else:
            refused = self._read_ahead(ahead, until)
        if refused is not None and self.transactions > 1 and blames_the_session(*refused):
            refused = self._begin_again(prepared, refused[1], until)
        if refused is not None:
            return refusal(*refused, host=self._host)
        if self._wire.has_unread:
            # whatever it is, it would pass for the answer to the final dot
            raise ProtocolError("a reply to no command")
        return None

    def _begin_again(self, prepared: PreparedMail, reply: Reply, until: float) -> tuple[Stage, Reply] | None:
        """Begin a mail once more whose beginning was refused on account of the session: after RSET, else elsewhere.

        Raises:
            StaleSession: another session may carry it; nothing was sent.
        """
        if reply.code != AUTHENTICATION_NEEDED and self._open:
            self._answered = False
            refused = self._address(prepared, until)
            if refused is None or not blames_the_session(*refused):
                self._pipelining.learn_reset()
                return refused
            self._pipelining.learn_one_mail()
        self.close()
        raise StaleSession("the server begins no further mail in this session")

    def _refused_copies(self, prepared: PreparedMail) -> tuple[CopyRefusal, ...]:
        refused = []
        for place, reply in self._copies.items():
            index = prepared.copies[place] if place < len(prepared.copies) else -1
            if index >= 0 and reply.code >= 400:
                meaning = understand(Stage.RCPT, reply.code, None, reply.text, host=self._host)
                refused.append(CopyRefusal(index, reply.code, reply.enhanced, meaning))
        return tuple(refused)

    def _address(self, prepared: PreparedMail, until: float) -> tuple[Stage, Reply] | None:
        steps = addressed(prepared, self.features)
        if self._needs_reset or (self._pipelining.wants_reset and self.transactions > 1):
            steps.insert(0, RESET)
        self._needs_reset = True
        if self._pipelined and _may_end_with_data(steps):
            return self._run([*steps, DATA], until)
        return self._run(steps, until) or self._run([DATA], until)

    def _read_ahead(self, ahead: _PipelinedEnvelope, until: float) -> tuple[Stage, Reply] | None:
        """Return the refusal of an envelope sent ahead, or None. Send it again alone if pipelining may be at fault."""
        after_refusal, self._needs_reset = self._needs_reset, True
        refused = self._run(ahead.steps, until, said=True)
        if refused is None:
            return None if ahead.steps[-1] is DATA else self._run([DATA], until)
        stage, reply = refused
        if not (blames_the_dialogue(reply) or (after_refusal and stage is Stage.MAIL)):
            return refused
        if not self._open:
            self._answered = False
            raise ProtocolError("not the replies to this envelope")
        alone = self._address(ahead.prepared, until)
        if alone is None or alone[1].code != reply.code:
            self._pipelining.spare()
        return alone

    def _run(self, steps: list[Step], until: float, *, said: bool = False) -> tuple[Stage, Reply] | None:
        """Say all of it, in one flight where the server knows PIPELINING, and read every reply (RFC 2920).

        Returns:
            The reply that refuses the mail, and where it was given; None: the mail may go on.
        """
        if self._pipelined and not said:
            self._wire.write(b"".join([step.command for step in steps]), until)
        refused: tuple[Stage, Reply] | None = None
        for step in steps:
            try:
                if not self._pipelined:
                    self._wire.write(step.command, until)
                reply = self._read_reply(until)
            except (OSError, ProtocolError):
                if refused is None:
                    raise
                self.close()
                return refused
            refused = self._heed(step, reply, refused, until)
            if refused is not None and not (self._pipelined and self._open):
                return refused
        return refused

    def _heed(
        self, step: Step, reply: Reply, refused: tuple[Stage, Reply] | None, until: float
    ) -> tuple[Stage, Reply] | None:
        """Act on the reply to one step; returns what refuses the mail by then."""
        if step.stage is None and not reply.ok:
            self._answered = False  # says nothing about this mail, only that this session is of no more use
            raise ProtocolError("the transaction before cannot be left")
        accepted, closing = step.accepted_by(reply), reply.code == SERVICE_CLOSING
        if step.copy:
            self._note_copy(step.copy, accepted, reply)
        if refused is None and step.stage is not None and (closing or (step.vital and not accepted)):
            refused = step.stage, reply
        elif refused is not None and accepted and step.stage is Stage.DATA:
            self._end_unwanted_input(refused[0], until)
        if closing or (reply.code < 400 and not accepted):
            self.close()
        return refused

    def _note_copy(self, place: int, accepted: bool, reply: Reply) -> None:
        if accepted:
            self._copies.pop(place, None)
        else:
            self._copies[place] = reply

    def _read_reply(self, until: float) -> Reply:
        reply = self._wire.read_reply(until)
        if reply.code == SERVICE_CLOSING and self._is_stale:
            raise ConnectionResetError("the kept session has ended")
        self._answered = True
        return reply

    def _end_unwanted_input(self, refused_at: Stage, until: float) -> None:
        """End a DATA that the server accepted without a recipient (RFC 2920 section 3.1 lets it)."""
        if refused_at is not Stage.RCPT:
            self.close()  # it may hold a recipient, who would get an empty mail
            return
        try:
            self._wire.write(b".\r\n", until)
            self._wire.read_reply(until)
        except (OSError, ProtocolError):
            self.close()

    def _hand_over(self, prepared: PreparedMail, following: PreparedMail | None, until: float) -> None:
        """Write the content, and behind it the envelope of the mail that follows.

        Raises:
            OSError: the final dot was not written, so the mail was not sent.
        """
        ahead = None if following is None else self._envelope_ahead(following, prepared)
        envelope = b"" if ahead is None else b"".join([step.command for step in ahead.steps])
        try:
            self._wire.write(prepared.data + envelope if envelope else prepared.data, until)
        except OSError:
            if ahead is None or self._wire.unwritten > len(envelope):
                raise
            # the final dot is out, so only an answer can tell; what the envelope behind it is torn off from is over
            self._torn = True
        else:
            if ahead is not None:
                self.transactions += 1
                self._ahead = ahead

    def _envelope_ahead(self, following: PreparedMail, prepared: PreparedMail) -> _PipelinedEnvelope | None:
        if (
            not self._pipelined
            or not self._pipelining.allowed
            or self.transactions >= self._max_mails
            or len(prepared.data) > _MAX_JOINED
            or self.objection(following) is not None
        ):
            return None
        steps = addressed(following, self.features)
        return _PipelinedEnvelope(following, [*steps, DATA] if _may_end_with_data(steps) else steps)

    def _answer(self, prepared: PreparedMail) -> Outcome:
        """Return the server's word about a mail that was written completely."""
        try:
            reply = self._wire.read_reply(monotonic() + self._timeout)
        except (OSError, ProtocolError):
            self._leave()
            return Outcome(OutcomeClass.UNCERTAIN, prepared.message_id, "answer_lost")
        if reply.ok:
            self._needs_reset = False
            return Outcome(
                OutcomeClass.ACCEPTED, prepared.message_id, status=reply.code, enhanced_status=reply.enhanced
            )
        if reply.code < 400:
            self._leave()
            return Outcome(OutcomeClass.UNCERTAIN, prepared.message_id, "answer_lost", reply.code)
        if self._ahead is not None and blames_the_dialogue(reply):
            # not this mail is at fault but what came behind it: the next attempt goes without
            self._leave()
            return Outcome(OutcomeClass.TRANSIENT, reason=f"smtp_{reply.code}", status=reply.code)
        if reply.code == SERVICE_CLOSING:
            self.close()
        recipients = len(prepared.envelope.recipients) + len(prepared.envelope.optional)
        return refusal(Stage.DOT, reply, recipients=recipients, host=self._host)

    def _leave(self) -> None:
        """Close a session that has lost its thread; where an envelope rode, that may have been why."""
        if self._ahead is not None:
            self._pipelining.spare()
        self.close()


def _may_end_with_data(steps: list[Step]) -> bool:
    """Return whether DATA may be in flight with the envelope: with one recipient alone.

    Were it in flight while the main one is refused and another accepted, only dropping the connection could keep the
    mail from going.
    """
    return sum(step.stage is Stage.RCPT for step in steps) == 1


def _loss(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed_out"
    return "protocol_error" if isinstance(error, ProtocolError) else "connection_lost"
