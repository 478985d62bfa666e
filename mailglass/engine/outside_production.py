"""The guard of a batch outside production: it cuts mails to whom they may go to, and notes what it changed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from mailglass.ledger import leases
from mailglass.ledger.database import Runs
from mailglass.ledger.events import EngineEvent
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.recipients import NOT_ALLOWED_HERE, RecipientPolicy


class OutsideProduction:
    """Guard of one batch.

    Args:
        policy: who may get mail in this environment; None for everybody.
    """

    def __init__(self, policy: RecipientPolicy | None) -> None:
        self._policy = policy
        self._notes: dict[EngineEvent, list[tuple[UUID, datetime, str]]] = {}

    def restrict(self, mail: Outgoing) -> Outgoing | None:
        """Return a mail as far as it may go, or None if its recipient may not get mail here."""
        if self._policy is None:
            return mail
        restricted = self._policy.restrict(mail)
        for kind, changed in (
            (EngineEvent.REDIRECTED, restricted.redirected),
            (EngineEvent.LEFT_OUT, restricted.left_out),
        ):
            if changed:
                self._notes.setdefault(kind, []).append((mail.delivery_id, mail.created_at, NOT_ALLOWED_HERE))
        return restricted.mail

    def note(self, ledger: Runs, tenant: str, account: str) -> None:
        """Write down what was changed, before any of these mails is marked: if it cannot be written, none was sent.

        Args:
            ledger: runs a statement for each kind of change.
            tenant: whose deliveries.
            account: the account that is to send the mails.
        """
        for kind, notes in self._notes.items():
            leases.note(ledger, tenant, account, kind, notes)
