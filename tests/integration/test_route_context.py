"""Context of a route's hook: the same at a delivery's record and at each of its attempts."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from mailglass import Mailable, Message, deliver, deliver_later, deliver_many
from mailglass.ledger import deliveries
from mailglass.ledger.lifecycle import Status
from mailglass.routing import Lane, Mode, RouteContext, Tenancy
from mailglass.runtime import close_runtime, get_runtime
from mailglass.settings import configure, get_settings
from mailglass.testing.lab.weather import Weather

LANE = Lane("mailglass", "default", "transactional")
RECORDED: list[RouteContext] = []
ATTEMPTED: list[RouteContext] = []


class Recorder(Tenancy):
    """Keeps what it is told, and leaves the route to the settings."""

    def resolve_route(self, context: RouteContext) -> None:
        (ATTEMPTED if context.domain else RECORDED).append(context)


class Receipt(Mailable):
    """A receipt."""

    subject = "Receipt {{ number }}"
    text = "Thank you."


def receipt(to: str = "ada@example.com") -> Receipt:
    return Receipt(to=to, context={"number": 7}, tags=["invoice"])


def message(to: str = "ada@example.com") -> Message:
    return Message(to=to, subject="Receipt 7", text="Thank you.")


@pytest.fixture(autouse=True)
def contexts(cluster) -> None:
    RECORDED.clear()
    ATTEMPTED.clear()
    close_runtime()
    configure(replace(get_settings(), tenancy=f"{__name__}:Recorder"))


def work_until_sent(number: int) -> None:
    """Run the lane as a worker does until this many mails are sent."""
    runtime = get_runtime()
    deadline = time.monotonic() + 20
    while len(deliveries.find(runtime.database, status="sent")) < number:
        assert time.monotonic() < deadline
        runtime.engine.run(LANE)


def test_mode_and_mailable_of_a_delivery_are_told_at_its_record_and_its_attempt() -> None:
    deliver_later.delay(receipt())
    deliver_later.delay(message())
    list(deliver_many([message()]))
    path = f"{__name__}:Receipt"
    own_lane = [context for context in RECORDED if context.mailable or context.mode is Mode.NOW]
    assert [(context.mode, context.mailable) for context in own_lane] == [(Mode.LATER, path)]
    work_until_sent(3)
    assert {(context.mode, context.mailable, context.tags) for context in ATTEMPTED} == {
        (Mode.LATER, path, ("invoice",)),
        (Mode.LATER, None, ()),
    }


@pytest.mark.parametrize("make", [message, receipt], ids=["message", "mailable"])
def test_a_retry_of_what_was_asked_for_at_once_sees_the_mode_of_the_call(make, outside) -> None:
    outside.weather = lambda recipient: Weather.SERVER_ERROR_ONCE
    delivery = deliver(make())
    assert delivery.status is Status.QUEUED
    first = set(ATTEMPTED)
    ATTEMPTED.clear()
    work_until_sent(1)
    assert {context.mode for context in ATTEMPTED} == {Mode.NOW}
    assert set(ATTEMPTED) == first


def test_a_repeated_call_finds_its_delivery_whatever_its_mode() -> None:
    keyed = Message(to="ada@example.com", subject="Receipt 7", text="Thank you.", idempotency_key="order-7")
    queued = deliver_later.delay(keyed)
    assert deliver(keyed).id == queued.delivery.id
    work_until_sent(1)
    assert {context.mode for context in ATTEMPTED} == {Mode.LATER}
