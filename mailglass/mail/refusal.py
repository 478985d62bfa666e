"""Words for what a refusal means, and the value that carries them. Holds no address and no content."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """Stage of the dialogue at which a refusal came; the same code means different things at different stages."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"
    REPORT = "report"
    PROVIDER_EVENT = "provider_event"
    API = "api"


class About(StrEnum):
    """The subject of a refusal."""

    RECIPIENT_UNKNOWN = "recipient_unknown"
    RECIPIENT_DISABLED = "recipient_disabled"
    MAILBOX_FULL = "mailbox_full"
    RECIPIENT_RATE = "recipient_rate"
    RECIPIENT_POLICY = "recipient_policy"
    SENDER_AUTHENTICATION = "sender_authentication"
    SENDER_REPUTATION = "sender_reputation"
    SENDER_ACCOUNT = "sender_account"
    SENDER_RATE = "sender_rate"
    CONTENT = "content"
    SIZE = "size"
    PROTOCOL = "protocol"
    INFRASTRUCTURE = "infrastructure"
    GREYLISTING = "greylisting"
    UNKNOWN = "unknown"


class Lasting(StrEnum):
    """Duration of a refusal: until somebody changes something, for a while, or nobody can tell."""

    PERMANENT = "permanent"
    TEMPORARY = "temporary"
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """Reach of a refusal beyond the mail that met it."""

    MAIL = "mail"
    MAILBOX = "mailbox"
    SESSION = "session"
    CONNECTIONS = "connections"
    DESTINATION = "destination"
    SENDER = "sender"
    ACCOUNT = "account"


class Certainty(StrEnum):
    """Certainty that a refusal is about the very recipient of the mail."""

    NONE = "none"
    DOUBTFUL = "doubtful"
    CERTAIN = "certain"


class Part(StrEnum):
    """A part of a refusal that was understood: the receiver's published meaning, or one of what was said."""

    RECEIVER = "receiver"
    TEXT = "text"
    LABEL = "label"
    ENHANCED = "enhanced"
    REPLY = "reply"
    STAGE = "stage"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The meaning of one refusal.

    Attributes:
        about: its subject.
        lasting: how long it holds.
        scope: what else meets the same.
        stage: where it was heard.
        spoke: the parts that say so, the strongest first.
        deferred: the receiver asked to be tried again: a 4yz reply, or a deferral.
        used_up: of `sender_rate`: an allowance for an hour or longer, so that waiting a moment does not help.
        certainty: how surely it is about the recipient. Only what is about the recipient may suppress.
        receiver: the family of receivers that spoke, such as `gmail`; None where it cannot be told.
        listed: the provider itself mails the recipient no more: they stand on its own suppression list.
        unsettled: of a provider's answer: it does not tell whether the mail was taken.
    """

    about: About
    lasting: Lasting
    scope: Scope = Scope.MAIL
    stage: Stage = Stage.PROVIDER_EVENT
    spoke: tuple[Part, ...] = ()
    deferred: bool = False
    used_up: bool = False
    certainty: Certainty = Certainty.NONE
    receiver: str | None = None
    listed: bool = False
    unsettled: bool = False

    @property
    def of_the_recipient(self) -> bool:
        """True if it is about the recipient alone, whoever sends whatever."""
        return self.about.startswith("recipient_")

    @property
    def code(self) -> str:
        """The value as the ledger keeps it: subject, lasting, receiver, and what else matters for the next attempt.

        For example `mailbox_full/temporary/gmail`, `sender_rate/temporary//used_up`, `protocol/permanent//account`.
        """
        unusual = self.scope is Scope.ACCOUNT and not self.about.startswith("sender_")
        marks = (("used_up", self.used_up), ("listed", self.listed), ("account", unusual))
        mark = next((name for name, holds in marks if holds), "")
        parts = (self.about, self.lasting, self.receiver or "", mark)
        return "/".join(parts).rstrip("/")
