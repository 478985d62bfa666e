"""Enhanced status codes and reply codes: what the standards, and receivers' own numbers, make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mailglass.mail.refusal import About, Lasting, Scope

_P, _T, _U = Lasting.PERMANENT, Lasting.TEMPORARY, Lasting.UNKNOWN


@dataclass(frozen=True, slots=True)
class Code:
    """The meaning of a code.

    Attributes:
        about: its subject.
        lasting: None where the class, or the reply code's first digit, tells.
        scope: None for the subject's usual one.
        used_up: it names an allowance for an hour or longer.
        doubtful: of the recipient: only the second one within weeks counts.
        proves: whether it may prove something about the recipient.
    """

    about: About
    lasting: Lasting | None = None
    scope: Scope | None = None
    used_up: bool = False
    doubtful: bool = False
    proves: bool = True


_UNKNOWN: Final = Code(About.UNKNOWN)
_RECIPIENT: Final = Code(About.RECIPIENT_UNKNOWN)
_DISABLED: Final = Code(About.RECIPIENT_DISABLED)
_POLICY: Final = Code(About.RECIPIENT_POLICY)
_AUTHENTICATION: Final = Code(About.SENDER_AUTHENTICATION)
_REPUTATION: Final = Code(About.SENDER_REPUTATION)
_ACCOUNT: Final = Code(About.SENDER_ACCOUNT)
_SENDER: Final = Code(About.SENDER_ACCOUNT, scope=Scope.SENDER)
_RATE: Final = Code(About.SENDER_RATE, _T)
_CONTENT: Final = Code(About.CONTENT)
_SIZE: Final = Code(About.SIZE)
_PROTOCOL: Final = Code(About.PROTOCOL)
_INFRASTRUCTURE: Final = Code(About.INFRASTRUCTURE)

STANDARD: Final[dict[str, Code]] = {
    # RFC 3463 3.1 to 3.2; 1.0 is said of senders too
    **dict.fromkeys(("0.0", "1.0", "1.9", "2.0", "5.0", "7.0", "7.1"), _UNKNOWN),
    **dict.fromkeys(("1.1", "1.2", "1.3"), _RECIPIENT),
    "1.4": Code(About.RECIPIENT_UNKNOWN, _U, proves=False),  # their directory is at fault
    "1.6": _DISABLED,
    "1.7": _SENDER,
    "1.8": _SENDER,
    "1.10": _RECIPIENT,  # RFC 7505; Exchange: recipient not found
    "2.1": _DISABLED,
    "2.2": Code(About.MAILBOX_FULL, _T),
    "2.3": _SIZE,
    "2.4": _INFRASTRUCTURE,
    # RFC 3463 3.4 to 3.6
    "3.0": _INFRASTRUCTURE,
    "3.1": Code(About.INFRASTRUCTURE, _T),
    "3.2": Code(About.INFRASTRUCTURE, scope=Scope.DESTINATION),
    "3.3": _PROTOCOL,
    "3.4": _SIZE,
    "3.5": _INFRASTRUCTURE,
    **dict.fromkeys(("4.0", "4.4"), _INFRASTRUCTURE),
    **dict.fromkeys(("4.1", "4.2", "4.3", "4.5"), Code(About.INFRASTRUCTURE, scope=Scope.DESTINATION)),
    "4.6": _INFRASTRUCTURE,
    "4.7": _INFRASTRUCTURE,
    **dict.fromkeys(("5.1", "5.2", "5.4", "5.5", "5.6"), _PROTOCOL),
    "5.3": Code(About.PROTOCOL, scope=Scope.SESSION),
    # RFC 3463 3.7
    **dict.fromkeys(("6.0", "6.1", "6.2", "6.3", "6.4", "6.5", "6.6"), _CONTENT),
    **dict.fromkeys(("6.7", "6.8", "6.9", "6.10"), _PROTOCOL),  # RFC 6531
    # RFC 3463 3.8, RFC 4954, RFC 5248
    "7.2": _POLICY,
    **dict.fromkeys(("7.3", "7.4", "7.5", "7.6", "7.7"), _CONTENT),
    **dict.fromkeys(("7.8", "7.9", "7.10", "7.11", "7.12", "7.13", "7.14"), _ACCOUNT),
    "7.15": _PROTOCOL,  # RFC 6710
    "7.16": _SIZE,
    **dict.fromkeys(("7.17", "7.18"), _DISABLED),  # RFC 7293
    "7.19": _PROTOCOL,
    **dict.fromkeys(  # RFC 7372, RFC 8617
        ("7.20", "7.21", "7.22", "7.23", "7.24", "7.26", "7.29"), _AUTHENTICATION
    ),
    "7.25": Code(About.SENDER_AUTHENTICATION, scope=Scope.ACCOUNT),  # reverse DNS of the address that sends
    "7.27": _SENDER,  # RFC 7505
    "7.28": Code(About.SENDER_RATE),
    "7.30": _PROTOCOL,  # RFC 8689
}
"""By subject and detail (`1.1` of `5.1.1`), as IANA registers them."""

PRIVATE: Final[dict[str, Code]] = {
    # Microsoft, "Email non-delivery reports and SMTP errors in Exchange Online"
    "1.20": _CONTENT,
    "1.90": Code(About.SENDER_RATE, _T, Scope.ACCOUNT, used_up=True),
    "1.351": Code(About.RECIPIENT_UNKNOWN, _U),
    "2.121": Code(About.RECIPIENT_RATE, _T),
    "2.122": Code(About.RECIPIENT_RATE, _T),
    "2.252": _SENDER,
    "3.190": _POLICY,
    "4.14": _INFRASTRUCTURE,
    "4.300": _INFRASTRUCTURE,
    "4.310": Code(About.RECIPIENT_UNKNOWN, doubtful=True),
    **dict.fromkeys(("4.312", "4.313", "4.316", "4.317", "4.318"), _INFRASTRUCTURE),
    "6.11": _CONTENT,
    **dict.fromkeys(("7.124", "7.133", "7.134", "7.135", "7.136", "7.193"), _POLICY),
    **dict.fromkeys(("7.57", "7.64"), _ACCOUNT),
    "7.60": _SENDER,
    **dict.fromkeys(("7.321", "7.322", "7.323", "7.324", "7.325"), Code(About.INFRASTRUCTURE, scope=Scope.DESTINATION)),
    **dict.fromkeys(("7.501", "7.502", "7.503", "7.705", "7.750"), _ACCOUNT),
    **dict.fromkeys(("7.504", "7.505"), _RECIPIENT),
    "7.506": Code(About.PROTOCOL, scope=Scope.ACCOUNT),
    **dict.fromkeys(("7.507", "7.513", "7.703"), _POLICY),
    "7.508": Code(About.SENDER_RATE, _T),
    **dict.fromkeys(("7.509", "7.515"), _AUTHENTICATION),
    "7.510": Code(About.PROTOCOL, scope=Scope.SESSION),
    "7.511": Code(About.SENDER_REPUTATION, _P),
    "7.512": _CONTENT,
    "7.708": Code(About.SENDER_ACCOUNT, _U),
    # Google, "Gmail SMTP errors and codes"
    **dict.fromkeys(("7.31", "7.32", "7.40"), _AUTHENTICATION),
    **dict.fromkeys(("7.80", "7.90"), _ACCOUNT),
}
"""Numbers that are not registered, each used by one receiver."""


def _in_range(detail: str) -> Code | None:
    """Return the meaning of Microsoft's numbers that stand for a range."""
    subject, _, number = detail.partition(".")
    if subject != "7":
        return None
    number_ = int(number)
    if number_ in (650, 651) or 850 <= number_ <= 899:
        return _REPUTATION
    if 606 <= number_ <= 649:
        return Code(About.SENDER_REPUTATION, _P)
    if 516 <= number_ <= 699:
        return _RATE
    return _POLICY if 900 <= number_ <= 999 else None


