"""Words that any receiver may use, in the order in which they count.

Greylisting and the wishes of the recipient's side come first, then what is said about the sender, then rates, then the
mailbox, then the mail. Texts in other languages than English are those of receivers that were met.
"""

from __future__ import annotations

from typing import Final

from mailglass.refusals.patterns.mail import MAIL
from mailglass.refusals.patterns.recipient import DOUBTS, GREYLISTING, MAILBOX, RECIPIENT_POLICY, REFUSED_ADDRESS
from mailglass.refusals.patterns.sender import RATES, SENDER

__all__ = ["DOUBTS", "ORDER"]

ORDER: Final = (*GREYLISTING, *RECIPIENT_POLICY, *SENDER, *RATES, *MAILBOX, *MAIL, *REFUSED_ADDRESS)
"""All of them; the first one that speaks tells the subject."""
