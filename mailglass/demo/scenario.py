"""The demo from end to end: orders in, mails out, and what can be seen of them afterwards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from uuid import UUID

from mailglass.demo.assembly import Platform
from mailglass.demo.burst import burst
from mailglass.demo.check import check
from mailglass.demo.facts import Facts, facts_of
from mailglass.demo.load import Submitted, submit
from mailglass.demo.mails import reminder
from mailglass.demo.narrator import Narrator
from mailglass.demo.orders import Order, read_orders
from mailglass.demo.outside import Outside
from mailglass.demo.summary import Bounced, Summary, pace
from mailglass.demo.surroundings import ACCOUNTS
from mailglass.demo.watch import Watch
from mailglass.errors import SuppressedError
from mailglass.ledger import deliveries
from mailglass.ledger.database import Database
from mailglass.ledger.events import Event
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.suppressions import suppressions_of
from mailglass.mail.addresses import parse_address
from mailglass.outbound.deliver_later import deliver_later
from mailglass.routing.scope import tenant
from mailglass.runtime import close_runtime, get_runtime
from mailglass.settings import configure

# longer than a killed worker's lease, the hold after it and the last retry together; seconds
_TIMEOUT = 75.0
# different events that make a timeline worth showing
_RICH = 6
_POSTING = (ACCOUNTS["acme"], ACCOUNTS["globex"])
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def play(platform: Platform, orders: int, narrator: Narrator, calm: int = 0) -> Summary:
    """Confirm so many orders through a running platform and see what becomes of each mail.

    Args:
        platform: started.
        orders: how many, at least 1.
        narrator: told how it goes.
        calm: mails of a burst at the end that meets no weather; 0 for none.

    Raises:
        StackError: a part of the platform is gone for good.
        LedgerUnavailableError: the database is.
    """
    settings = platform.settings
    configure(settings)
    try:
        with Outside(platform.lab.http_url) as outside:
            return _play(platform, outside, orders, narrator, calm)
    finally:
        narrator.close()
        close_runtime()
        configure(None)


def _play(platform: Platform, outside: Outside, number: int, narrator: Narrator, calm: int) -> Summary:
    database = get_runtime().database
    run = run_name(time.time())
    submitted = Submitted()
    watch = Watch(database, submitted.orders, lambda done, by: narrator.show(done, number, by), platform.look)
    submit(read_orders(number, run), run, submitted, watch.tick)
    watch.until_final(_TIMEOUT)
    quiet = watch.until_quiet(outside, _POSTING)
    facts = facts_of(database, submitted.orders)
    bounced = _bounced(database, submitted.orders, facts.values())
    refused = [bounced.refused] if bounced and bounced.refused else []
    burst_facts = burst(database, calm, run, narrator.say, platform.look, _TIMEOUT)
    recorded = {key: item.recorded for key, item in (facts | facts_of(database, refused) | burst_facts).items()}
    received = outside.received()
    return Summary(
        orders=number,
        by_status=Counter(item.status.value for item in facts.values()),
        by_outcome=Counter(item.outcome for item in facts.values() if item.outcome),
        by_tenant=Counter(item.tenant for item in facts.values()),
        check=check([*submitted.orders, *refused, *burst_facts], recorded, received, submitted.repeated),
        pace=pace(facts.values()),
        burst=pace(burst_facts.values()),
        received=sum(received.get(key, 0) for key in recorded if key not in burst_facts),
        resent=sum(item.resends > 0 for item in recorded.values()),
        example=_example(database, facts.values()),
        bounced=bounced,
        outside={name: value for name, value in outside.counts().items() if isinstance(value, int)},
        quiet=quiet,
        restarted=platform.restarted,
    )


def run_name(moment: float) -> str:
    """Return a short word that no other run has: the Unix time in base 36."""
    rest, word = int(moment), ""
    while rest:
        rest, digit = divmod(rest, len(_DIGITS))
        word = _DIGITS[digit] + word
    return word


def _bounced(database: Database, orders: Mapping[UUID, Order], facts: Iterable[Facts]) -> Bounced | None:
    """One whose address a hard bounce put on the list, and the error that another mail to it raises."""
    candidates = [item for item in facts if item.outcome == "bounced" or item.status is Status.FAILED]
    for item in sorted(candidates, key=lambda item: item.outcome != "bounced"):
        order = orders[item.id]
        entries = suppressions_of(database, item.tenant, parse_address(order.email, "to"))
        if any(entry.reason == "hard_bounce" for entry in entries):
            return _refused(order, item.id)
    return None


def _refused(order: Order, bounced: UUID) -> Bounced:
    try:
        with tenant(order.tenant):
            sent = deliver_later.delay(reminder(order))
    except SuppressedError as error:
        return Bounced(order, bounced, error.delivery_id, str(error))
    return Bounced(order, bounced, None, f"not refused: recorded as delivery {sent.id}")


def _example(database: Database, facts: Iterable[Facts]) -> tuple[Event, ...]:
    """Return the timeline with the most kinds of events. Prefer Postmark, whose times are finer than seconds."""

    def richness(item: Facts) -> tuple[int, bool, int]:
        kinds = len(set(item.kinds))
        return min(kinds, _RICH), item.tenant == "acme", kinds

    richest = max(facts, key=richness, default=None)
    return tuple(deliveries.timeline(database, richest.id)) if richest else ()
