"""One SMTP session: one mail after the other, each with an outcome that is sure about what was sent and what not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mailglass.clock import monotonic
from mailglass.errors import MailglassError
from mailglass.providers.base import Outcome, OutcomeClass
from mailglass.providers.smtp.replies import SERVICE_CLOSING, START_INPUT, Reply, Stage, refusal
from mailglass.providers.smtp.wire import ProtocolError, Wire, as_data

_QUIT_PATIENCE: Final = 1.0


class StaleSession(MailglassError):
    """A kept session turned out to be over before it answered anything about this mail, which was not sent."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Whom a mail is from and for.

    Attributes:
        sender: the reverse path.
        recipients: the main recipient first; without it the mail does not go, without the others it does.
        smtputf8: whether an address or a header needs the extension (RFC 6531).
        id: what reports repeat as Original-Envelope-Id (RFC 3461 4.4), for servers that know DSN: letters, digits
            and dots.

    Raises:
        ValueError: an address would break out of its command line.
    """

    sender: str = field(repr=False)
    recipients: tuple[str, ...] = field(repr=False)
    smtputf8: bool = False
    id: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not all(address.isprintable() for address in (self.sender, *self.recipients)):
            raise ValueError("an address with control characters")


@dataclass(frozen=True, slots=True)
class Features:
    """What a server said it can, in its answer to EHLO.

    Attributes:
        words: every keyword in upper case, with its parameters.
    """

    words: dict[str, str]

    @classmethod
    def parse(cls, reply: Reply) -> Features:
        """The features in the lines after the first (RFC 5321 4.1.1.1)."""
        words: dict[str, str] = {}
        for line in reply.lines[1:]:
            # "AUTH=LOGIN" is what servers wrote for clients older than RFC 4954
            keyword, _, parameters = line.strip().replace("AUTH=", "AUTH ", 1).partition(" ")
            known = words.get(keyword.upper())
            words[keyword.upper()] = f"{known} {parameters}" if known else parameters
        return cls(words)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.words

    @property
    def max_size(self) -> int | None:
        """Bytes that the server takes at most (RFC 1870), where it says so."""
        size = self.words.get("SIZE", "").strip()
        return int(size) if size.isascii() and size.isdigit() and int(size) > 0 else None

    @property
    def mechanisms(self) -> frozenset[str]:
        """The names of the AUTH mechanisms on offer."""
        return frozenset(self.words.get("AUTH", "").upper().split())


@dataclass(frozen=True, slots=True)
class _Step:
    """One command and whether its refusal settles the mail."""

    stage: Stage
    command: bytes = field(repr=False)
    vital: bool = True

    def accepted_by(self, reply: Reply) -> bool:
        return reply.code == START_INPUT if self.stage is Stage.DATA else reply.ok


class Session:
    """A greeted, secured and authenticated connection. For one thread at a time.

    Args:
        wire: the connection.
        features: what the server offers.
        timeout: seconds for one mail up to its final dot, and again for the answer to it.
        probe_timeout: seconds for the answer to NOOP.

    Attributes:
        transactions: mails begun on this session.
        last_used: on `mailglass.clock.monotonic()`.
    """

    def __init__(self, wire: Wire, features: Features, timeout: float, probe_timeout: float) -> None:
        self.features = features
        self.transactions = 0
        self.last_used = monotonic()
        self._wire = wire
        self._timeout = timeout
        self._probe_timeout = probe_timeout
        self._open = True
        self._in_mail = False
        self._needs_reset = False
        self._answered = False

    @property
    def usable(self) -> bool:
        """Whether the next mail may go here. A mail that an exception tore off in the middle forbids it."""
        return self._open and not self._in_mail

    def objection(self, envelope: Envelope, size: int) -> Outcome | None:
        """Why this server cannot take the mail, known before it is asked; None when nothing speaks against it.

        Args:
            size: of the message, in bytes.
        """
        if envelope.smtputf8 and "SMTPUTF8" not in self.features:
            return Outcome(OutcomeClass.REJECTED, reason="smtputf8_unsupported")
        if self.features.max_size is not None and size > self.features.max_size:
            return Outcome(OutcomeClass.REJECTED, reason="too_large")
        return None

    def transmit(self, envelope: Envelope, message: bytes) -> Outcome:
        """Attempt one mail.

        Until the last byte of the final dot was handed to the network, whatever happens means: not sent. From then on
        only the server's answer can tell; without one the mail is uncertain (RFC 5321 section 6.1).

        Args:
            envelope: its addresses.
            message: header and body, at any length.

        Raises:
            StaleSession: this session had carried mails before and is over; a new one may carry this mail.
        """
        self._in_mail = True
        until = monotonic() + self._timeout
        try:
            refused = self._offer(envelope, message, until)
            if refused is None:
                self._wire.write(as_data(message), until)
        except (OSError, ProtocolError) as error:
            self.close()
            if self._is_stale and not isinstance(error, TimeoutError):
                raise StaleSession("the server closed a kept session") from None
            return Outcome(OutcomeClass.TRANSIENT, reason=_loss(error))
        outcome = refused or self._answer(len(envelope.recipients))
        self._in_mail = False
        self.last_used = monotonic()
        return outcome

    def is_alive(self) -> bool:
        """Whether the server still answers; asks with NOOP."""
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
        until = monotonic() + _QUIT_PATIENCE
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

    def _offer(self, envelope: Envelope, message: bytes, until: float) -> Outcome | None:
        """Everything before the content; the outcome if the server refuses, None if it waits for the content."""
        self.transactions += 1
        self._answered = False
        if self._wire.has_unread:
            raise ProtocolError("a reply to no command")
        steps = self._envelope_steps(envelope, message)
        data = _Step(Stage.DATA, b"DATA\r\n")
        self._needs_reset = True
        # With several recipients DATA waits: were it in flight while the main one is refused and another accepted,
        # only dropping the connection could keep the mail from going.
        if "PIPELINING" in self.features and len(envelope.recipients) == 1:
            refused = self._run([*steps, data], until)
        else:
            refused = self._run(steps, until) or self._run([data], until)
        if refused is None and self._wire.has_unread:
            # whatever it is, it would pass for the answer to the final dot
            raise ProtocolError("a reply to no command")
        return refused

    def _envelope_steps(self, envelope: Envelope, message: bytes) -> list[_Step]:
        parameters = f" SIZE={len(message)}" if "SIZE" in self.features else ""
        if "8BITMIME" in self.features and not message.isascii():
            parameters += " BODY=8BITMIME"
        if envelope.smtputf8:
            parameters += " SMTPUTF8"
        if envelope.id is not None and "DSN" in self.features:
            parameters += f" ENVID={envelope.id}"
        steps = [_Step(Stage.RESET, b"RSET\r\n")] if self._needs_reset else []
        steps.append(_Step(Stage.MAIL, _command("MAIL FROM", envelope.sender, parameters)))
        for index, recipient in enumerate(envelope.recipients):
            steps.append(_Step(Stage.RCPT, _command("RCPT TO", recipient), vital=index == 0))
        return steps

    def _run(self, steps: list[_Step], until: float) -> Outcome | None:
        """Say all of it, in one flight where the server knows PIPELINING, and read every reply (RFC 2920)."""
        pipelined = "PIPELINING" in self.features
        if pipelined:
            self._wire.write(b"".join(step.command for step in steps), until)
        refused: Outcome | None = None
        refused_at: Stage | None = None
        for step in steps:
            try:
                if not pipelined:
                    self._wire.write(step.command, until)
                reply = self._read_reply(until)
            except (OSError, ProtocolError):
                if refused is None:
                    raise
                self.close()
                return refused
            if step.stage is Stage.RESET and not reply.ok:
                self._answered = False  # says nothing about this mail, only that this session is of no more use
                raise ProtocolError("the transaction before cannot be left")
            accepted, closing = step.accepted_by(reply), reply.code == SERVICE_CLOSING
            if refused is None and (closing or (step.vital and not accepted)):
                refused, refused_at = refusal(step.stage, reply), step.stage
            elif refused is not None and accepted and step.stage is Stage.DATA:
                self._end_unwanted_input(refused_at, until)
            if closing or (reply.code < 400 and not accepted):
                self.close()
            if refused is not None and not (pipelined and self._open):
                return refused
        return refused

    def _read_reply(self, until: float) -> Reply:
        reply = self._wire.read_reply(until)
        if reply.code == SERVICE_CLOSING and self._is_stale:
            raise ConnectionResetError("the kept session has ended")
        self._answered = True
        return reply

    def _end_unwanted_input(self, refused_at: Stage | None, until: float) -> None:
        """The server asks for content although it refused what that needs (RFC 2920 section 3.1 lets it)."""
        if refused_at is not Stage.RCPT:
            self.close()  # it may hold a recipient, who would get an empty mail
            return
        try:
            self._wire.write(b".\r\n", until)
            self._wire.read_reply(until)
        except (OSError, ProtocolError):
            self.close()

    def _answer(self, recipients: int) -> Outcome:
        """The server's word about a mail that was written completely."""
        try:
            reply = self._wire.read_reply(monotonic() + self._timeout)
        except (OSError, ProtocolError):
            self.close()
            return Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
        if reply.ok:
            self._needs_reset = False
            return Outcome(OutcomeClass.ACCEPTED, status=reply.code, enhanced_status=reply.enhanced)
        if reply.code < 400:
            self.close()
            return Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost", status=reply.code)
        if reply.code == SERVICE_CLOSING:
            self.close()
        return refusal(Stage.DOT, reply, recipients=recipients)


def _command(verb: str, address: str, parameters: str = "") -> bytes:
    return f"{verb}:<{address}>{parameters}\r\n".encode()


def _loss(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed_out"
    return "protocol_error" if isinstance(error, ProtocolError) else "connection_lost"
