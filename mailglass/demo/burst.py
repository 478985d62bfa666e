"""A calm burst at the end of the demo: many mails at once through an account that takes them all."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from mailglass.demo.facts import Facts, facts_of
from mailglass.demo.watch import Watch
from mailglass.ledger.database import Database
from mailglass.mail.message import Message
from mailglass.outbound.deliver_many import deliver_many_or_raise
from mailglass.routing.scope import tenant

_TENANT = "acme"


def burst(
    database: Database, number: int, run: str, tell: Callable[[str], None], look: Callable[[], None], timeout: float
) -> dict[UUID, Facts]:
    """Send mails that meet no weather, and return what became of each.

    Args:
        database: the ledger.
        number: how many; 0 for none.
        run: tells the addresses of one run from those of another.
        tell: told how it goes.
        look: called every now and then, to keep the platform alive.
        timeout: seconds after which what is not final is left.
    """
    if not number:
        return {}
    tell(f"a calm burst of {number} mails")
    with tenant(_TENANT):
        results = deliver_many_or_raise(
            Message(to=f"calm{position}.{run}@customer.example", subject="Back in stock", text="The kettle is back.")
            for position in range(number)
        )
    ids = [key for result in results for key in result.ids]
    Watch(database, ids, lambda done, by: None, look).until_final(timeout)
    return facts_of(database, ids)
