"""A filter of deliveries, as a value and as SQL that finds them by an index."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy

from mailglass.ledger.audit import digest
from mailglass.ledger.events import OUTCOMES
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.tables import deliveries as table

ALL: Final = frozenset(Status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A filter of deliveries. None matches everything, and times are aware.

    Attributes:
        tenant: whose.
        ids: at most a few thousand.
        status: where they stand.
        stream: transactional, operational or bulk.
        mailable: `package.module:Class`.
        group: of one message to several people.
        recipient: their address; compared in lower case, and never logged.
        account: the account that attempted them last.
        outcome: the most telling thing the provider said: complained, bounced, failed, rejected, delivered, deferred.
        in_doubt: True for those that may have been sent, False for those that cannot have been.
        reason: the last error; `template_failed` also stands for `template_failed:…`.
        created_after, created_before: when they were recorded.
        due_after, due_before: when they are due; what is held has no such moment.
    """

    tenant: str | None = None
    ids: tuple[UUID, ...] | None = None
    status: Status | None = None
    stream: str | None = None
    mailable: str | None = None
    group: UUID | None = None
    recipient: str | None = field(default=None, repr=False)
    account: str | None = None
    in_doubt: bool | None = None
    outcome: str | None = None
    reason: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    due_after: datetime | None = None
    due_before: datetime | None = None

    def given(self) -> dict[str, Any]:
        """Return the filters that are given, by name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def narrows(self) -> bool:
        """True if it says more than whose they are."""
        return any(getattr(self, item.name) is not None for item in fields(self) if item.name != "tenant")

    def described(self) -> dict[str, object]:
        """Return the filter as the audit keeps it: what is given, the recipient as a digest."""
        found = {name: value for name, value in self.given().items() if name != "tenant"}
        return found if self.recipient is None else {**found, "recipient": digest(self.recipient)}

    def conditions(self, statuses: Collection[Status] = ALL) -> Iterator[sqlalchemy.ColumnElement[bool]]:
        """Yield the filter as SQL, over deliveries that stand in one of `statuses`."""
        wanted = [status for status in statuses if self.status in (None, status)]
        if len(wanted) < len(ALL):
            yield sqlalchemy.or_(*(_stands(status) for status in wanted)) if wanted else sqlalchemy.false()
        if self.ids is not None:
            yield table.c.id.in_(self.ids)
        exact: Mapping[str, object] = {
            "tenant_id": self.tenant,
            "stream": self.stream,
            "mailable": self.mailable,
            "group_id": self.group,
            "account": self.account,
            "in_doubt": self.in_doubt,
        }
        for column, value in exact.items():
            if value is not None:
                yield table.c[column] == value
        if self.recipient is not None:
            yield sqlalchemy.func.lower(table.c.recipient) == self.recipient.lower()
        if self.reason is not None:
            begins = table.c.last_error.startswith(f"{self.reason}:", autoescape=True)
            yield sqlalchemy.or_(table.c.last_error == self.reason, begins)
        if self.outcome is not None:
            yield from _has_outcome(self.outcome)
        for column, after, before in (
            ("created_at", self.created_after, self.created_before),
            ("due_at", self.due_after, self.due_before),
        ):
            if after is not None:
                yield table.c[column] >= after
            if before is not None:
                yield table.c[column] < before


def _stands(status: Status) -> sqlalchemy.ColumnElement[bool]:
    """Return the condition that a delivery stands there, with what puts it into one of the partial indexes.

    The status itself is in no index: it changes at every mark, which would then be written into all of them.
    """
    columns = table.c
    also: sqlalchemy.ColumnElement[bool]
    if status is Status.SENT:
        also = sqlalchemy.true()
    elif status is Status.QUEUED:
        also = columns.due_at.is_not(None)
    elif status is Status.UNCERTAIN:
        also = columns.in_doubt
    elif status in (Status.CLAIMED, Status.SENDING):
        also = columns.lease_expires_at.is_not(None)
    else:
        also = sqlalchemy.and_(columns.due_at.is_(None), columns.lease_expires_at.is_(None), columns.sent_at.is_(None))
    return sqlalchemy.and_(columns.status == status.value, also)


def _has_outcome(outcome: str) -> Iterator[sqlalchemy.ColumnElement[bool]]:
    yield table.c[f"{outcome}_at"].is_not(None)
    for more_telling in OUTCOMES[OUTCOMES.index(outcome) + 1 :]:
        yield table.c[f"{more_telling}_at"].is_(None)
