"""Mailbox: the real path of a mail in a test, from its record to its webhooks, with a provider in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy

from mailglass.engine import Engine
from mailglass.errors import OutboxError
from mailglass.ledger import deliveries, webhooks
from mailglass.ledger.database import Database
from mailglass.ledger.deliveries import Delivery
from mailglass.ledger.suppressions import Suppression, suppress
from mailglass.mail.addresses import parse_address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.outbound.results import DeliveryResult
from mailglass.providers.base import Provider
from mailglass.routing import Lane
from mailglass.routing.scope import current_tenant
from mailglass.runtime import Runtime
from mailglass.settings import AccountSettings, Settings, get_settings
from mailglass.testing.advance import advance
from mailglass.testing.mailbox_database import ConnectionLike, check, driver_connection, embedded_url, rolled_back
from mailglass.testing.mailbox_provider import NAME, MailboxProvider, webhook_body
from mailglass.testing.provider import FixedAccounts
from mailglass.testing.sent import SentMail, SentMails
from mailglass.testing.substitutes import SENDER, SilentDoorbell, Substitution, for_tests, substituted
from mailglass.testing.transaction_ledger import TransactionLedger
from mailglass.webhooks import process

if TYPE_CHECKING:
    import psycopg

OutcomeLike = Literal["throttled", "transient", "quota", "misconfigured", "rejected", "suppressed", "uncertain"]
EventLike = Literal[
    "rejected",
    "failed",
    "bounced",
    "deferred",
    "delivered",
    "autoresponded",
    "opened",
    "clicked",
    "complained",
    "unsubscribed",
    "subscribed",
]
_DUE: Final = """
UPDATE mailglass.deliveries SET due_at = now() WHERE status = 'queued' AND due_at <= clock_timestamp()
"""
_LANES: Final = """
SELECT DISTINCT queue, tenant_id, stream FROM mailglass.deliveries WHERE status = 'queued' AND due_at <= now()
"""


class Mailbox(SentMails):
    """Ledger, engine and provider of one test. Make it with `mailbox()`.

    Args:
        ledger: of the test.
    """

    def __init__(self, ledger: TransactionLedger) -> None:
        self._ledger = ledger
        self._accepted: list[tuple[str, Outgoing]] = []
        self._answers: deque[Outcome] = deque()
        self._mails: list[SentMail] = []
        settings = for_tests(get_settings())
        accounts = _MailboxAccounts(settings, lambda name: MailboxProvider(name, self._accepted, self._answers))
        self.runtime: Runtime = _MailboxRuntime(settings, ledger, accounts)
        super().__init__(self._read_sent)

    def deliver(self) -> list[SentMail]:
        """Send what is due, as workers would, until nothing is.

        Leases that have ended are taken back first, and holds that are over are settled. What is to be tried again is
        due later: use `advance`.

        Returns:
            The mails that the provider has accepted by this call.
        """
        before = len(self._accepted)
        self.runtime.settler.sweep()
        while True:
            self._ledger.query(sqlalchemy.text(_DUE))
            lanes = [Lane(row.queue, row.tenant_id, row.stream) for row in self._ledger.query(sqlalchemy.text(_LANES))]
            # a new engine each time: one remembers how far its claims have come
            if not sum(self._engine().run(lane).claimed for lane in lanes):
                break
        return self.sent[before:]

    def advance(self, *, seconds: float = 0.0, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0) -> None:
        """Move the ledger's time on, past the moments until which mail waits, lives, is held or leased."""
        advance(self._ledger, seconds + 60 * minutes + 3600 * hours + 86400 * days)

    def answer_next(self, outcome: OutcomeLike, *, reason: str | None = None, times: int = 1) -> None:
        """Answer the next mails in this way, in place of accepting them.

        Args:
            outcome: `throttled`, `transient`, `quota`, `misconfigured`, `rejected`, `suppressed` or `uncertain`.
            reason: the closed code that the ledger keeps, such as `http_503`.
            times: how many mails.
        """
        self._answers.extend([Outcome(OutcomeClass(outcome), reason=reason or f"mailbox_{outcome}")] * times)

    def simulate(
        self,
        event: EventLike,
        mail: SentMail | DeliveryResult | Delivery | None = None,
        *,
        bounce_class: Literal["hard", "soft", "undetermined"] | None = None,
        reject_reason: str | None = None,
        machine: bool = False,
    ) -> Delivery:
        """Let the provider post an event about a mail, and process it as a worker does.

        Args:
            event: `delivered`, `bounced`, `complained`, `opened` and so on.
            mail: that it is about; the only one that was sent, if left out.
            bounce_class: of a bounce, a rejection or a failure; `hard` for a bounce, if left out.
            reject_reason: why the provider would not send: `invalid`, `bounced`, `spam` and so on.
            machine: an open or click made by a machine.

        Returns:
            The delivery afterwards.

        Raises:
            OutboxError: no provider has had the mail, or no one mail is meant.
        """
        delivery = self._delivery(mail)
        if delivery.account is None:
            raise OutboxError("no provider has had this mail: call deliver() first")
        hardness = bounce_class or ("hard" if event == "bounced" else None)
        key, body = webhook_body(
            event, delivery.id, delivery.recipient, bounce=hardness, reject=reject_reason, machine=machine
        )
        webhooks.store(self._ledger, delivery.account, NAME, key, body, {})
        process.run(self.runtime.settings, self._ledger, self.runtime.accounts, after_claim=lambda more: None)
        return deliveries.get(self._ledger, delivery.id)

    def suppress(self, address: str, *, tenant: str | None = None) -> None:
        """Suppress a recipient for the tenant in scope, or for another one."""
        owner = current_tenant() if tenant is None else tenant
        suppress(self._ledger, [Suppression(owner, parse_address(address, "address").key, "manual", "manual")])

    def __repr__(self) -> str:
        return f"<Mailbox: {len(self._accepted)} mails>"

    def _engine(self) -> Engine:
        runtime = self.runtime
        return Engine(runtime.settings, self._ledger, runtime.accounts, None, runtime.router)

    def _delivery(self, mail: SentMail | DeliveryResult | Delivery | None) -> Delivery:
        if mail is None:
            sent = self.sent
            if len(sent) != 1:
                raise OutboxError(f"{len(sent)} mails were sent: say which one the event is about")
            (mail,) = sent
        return deliveries.get(self._ledger, mail.id)

    def _read_sent(self) -> Sequence[SentMail]:
        for account, made in self._accepted[len(self._mails) :]:
            row = deliveries.get(self._ledger, made.delivery_id)
            self._mails.append(
                SentMail.of(
                    made,
                    account,
                    mailable=row.mailable,
                    scheduled_at=row.scheduled_at,
                    priority=row.priority,
                    idempotency_key=row.idempotency_key,
                )
            )
        return self._mails


