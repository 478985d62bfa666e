"""Celery's canvas: what stays in the process works, what would travel through a broker is refused with the remedy."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, chain, group
from celery.canvas import Signature

from mailglass import Mailable, Message, deliver_later
from mailglass.ledger import deliveries

REMEDY = "a task of your own that takes an id"


class Note(Mailable):
    subject = "Note"
    text = "{{ words }}"


def message(to: str = "ada@example.com") -> Message:
    return Message(to=to, subject="Receipt 1001", text="Thank you.")


@pytest.fixture
def shop(broker_url: str) -> Celery:
    """The application's own Celery app, on a broker of its own."""
    made = Celery("shop", broker=broker_url, set_as_current=False)

    @made.task(name="shop.add", shared=False)
    def add(a: int, b: int) -> int:
        return a + b

    made.conf.task_default_queue = "shop"
    return made


TRAVELLING: dict[str, Callable[[Signature], Any]] = {
    "second in a chain": lambda add: chain(add, deliver_later.si(message())).apply_async(),
    "a mailable second in a chain": lambda add: chain(
        add, deliver_later.si(Note(to="ada@example.com", context={"words": "x"}))
    ).apply_async(),
    "after a task whose result it takes": lambda add: chain(add, deliver_later.s()).apply_async(),
    "a link": lambda add: add.apply_async(link=deliver_later.si(message())),
    "a link of an error": lambda add: add.apply_async(link_error=deliver_later.si(message())),
    "a group in a chain": lambda add: chain(add, group([deliver_later.si(message())])).apply_async(),
    "a cloned signature": lambda add: chain(add, deliver_later.si(message()).clone()).apply_async(),
    "a map": lambda add: deliver_later.map([message()]).apply_async(app=add.app),
    "a starmap": lambda add: deliver_later.starmap([(message(),)]).apply_async(app=add.app),
    "chunks": lambda add: deliver_later.chunks([(message(),)], 1).apply_async(),
    "an argument": lambda add: add.app.send_task("shop.send", args=[message()]),
    "pickled": lambda add: pickle.dumps(deliver_later.si(message())),
    "pickled in a chain": lambda add: pickle.dumps(chain(add, deliver_later.si(message()))),
}


@pytest.mark.parametrize("travel", TRAVELLING.values(), ids=list(TRAVELLING))
def test_content_that_would_travel_through_the_broker_is_refused_with_the_remedy(
    cluster, shop: Celery, travel: Callable[[Signature], Any]
) -> None:
    with pytest.raises(Exception, match=REMEDY) as caught:
        travel(shop.tasks["shop.add"].si(1, 2))
    assert "ada@" not in str(caught.value)
    assert cluster.rings.count("shop") == 0, "nothing of it was published"
    assert deliveries.find(cluster.runtime.database) == []


@pytest.mark.parametrize(
    "followed",
    [
        lambda add: chain(deliver_later.si(message()), add).apply_async(),
        lambda add: deliver_later.apply_async((message(),), link=add),
        lambda add: deliver_later.apply_async((message(),), link_error=[add]),
    ],
    ids=["chain", "link", "link_error"],
)
def test_nothing_can_follow_it_and_the_remedy_is_named(
    cluster, shop: Celery, followed: Callable[[Signature], Any]
) -> None:
    with pytest.raises(TypeError, match=REMEDY):
        followed(shop.tasks["shop.add"].si(1, 2))
    assert deliveries.find(cluster.runtime.database) == []


def test_signatures_go_on_in_this_process(cluster, shop: Celery) -> None:
    database = cluster.runtime.database
    called = deliver_later.s(message())()
    assert deliveries.get(database, called).status == "queued"
    assert deliver_later.s(message()).set(priority=8).apply_async().delivery.priority == 8
    assert deliver_later.si(message()).delay().state == "queued"
    assert deliver_later.s().delay(message()).state == "queued"
    assert deliver_later.s(message()).clone().apply_async(countdown=60).state == "queued"
    sent = group(deliver_later.s(message(f"u{number}@example.com")) for number in range(3)).apply_async()
    assert {result.state for result in sent} == {"queued"}
    assert {result.state for result in group([deliver_later.si(message())])()} == {"queued"}
    assert len(deliveries.find(database)) == 9