def meaning(level: str, detail: str) -> Code | None:
    """Return what an enhanced status code means; None for one that nobody published.

    Args:
        level: its class, `4` or `5`.
        detail: its subject and detail, such as `1.1`.
    """
    if level == "4" and detail.startswith("7.") and 500 <= int(detail[2:]) <= 515:
        return _RATE
    if detail == "7.28" and level == "5":
        return Code(About.SENDER_REPUTATION, _U)
    return STANDARD.get(detail) or PRIVATE.get(detail) or _in_range(detail)


REPLIES: Final[dict[int, Code]] = {
    # RFC 5321 4.2.4: the command, not the mail
    **dict.fromkeys((500, 501, 502, 503, 504, 455, 555), _PROTOCOL),
    421: Code(About.INFRASTRUCTURE, scope=Scope.DESTINATION),
    432: Code(About.RECIPIENT_RATE, _T),
    452: Code(About.INFRASTRUCTURE, _T),
    454: Code(About.INFRASTRUCTURE, _T),
    521: Code(About.INFRASTRUCTURE, scope=Scope.DESTINATION),  # RFC 7504
    **dict.fromkeys((523, 524, 525, 530, 534, 535, 538), _ACCOUNT),  # RFC 4954 6, RFC 5248
    551: Code(About.RECIPIENT_UNKNOWN, _U, proves=False),
    552: Code(About.MAILBOX_FULL, _T),
    556: _RECIPIENT,  # RFC 7504, RFC 7505
}
"""Reply codes that say more than their first digit. 450, 451, 550, 553 and 554 may mean anything."""

NEUTRAL: Final = frozenset({"0.0", "1.0", "2.0", "3.0", "5.0", "7.0", "7.1"})
"""Details that contradict nothing: receivers put any text beside them."""
