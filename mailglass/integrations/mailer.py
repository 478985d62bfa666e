"""Sending within one request: its transaction and its tenant, bound once."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mailglass.ledger.session import NOT_GIVEN, NotGiven
from mailglass.outbound.deliver_later import deliver_later
from mailglass.routing.scope import tenant as tenant_scope

if TYPE_CHECKING:
    from mailglass.ledger.session import AsyncSessionLike
    from mailglass.outbound.batch_results import BatchResults
    from mailglass.outbound.recording import Sendable
    from mailglass.outbound.results import DeliveryGroup, DeliveryResult


class Mailer:
    """The asynchronous calls of mailglass, in one session and for one tenant.

    >>> import asyncio
    >>> from mailglass import Message
    >>> from mailglass.integrations.mailer import Mailer
    >>> async def main(mailer: Mailer) -> str:
    ...     result = await mailer.adelay(Message(to="ada@example.com", subject="Hi", text="Hello."))
    ...     return await result.astate()
    >>> asyncio.run(main(Mailer(tenant="acme")))
    'queued'

    Args:
        session: as for `deliver_later.adelay`; left out, each call has a transaction of its own.
        tenant: the owner of what is sent; by default the tenant in scope at the call.
    """

    def __init__(self, session: AsyncSessionLike | NotGiven = NOT_GIVEN, tenant: str | None = None) -> None:
        self.session = session
        self.tenant = tenant

    async def adelay(self, message: Sendable) -> DeliveryResult | DeliveryGroup:
        """Record a message as `deliver_later.adelay` does."""
        return await self.aapply_async((message,))

    async def aapply_async(self, args: tuple[Sendable], **options: Any) -> DeliveryResult | DeliveryGroup:
        """Record a message with Celery's options as `deliver_later.aapply_async` does."""
        with self._scope():
            return await deliver_later.aapply_async(args, session=self.session, **options)

    async def adeliver_many(
        self, messages: Iterable[Sendable] | AsyncIterable[Sendable], **options: Any
    ) -> BatchResults:
        """Record many messages as `mailglass.adeliver_many` does."""
        from mailglass.outbound.deliver_many import adeliver_many

        with self._scope():
            return await adeliver_many(messages, session=self.session, **options)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        if self.tenant is None:
            yield
            return
        with tenant_scope(self.tenant):
            yield
