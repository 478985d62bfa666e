"""What comes back by mail: kept like a webhook, and understood later by the same task."""

from __future__ import annotations

import hashlib
import logging

from mailglass import telemetry
from mailglass.bounces.mail import read_mail
from mailglass.bounces.reports import MAX_READ
from mailglass.doorbell import WEBHOOKS
from mailglass.errors import ConfigError
from mailglass.ledger import webhooks
from mailglass.providers.registry import provider_class
from mailglass.providers.smtp.provider import CAME_TO, SMTPProvider
from mailglass.runtime import get_runtime
from mailglass.webhooks.applying import quoting_nothing

MAX_ADDRESS = 1000
# of a mail's body: the rest of a large one is cut off at another place when its header has grown on the way
_MAX_COMPARED = MAX_READ // 2


def receive_bounce(account: str, raw: bytes, *, recipient: str = "") -> bool:
    """Keep a mail that came back (a bounce, a complaint, an automatic reply) and have it understood.

    The mail goes into the ledger and not into a task's arguments, which hold no content. Of a mail larger than a
    mebibyte the rest is not kept: what a report says stands at its beginning.

    Args:
        account: the SMTP account that had sent the mail it is about.
        raw: the mail as the mail server hands it over.
        recipient: the envelope's recipient, where the mail server tells it; else it is looked for in the header.

    Returns:
        Whether it was new: one that was kept before is not kept again.

    Raises:
        ConfigError: no such account, or no SMTP account.
        LedgerUnavailableError: the database cannot be reached; nothing was kept.
    """
    runtime = get_runtime()
    settings = runtime.accounts.settings(account)
    provider = provider_class(settings.provider, f"accounts.{account}.provider")
    if not issubclass(provider, SMTPProvider):
        raise ConfigError(
            f"accounts.{account}.provider", "reports by webhook and not by mail", "Name an account of provider smtp"
        )
    headers = {CAME_TO: recipient} if recipient and len(recipient) <= MAX_ADDRESS and recipient.isprintable() else {}
    with quoting_nothing():
        new = webhooks.store(
            runtime.database, account, provider.name, _dedupe_key(raw), raw[:MAX_READ], headers,
            tenant=runtime.settings.accounts[account].tenant,
        )  # fmt: skip
    telemetry.emit(
        "mailglass.bounce.stored",
        account=account, provider=provider.name, size=len(raw), stored=int(new), duplicates=int(not new),
    )  # fmt: skip
    if new:
        _ring()
    return new


def _ring() -> None:
    try:
        get_runtime().doorbell.ring_task(WEBHOOKS)
    except Exception as error:
        # the mail is kept, and the pump rings for what is waiting
        telemetry.emit("mailglass.bounce.unrung", level=logging.WARNING, error_type=type(error).__name__)


def _dedupe_key(raw: bytes) -> str:
    """Of Message-ID and the beginning of the body: header lines that are added on the way make no other mail of it.

    Not of the Message-ID alone: some systems give all their reports the same one.
    """
    mail = read_mail(raw[:MAX_READ])
    identity = mail.first("message-id").encode("utf-8", "replace")
    return hashlib.sha256(identity + b"\x00" + mail.body[:_MAX_COMPARED]).hexdigest()
