"""The store of returned mail: bounces, complaints and automatic replies, processed later like webhooks."""

from __future__ import annotations

import hashlib

from mailglass.bounces.mail import read_mail
from mailglass.bounces.reports import MAX_READ
from mailglass.errors import ConfigError, LedgerError
from mailglass.ledger.webhooks import Arrival
from mailglass.providers.registry import provider_class
from mailglass.providers.smtp.provider import CAME_TO, SMTPProvider
from mailglass.webhooks.applying import retryable_ledger_errors
from mailglass.webhooks.ingress import IngressContext
from mailglass.webhooks.store import dedupe_key, store

MAX_ADDRESS = 1000
# bytes of the body that identify a mail: where a large one is cut depends on the length of its header, which may grow
# on the way
_MAX_COMPARED = MAX_READ // 2


def store_returned_mail(context: IngressContext, account: str, raw: bytes, recipient: str) -> bool:
    """Store a returned mail for the account that had sent the original.

    Args:
        context: the settings, the ledger, the accounts and the doorbell.
        account: an SMTP account.
        raw: the mail; what exceeds one mebibyte is not stored.
        recipient: the envelope's recipient, or "".

    Returns:
        Whether the mail is new.

    Raises:
        ConfigError: there is no such account, or it is no SMTP account.
        LedgerUnavailableError: the database cannot be reached; nothing is stored.
    """
    settings = context.accounts.settings(account)
    provider = provider_class(settings.provider, f"accounts.{account}.provider")
    if not issubclass(provider, SMTPProvider):
        raise ConfigError(
            f"accounts.{account}.provider", "reports by webhook and not by mail", "Name an account of provider smtp"
        )
    headers = {CAME_TO: recipient} if recipient and len(recipient) <= MAX_ADDRESS and recipient.isprintable() else {}
    key = dedupe_key(_identity(raw), raw, settings.tenant)
    arrival = Arrival(account, provider.name, key, raw[:MAX_READ], headers, settings.tenant)
    (result,) = store(context.database, [arrival], context.ring)
    if isinstance(result, LedgerError):
        with retryable_ledger_errors():
            raise result
    if isinstance(result, Exception):
        raise result
    return result


def _identity(raw: bytes) -> str:
    """Return a digest of the Message-ID and the beginning of the body, since servers on the way add header lines.

    The Message-ID alone does not identify a report: some systems give all their reports the same one.
    """
    mail = read_mail(raw[:MAX_READ])
    message_id = mail.first("message-id").encode("utf-8", "replace")
    return hashlib.sha256(message_id + b"\x00" + mail.body[:_MAX_COMPARED]).hexdigest()