class _MailboxAccounts(FixedAccounts):
    """Accounts in this process, by whatever name: those of the settings, and those that the application keeps.

    Args:
        settings: of the process.
        make: makes an account's provider.
    """

    def __init__(self, settings: Settings, make: Callable[[str], MailboxProvider]) -> None:
        super().__init__(settings, {})
        self._new_provider = make

    def settings(self, name: str, *, stranger: bool = False) -> AccountSettings:
        """Return the settings of an account; of one that the application keeps, with a sender."""
        return self._settings.accounts.get(name) or AccountSettings(name, NAME, self._settings.default_from or SENDER)

    def open(self, name: str) -> Provider:
        """Return the provider of an account."""
        if name not in self._given:
            self._given[name] = self._new_provider(name)
        return self._given[name]


class _MailboxRuntime(Runtime):
    """Runtime on a test's ledger, whose accounts are in this process.

    Args:
        settings: of the process.
        ledger: of the test.
        accounts: all accounts of the settings.
    """

    def __init__(self, settings: Settings, ledger: TransactionLedger, accounts: FixedAccounts) -> None:
        super().__init__(settings)
        self._ledger = ledger
        self._fixed = accounts

    @property
    def database(self) -> Database:
        """Return the test's ledger."""
        return self._ledger

    @property
    def accounts(self) -> Any:
        """Return accounts that send nothing."""
        return self._fixed

    @property
    def doorbell(self) -> Any:
        """Return a doorbell that rings nobody."""
        return SilentDoorbell()

    @property
    def engine(self) -> Any:
        """Return an engine without rate limits."""
        return Engine(self.settings, self._ledger, self._fixed, None, self.router)


@contextmanager
def mailbox(connection: ConnectionLike | None = None, *, database_url: str | None = None) -> Iterator[Mailbox]:
    """Send the mails of a block by the real path, to a provider in this process.

    >>> from mailglass import Message, deliver_later
    >>> from mailglass.testing import mailbox
    >>> with mailbox() as box:
    ...     result = deliver_later.delay(Message(to="ada@example.com", subject="Receipt 1001", text="Thank you."))
    ...     mails = box.deliver()
    ...     bounced = box.simulate("bounced", result)
    >>> result.id == str(mails[0].id), bounced.outcome
    (True, 'bounced')

    Args:
        connection: of your tests, within a transaction that they roll back: `django.db.connection`, a SQLAlchemy
            connection on psycopg, or one of psycopg. Your code's `session=` then belongs to the same transaction.
        database_url: of a database with a ledger; by default that of the settings, else an embedded PostgreSQL. All is
            done in one transaction, which is rolled back.

    Yields:
        The mailbox.

    Raises:
        OutboxError: the database cannot be reached or holds no ledger, or the connection is in no transaction.
        StackError: the embedded server cannot be started.
    """
    if connection is not None:
        raw = driver_connection(connection)
        check(raw)
        with _opened(raw) as box:
            yield box
        return
    url = database_url or get_settings().database_url.reveal() or embedded_url()
    with rolled_back(url) as own, _opened(own) as box:
        yield box


@contextmanager
def _opened(connection: psycopg.Connection[Any]) -> Iterator[Mailbox]:
    box = Mailbox(TransactionLedger(connection))
    with substituted(Substitution(box.runtime)):
        yield box
