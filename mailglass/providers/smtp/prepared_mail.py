"""Prepared form of one mail: its envelope as commands, as far as the server's features go, and its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mailglass.mail.refusal import Stage
from mailglass.providers.smtp.replies import START_INPUT, Reply
from mailglass.providers.smtp.wire import as_data


@dataclass(frozen=True, slots=True)
class Features:
    """Extensions that a server named in its answer to EHLO.

    Attributes:
        words: every keyword in upper case, with its parameters.
    """

    words: dict[str, str]

    @classmethod
    def parse(cls, reply: Reply) -> Features:
        """Return the features in the lines after the first (RFC 5321 4.1.1.1)."""
        words: dict[str, str] = {}
        for line in reply.lines[1:]:
            # "AUTH=LOGIN" is what servers wrote for clients older than RFC 4954
            keyword, _, parameters = line.strip().replace("AUTH=", "AUTH ", 1).partition(" ")
            known = words.get(keyword.upper())
            words[keyword.upper()] = f"{known} {parameters}" if known else parameters
        return cls(words)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.words

    def without(self, keyword: str) -> Features:
        """Return the same but for one of them."""
        return Features({word: parameters for word, parameters in self.words.items() if word != keyword})

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
class Envelope:
    """Whom a mail is from and for.

    Attributes:
        sender: the reverse path.
        recipients: the main recipient first; without it the mail does not go, without the others it does.
        smtputf8: whether an address or a header needs the extension (RFC 6531).
        id: what reports repeat as Original-Envelope-Id (RFC 3461 4.4), for servers that know DSN: letters, digits
            and dots.
        optional: blind copies that need SMTPUTF8; they are left out where the server lacks it.

    Raises:
        ValueError: an address would break out of its command line.
    """

    sender: str = field(repr=False)
    recipients: tuple[str, ...] = field(repr=False)
    smtputf8: bool = False
    id: str | None = field(default=None, repr=False)
    optional: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not all(address.isprintable() for address in (self.sender, *self.recipients, *self.optional)):
            raise ValueError("an address with control characters")


@dataclass(frozen=True, slots=True)
class PreparedMail:
    """One mail, ready to be said.

    Attributes:
        message_id: without its brackets; the provider's id of the mail.
        size: of the message in bytes, as SIZE counts (RFC 1870).
        ascii: whether it is 7bit.
        copies: of each recipient of the envelope, the optional ones last, its place among the mail's copies, or -1.
        data: the message as it follows DATA.
    """

    envelope: Envelope
    message_id: str
    size: int
    ascii: bool
    data: bytes = field(repr=False)
    copies: tuple[int, ...] = ()

    @classmethod
    def of(cls, envelope: Envelope, message_id: str, message: bytes, copies: tuple[int, ...] = ()) -> PreparedMail:
        """Return the prepared form of a complete message."""
        return cls(envelope, message_id, len(message), message.isascii(), as_data(message), copies)


@dataclass(frozen=True, slots=True)
class Step:
    """One command and whether its refusal settles the mail.

    Attributes:
        stage: None for RSET, which belongs to no mail.
        copy: of RCPT: which of the envelope's recipients it names; 0 is the mail's own.
    """

    stage: Stage | None
    command: bytes = field(repr=False)
    vital: bool = True
    copy: int = 0

    def accepted_by(self, reply: Reply) -> bool:
        """Return whether the mail goes on with this reply."""
        return reply.code == START_INPUT if self.stage is Stage.DATA else reply.ok


RESET: Final = Step(None, b"RSET\r\n")
DATA: Final = Step(Stage.DATA, b"DATA\r\n")


def addressed(prepared: PreparedMail, features: Features) -> list[Step]:
    """MAIL and RCPT for a server with these features."""
    envelope = prepared.envelope
    recipients, smtputf8 = envelope.recipients, envelope.smtputf8
    if envelope.optional and "SMTPUTF8" in features:
        recipients, smtputf8 = (*recipients, *envelope.optional), True
    parameters = f" SIZE={prepared.size}" if "SIZE" in features else ""
    if "8BITMIME" in features and not prepared.ascii:
        parameters += " BODY=8BITMIME"
    if smtputf8:
        parameters += " SMTPUTF8"
    if envelope.id is not None and "DSN" in features:
        parameters += f" ENVID={envelope.id}"
    steps = [Step(Stage.MAIL, f"MAIL FROM:<{envelope.sender}>{parameters}\r\n".encode())]
    for index, recipient in enumerate(recipients):
        steps.append(Step(Stage.RCPT, f"RCPT TO:<{recipient}>\r\n".encode(), vital=index == 0, copy=index))
    return steps
