"""Providers' own labels of bounces and rejections: what each of them says by itself.

Where a receiver refused, its text outranks the label, and the label outranks the code. A label decides alone only what
the provider itself did.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from mailglass.mail.refusal import About, Lasting


class Weight(Enum):
    """Effect of a label on a reading that would suppress the recipient."""

    SUPPORTS = "supports"  # proves it where neither text nor code contradicts
    LEAVES = "leaves"  # text and code decide
    DISABLED = "disabled"  # only a text that says that the mailbox is disabled decides
    DOUBTS = "doubts"  # only the second one within weeks counts
    FORBIDS = "forbids"  # the provider itself goes on mailing the address


@dataclass(frozen=True, slots=True)
class Label:
    """The meaning of a label.

    Attributes:
        about: its subject.
        lasting: how long it holds.
        weight: what it does to a reading that would suppress.
    """

    about: About
    lasting: Lasting
    weight: Weight = Weight.FORBIDS

    @property
    def mirrors(self) -> bool:
        """True if the provider itself mails the address no more, which counts where nobody tells why."""
        return self.about is About.UNKNOWN and self.lasting is Lasting.PERMANENT and self.weight is Weight.LEAVES


_P, _T, _U = Lasting.PERMANENT, Lasting.TEMPORARY, Lasting.UNKNOWN
_A = About
_GONE: Final = Label(_A.RECIPIENT_UNKNOWN, _P, Weight.SUPPORTS)
_DISABLED: Final = Label(_A.RECIPIENT_DISABLED, _P, Weight.SUPPORTS)
_DOUBTED: Final = Label(_A.RECIPIENT_UNKNOWN, _U, Weight.DOUBTS)
_PERMANENT: Final = Label(_A.UNKNOWN, _P, Weight.LEAVES)
_OPEN: Final = Label(_A.UNKNOWN, _U, Weight.LEAVES)
_SOFT: Final = Label(_A.UNKNOWN, _T, Weight.DISABLED)
_PASSING: Final = Label(_A.UNKNOWN, _T)
_FULL: Final = Label(_A.MAILBOX_FULL, _T)
_SIZE: Final = Label(_A.SIZE, _P)
_CONTENT: Final = Label(_A.CONTENT, _P)
_REPUTATION: Final = Label(_A.SENDER_REPUTATION, _U)
_INFRASTRUCTURE: Final = Label(_A.INFRASTRUCTURE, _U)
_PASSING_INFRASTRUCTURE: Final = Label(_A.INFRASTRUCTURE, _T)
_ACCOUNT: Final = Label(_A.SENDER_ACCOUNT, _P)

_SES: Final[dict[str, Label]] = {
    # Amazon SES, notification contents
    "permanent/noemail": _GONE,
    "permanent/general": _PERMANENT,
    "permanent": _PERMANENT,
    "permanent/suppressed": _DOUBTED,  # bounced for other senders
    "permanent/contentrejected": _CONTENT,
    "permanent/attachmentrejected": _CONTENT,
    "permanent/messagetoolarge": _SIZE,
    "permanent/mailboxfull": _FULL,
    "transient/general": _PASSING,
    "transient": _PASSING,
    "transient/mailboxfull": _FULL,
    "transient/messagetoolarge": _SIZE,
    "transient/contentrejected": _CONTENT,
    "transient/attachmentrejected": _CONTENT,
    "undetermined": Label(_A.UNKNOWN, _U),
}

LABELS: Final[dict[str, dict[str, Label]]] = {
    "ses": _SES,
    # "Email Bounces": SES's words, but NoEmail says that no address could be read from the bounce
    "resend": _SES | {"permanent/noemail": _PERMANENT},
    "sendgrid": {
        # Event webhook reference; bounce classifications
        "bounce": _PERMANENT,
        "bounce/invalid address": _GONE,
        "bounce/mailbox unavailable": _SOFT,
        "bounce/reputation": _REPUTATION,
        "bounce/frequency or volume too high": Label(_A.SENDER_RATE, _T),
        "bounce/content": _CONTENT,
        "bounce/technical": _INFRASTRUCTURE,
        "bounce/technical failure": _INFRASTRUCTURE,
        "blocked": _PASSING,
        "blocked/reputation": _REPUTATION,
        "blocked/content": _CONTENT,
        "blocked/frequency or volume too high": Label(_A.SENDER_RATE, _T),
        "blocked/technical": _INFRASTRUCTURE,
        "blocked/technical failure": _INFRASTRUCTURE,
    },
    "postmark": {
        # Bounce API, bounce types; support articles 1065 and 1156
        "hardbounce": _GONE,
        "bademailaddress": _GONE,
        "softbounce": _SOFT,
        "transient": _PASSING_INFRASTRUCTURE,
        "undeliverable": _PASSING_INFRASTRUCTURE,
        "dnserror": _PASSING_INFRASTRUCTURE,
        "spamnotification": _CONTENT,
        "blocked": _REPUTATION,
        "dmarcpolicy": Label(_A.SENDER_AUTHENTICATION, _P),
        "virusnotification": _CONTENT,
        "smtpapierror": _CONTENT,
        "templaterenderingfailed": _CONTENT,
        "unknown": Label(_A.UNKNOWN, _U),
    },
    "mailgun": {
        # Events reference
        "permanent/bounce": _PERMANENT,
        "permanent/old": _PASSING,  # gave up on deferrals
        "permanent/generic": _PASSING,
        "permanent/espblock": _REPUTATION,
        "permanent": _OPEN,
        "temporary": _PASSING,
        "temporary/greylisted": Label(_A.GREYLISTING, _T),
    },
    "sparkpost": {
        # Bounce classification codes
        "1": Label(_A.UNKNOWN, _U),
        "10": _GONE,
        "20": _PASSING,
        "21": _PASSING_INFRASTRUCTURE,
        "22": _FULL,
        "23": _SIZE,
        "24": _PASSING_INFRASTRUCTURE,
        "25": _PASSING,
        "30": Label(_A.UNKNOWN, _U),
        "40": _PASSING,
        "50": _REPUTATION,
        "51": _REPUTATION,
        "52": _CONTENT,
        "53": _CONTENT,
        "54": _INFRASTRUCTURE,
        "70": _PASSING,
    },
    "brevo": {
        # "What is a bounce"; hard bounces include servers that block
        "hard_bounce": _PERMANENT,
        "soft_bounce": _PASSING,
        "invalid_email": _DOUBTED,
        "error": _INFRASTRUCTURE,
        "deferred": _PASSING,
    },
    "mailjet": {
        # Event API, error table
        "user unknown": _GONE,
        "mailbox inactive": _DISABLED,
        "quota exceeded": _FULL,
        "invalid domain": _DOUBTED,
        "no mail host": _DOUBTED,
        "typofix": _GONE,
        "relay/access denied": _INFRASTRUCTURE,
        "greylisted": Label(_A.GREYLISTING, _T),
        "sender blocked": _REPUTATION,
        "content blocked": _CONTENT,
        "policy issue": _PASSING,
        "system issue": _PASSING_INFRASTRUCTURE,
        "protocol issue": Label(_A.PROTOCOL, _T),
        "connection issue": _PASSING_INFRASTRUCTURE,
        "preblocked": _DOUBTED,  # bounced for another customer
        "hard": _PERMANENT,
        "soft": _PASSING,
    },
    "mandrill": {
        # Webhook format, bounce descriptions
        "hard_bounce/bad_mailbox": _GONE,
        "hard_bounce/invalid_domain": _GONE,
        "hard_bounce/mailbox_full": _FULL,
        "hard_bounce": _PERMANENT,
        "soft_bounce/mailbox_full": _FULL,
        "soft_bounce": _SOFT,
        "deferral": _PASSING,
    },
}
"""By provider and by label in lower case; the most exact of `a/b` and `a` counts."""


# a word that nobody knows proves nothing
_NEW: Final = Label(_A.UNKNOWN, _U)


def label_of(provider: str, label: str) -> Label:
    """Return the meaning of a provider's label.

    Args:
        provider: its name in settings.
        label: in the provider's words; `a/b` where it says two things.
    """
    table = LABELS.get(provider, {})
    key = label.lower()
    return table.get(key) or table.get(key.partition("/")[0]) or _NEW
