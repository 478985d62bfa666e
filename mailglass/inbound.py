"""The entry for mail that comes back: bounces, complaints, automatic replies."""

from __future__ import annotations

from mailglass.runtime import get_runtime
from mailglass.webhooks.returned_mail import store_returned_mail


def receive_bounce(account: str, raw: bytes, *, recipient: str = "") -> bool:
    """Store a mail that came back, and have it processed like a webhook.

    The mail goes into the ledger, and not into a task's arguments, which hold no content. Of a mail larger than one
    mebibyte only the beginning is stored, where a report's statements stand.

    Args:
        account: the SMTP account that had sent the original mail.
        raw: the mail as the mail server passes it.
        recipient: the envelope's recipient if the mail server knows it; otherwise the header's is used.

    Returns:
        Whether the mail is new. A mail that is stored already is not stored again.

    Raises:
        ConfigError: there is no such account, or it is no SMTP account.
        LedgerUnavailableError: the database cannot be reached; nothing is stored.
    """
    return store_returned_mail(get_runtime().ingress_context(), account, raw, recipient)
