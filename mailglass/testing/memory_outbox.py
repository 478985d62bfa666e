"""Outbox: mails that a test's code sends, kept in memory. Nothing is really sent, and no server is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from mailglass.errors import MessageError, OutboxError, SuppressionType
from mailglass.ledger.database import Database
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.suppressions import Suppression, suppress
from mailglass.mail.addresses import Address, parse_address
from mailglass.rendering import render_content
from mailglass.rendering.outgoing import outgoing
from mailglass.routing import Mode, RouteContext
from mailglass.routing.router import ordered_accounts
from mailglass.routing.scope import current_tenant
from mailglass.runtime import Runtime
from mailglass.settings import Settings, get_settings
from mailglass.settings.values import domain_name
from mailglass.testing.memory_ledger import MemoryLedger, Recorded
from mailglass.testing.sent import SentMail, SentMails
from mailglass.testing.substitutes import SENDER, SilentDoorbell, Substitution, for_tests, substituted

if TYPE_CHECKING:
    from mailglass.routing import Lane

_NO_SEND: Final = "the outbox sends nothing, and opens no account: use the mailbox to run the engine"


class Outbox(SentMails):
    """Mails that a test's code has sent, kept in memory.

    A mail is validated, routed and rendered when it is sent, by the process's settings. So a wrong address, a missing
    route and a broken template fail the call. Settings without any account are given one. A mail is `sent` at once,
    and one that is due later is `queued`. Make it with `outbox()`.
    """

    def __init__(self) -> None:
        self._mails: dict[UUID, SentMail] = {}
        self._ledger = MemoryLedger(self._accept)
        super().__init__(self._standing)
        self.runtime: Runtime = _OutboxRuntime(for_tests(get_settings()), self._ledger)

    def suppress(self, address: str, *, tenant: str | None = None) -> None:
        """Suppress a recipient, so that mail to them raises `SuppressedError`.

        Args:
            address: an address, or `@example.com` for everybody at a domain.
            tenant: whose mail; by default that of the tenant in scope, `*` for all.
        """
        owner = current_tenant() if tenant is None else tenant
        value, scope = _suppressed(address)
        suppress(self._ledger, [Suppression(owner, value, "manual", "manual", scope)])

    def advance(self, *, seconds: float = 0.0, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0) -> None:
        """Move the outbox's time on, so that mail which is due by then is `sent`."""
        self._ledger.advance(seconds + 60 * minutes + 3600 * hours + 86400 * days)

    def state(self, mail: SentMail) -> str:
        """Return the status of a mail: `sent`, or `queued` if it is due later."""
        return next(row.status.value for row in self._ledger.deliveries() if row.id == mail.id)

    def __repr__(self) -> str:
        return f"<Outbox: {len(self)} mails>"

    def _standing(self) -> Sequence[SentMail]:
        rows = self._ledger.deliveries()
        return [self._mails[row.id] for row in rows if row.status in (Status.SENT, Status.QUEUED)]

    def _accept(self, row: Recorded) -> None:
        """Route and render a delivery, before it stands.

        Raises:
            RouteError: it has no route.
            TemplateError: it cannot be rendered.
        """
        content = render_content(json.loads(row.content))
        mode = Mode(content.get("mode", Mode.LATER))
        tags = tuple(content.get("tags", ()))
        context = RouteContext(row.tenant, row.stream, row.recipient_domain, tags, mode, row.mailable)
        account = ordered_accounts(self.runtime.router.resolve(context), row.id)[0]
        settings = self.runtime.settings
        configured = settings.accounts.get(account)
        made = outgoing(
            delivery_id=row.id,
            tenant=row.tenant,
            stream=row.stream,
            recipient=Address(row.recipient, row.recipient_name),
            created_at=row.starts_at,
            content=content,
            default_sender=(None if configured is None else configured.sender) or settings.default_from or SENDER,
        )
        made = replace(made, cc=self._unsuppressed(made.cc, row), bcc=self._unsuppressed(made.bcc, row))
        self._mails[row.id] = SentMail.of(
            made,
            account,
            mailable=row.mailable,
            scheduled_at=row.starts_at,
            priority=row.priority,
            idempotency_key=row.idempotency_key,
        )

    def _unsuppressed(self, copies: Sequence[Address], row: Recorded) -> tuple[Address, ...]:
        return tuple(copy for copy in copies if not self._ledger.is_suppressed(copy.email, row.tenant, row.stream))


def _suppressed(address: str) -> tuple[str, SuppressionType]:
    """Return the value and the scope of a suppression.

    Raises:
        MessageError: it is neither an address nor a domain after `@`.
    """
    if not address.startswith("@"):
        return parse_address(address, "address").key, SuppressionType.ADDRESS
    domain = domain_name(address[1:])
    if domain is None:
        raise MessageError("address", "is no domain")
    return domain, SuppressionType.DOMAIN


class _OutboxRuntime(Runtime):
    """Runtime whose ledger is in memory, and which opens nothing."""

    def __init__(self, settings: Settings, ledger: MemoryLedger) -> None:
        super().__init__(settings)
        self._ledger = ledger

    @property
    def database(self) -> Database:
        """Return the ledger in memory."""
        return self._ledger

    @property
    def doorbell(self) -> Any:
        """Return a doorbell that rings nobody."""
        return SilentDoorbell()

    @property
    def engine(self) -> Any:
        """Return an engine that has nothing to do: what is recorded is sent."""
        return _NoEngine()

    def prepare_for_webhooks(self) -> None:
        """Do nothing: an application under test starts without secrets and a database, and no webhook comes."""

    @property
    def accounts(self) -> Any:
        """Refuse to open accounts."""
        raise OutboxError(_NO_SEND)

    limiter = settler = accounts


class _NoEngine:
    """An engine whose mails are sent once they are recorded."""

    limited = None

    def reserve(self, item: object) -> _NoEngine:
        """Return a reservation without a limit."""
        return self

    def give_back(self, reservation: object) -> None:
        """Do nothing."""

    def run_these(self, lane: Lane, ids: Sequence[UUID], reservation: object = None) -> None:
        """Do nothing."""

    def run(self, *_: Any, **__: Any) -> None:
        """Refuse to run a lane.

        Raises:
            OutboxError: always.
        """
        raise OutboxError(_NO_SEND)


@contextmanager
def outbox() -> Iterator[Outbox]:
    """Catch the mails that the code in a block sends.

    >>> from mailglass import Message, deliver_later
    >>> from mailglass.testing import outbox
    >>> with outbox() as box:
    ...     result = deliver_later.delay(Message(to="ada@example.com", subject="Receipt 1001", text="Thank you."))
    ...     mail = box.assert_sent(to="ada@example.com", subject="Receipt 1001")
    >>> mail.text, result.id == str(mail.id)
    ('Thank you.', True)

    Yields:
        The outbox.

    Raises:
        ConfigError: the settings are wrong.
    """
    box = Outbox()
    with substituted(Substitution(box.runtime)):
        yield box
