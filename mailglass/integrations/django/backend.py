"""The e-mail backend: whatever calls `send_mail` gets a delivery of mailglass."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.mail.backends.base import BaseEmailBackend
from django.db import connections, transaction

from mailglass import telemetry
from mailglass.errors import MailglassError, SuppressedError, SuppressionType
from mailglass.integrations.django.attributes import RecipientStatus, SendStatus, given, moment_of
from mailglass.integrations.django.messages import messages_of
from mailglass.integrations.django.transactions import joined, ledger_alias
from mailglass.ledger.session import NOT_GIVEN, is_in_memory
from mailglass.ledger.submit import Item, Recorded
from mailglass.mail.message import check_stream
from mailglass.outbound.deliver_many import CHUNK, CHUNK_SIZE
from mailglass.outbound.recording import items_of, record_items
from mailglass.outbound.schedule import Schedule, make_schedule
from mailglass.routing.scope import current_tenant, tenant


@dataclass(frozen=True, slots=True)
class Prepared:
    """One `EmailMessage` as it is to be recorded.

    Attributes:
        email: Django's message.
        items: its deliveries.
        schedule: when they are due.
    """

    email: Any
    items: Sequence[Item]
    schedule: Schedule


class EmailBackend(BaseEmailBackend):
    """Django's e-mail backend for mailglass.

        EMAIL_BACKEND = "mailglass.integrations.django.EmailBackend"

    From Django 6.1 on it is a `BACKEND` of `MAILERS`, with `tenant` and `stream` as `OPTIONS`.

    Args:
        fail_silently: whether a refusal is logged instead of raised. The message then counts as not sent.
        alias: the name in `MAILERS`.
        tenant: the owner of the mails. By default the tenant in scope.
        stream: transactional, operational or bulk.
        username: None. Credentials are the accounts'.
        password: None.
        options: Django's own. Anything else is an error.
    """

    def __init__(
        self,
        fail_silently: bool = False,
        *,
        alias: str | None = None,
        tenant: str | None = None,
        stream: str = "transactional",
        username: str | None = None,
        password: str | None = None,
        **options: Any,
    ) -> None:
        login = {"username": username, "password": password}
        options |= {name: value for name, value in login.items() if value is not None}
        # Django would drop what a call of `send_mail` brings, and raise for what stands in MAILERS
        dropped = options if alias is None else set(options.get("_ignore_unknown_kwargs") or ()) & options.keys()
        if unknown := sorted(name for name in dropped if not name.startswith("_")):
            raise TypeError(
                f"mailglass's EmailBackend has no option {', '.join(unknown)}: give tenant or stream. Servers and "
                "credentials belong to the accounts of MAILGLASS"
            )
        super().__init__(alias=alias, **options)
        self.fail_silently = fail_silently
        self.tenant = tenant
        self.stream = check_stream(stream)

    def send_messages(self, email_messages: Iterable[Any]) -> int:
        """Record messages for delivery, after all of them were checked: 500 deliveries in one statement.

        In Django's database all of them are recorded or none. Where the ledger is elsewhere this holds for each
        statement.

        Returns:
            The number of messages that were queued. Where the ledger is not in Django's database, they are counted
            now and recorded after the commit.

        Raises:
            MessageError: a message cannot be sent as it is. Nothing was recorded.
            RouteError: no route for this tenant and stream. Nothing was recorded.
            SuppressedError: every recipient is suppressed.
            LedgerUnavailableError: the database cannot be reached.
        """
        with self._scope(), self._silence() as outcome:
            prepared = list(self._prepared(email_messages))
            if prepared:
                outcome.append(self._send(prepared))
        return sum(outcome)

    def _scope(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.tenant is None else tenant(self.tenant)

    def _silence(self) -> _Silence:
        return _Silence(self.fail_silently)

    def _prepared(self, email_messages: Iterable[Any]) -> Iterator[Prepared]:
        owner = current_tenant()
        for email in email_messages or ():
            email.anymail_status = SendStatus()
            with self._silence():
                schedule = make_schedule(None, moment_of(given(email, "send_at")), None, None, None)
                messages = messages_of(email, owner, self.stream)
                items = [item for message in messages for item in items_of(message, owner, schedule)]
                if items:
                    yield Prepared(email, items, schedule)

    def _send(self, prepared: Sequence[Prepared]) -> int:
        alias = ledger_alias()
        connection = connections[alias]
        session = None if is_in_memory() else joined(alias)
        chunks = list(_chunks(prepared))
        if session is not None:
            with ExitStack() as stack:
                stack.enter_context(connection.wrap_database_errors)
                if connection.in_atomic_block or len(chunks) > 1:
                    # a refused statement takes neither the caller's transaction with it nor leaves those before it
                    stack.enter_context(transaction.atomic(using=alias))
                recorded = _record(prepared, chunks, session)
        elif connection.in_atomic_block and not is_in_memory():
            transaction.on_commit(partial(self._after_commit, prepared, chunks), using=alias, robust=self.fail_silently)
            return len(prepared)
        else:
            recorded = _record(prepared, chunks, NOT_GIVEN)
        if all(answer.suppressed_by for answers in recorded for answer in answers):
            first = recorded[0][0]
            raise SuppressedError(SuppressionType(str(first.suppressed_by)), first.id)
        return sum(any(not answer.suppressed_by for answer in answers) for answers in recorded)

    def _after_commit(self, prepared: Sequence[Prepared], chunks: Sequence[Sequence[Prepared]]) -> None:
        with self._silence():
            _record(prepared, chunks, NOT_GIVEN)


class _Silence(AbstractContextManager[list[int]]):
    """Swallows mailglass's errors if it should, and says so in the log."""

    def __init__(self, active: bool) -> None:
        self._active = active

    def __enter__(self) -> list[int]:
        return []

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> bool:
        if not self._active or not isinstance(error, MailglassError):
            return False
        telemetry.emit("mailglass.send_mail.failed", level=logging.WARNING, error_type=type(error).__name__)
        return True


def _record(
    prepared: Sequence[Prepared], chunks: Sequence[Sequence[Prepared]], session: object
) -> list[list[Recorded]]:
    """Record deliveries, and tell each message what became of it.

    Args:
        prepared: all messages.
        chunks: the same, as many to a statement.
        session: as `record_items` takes it.

    Returns:
        The records of each message, in order.
    """
    recorded: dict[int, list[Recorded]] = {}
    for chunk in chunks:
        items = [item for entry in chunk for item in entry.items]
        answers = iter(record_items(items, chunk[0].schedule, session))
        for entry in chunk:
            own = recorded[id(entry)] = [next(answers) for _ in entry.items]
            entry.email.anymail_status = SendStatus(
                {
                    item.recipient.email: RecipientStatus(
                        "rejected" if found.suppressed_by else "queued", str(found.id)
                    )
                    for item, found in zip(entry.items, own, strict=True)
                }
            )
    return [recorded[id(entry)] for entry in prepared]


def _chunks(prepared: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """Yield messages that are recorded by one statement: those that are due at the same time."""
    by_moment: dict[Any, list[Prepared]] = {}
    for entry in prepared:
        by_moment.setdefault(entry.schedule.eta, []).append(entry)
    for entries in by_moment.values():
        chunk: list[Prepared] = []
        count = size = 0
        for entry in entries:
            length = len(entry.items[0].content)
            if chunk and (count + len(entry.items) > CHUNK or size + length > CHUNK_SIZE):
                yield chunk
                chunk, count, size = [], 0, 0
            chunk.append(entry)
            count += len(entry.items)
            size += length
        yield chunk
