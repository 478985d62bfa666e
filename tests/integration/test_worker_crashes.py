"""A mail that ends its worker process, in every pool: the others are sent, each once."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from mailglass import Message, deliver_many
from mailglass.ids import uuid7
from mailglass.ledger import deliveries
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.routing import Lane
from mailglass.settings import configure, load_settings

LANE = Lane("mailglass", "default", "transactional")
# imported to be rendered: as a parser in native code ends its process, and as the kernel does where memory runs out
BOMB = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
SHORT = {"lease = 12": "lease = 3", "task_budget = 4": "task_budget = 1", "send_margin = 6": "send_margin = 2"}


def shorten_leases(config: Path) -> None:
    text = config.read_text(encoding="utf-8")
    for before, after in SHORT.items():
        assert before in text
        text = text.replace(before, after)
    config.write_text(text, encoding="utf-8")
    configure(load_settings())


@pytest.mark.parametrize(
    "options",
    [("-c", "2"), ("-P", "threads", "-c", "4"), ("-P", "gevent", "-c", "4")],
    ids=["prefork", "threads", "gevent"],
)
def test_a_mail_that_ends_its_worker_takes_no_other_along_and_is_held(
    cluster, outside, wait_for, options: tuple[str, ...]
) -> None:
    shorten_leases(cluster.directory / "mailglass.toml")
    (cluster.directory / "bomb.py").write_text(BOMB, encoding="utf-8")
    database = cluster.runtime.database
    bomb = Item(
        id=uuid7(),
        lane=LANE,
        message_id=uuid7(),
        content=json.dumps({"v": 1, "mailable": {"class": "bomb:Bomb", "context": {}}}),
        recipient=Address("bomb@example.com"),
        frozen=False,
    )
    messages = [Message(to=f"u{number}@example.com", subject="Receipt", text="Thanks.") for number in range(12)]
    ids = [result.ids[0] for result in deliver_many(messages[:6])]
    submit(database.run, [bomb])
    ids += [result.ids[0] for result in deliver_many(messages[6:])]
    workers = [cluster.worker(*options)]

    def ended(keys: list[UUID], status: Status) -> bool:
        if not workers[-1].running:
            # whoever runs it starts it again
            workers.append(cluster.worker(*options, name=f"worker{len(workers)}"))
        return all(state.status is status for state in deliveries.states(database, keys).values())

    wait_for(lambda: ended(ids, Status.SENT), timeout=90)
    received = outside.received
    assert set(received) == {str(key) for key in ids}
    for twice in [UUID(key) for key, count in received.items() if count > 1]:
        # on a machine that is held up for longer than a lease
        assert "uncertain" in {event.kind for event in deliveries.timeline(database, twice)}
    if len(workers) > 1:
        # five leases with a new worker each: one pool shows it
        return
    wait_for(lambda: ended([bomb.id], Status.HELD), timeout=90)
    assert deliveries.get(database, bomb.id).last_error == "crashed_worker"
    reasons = [event.reason for event in deliveries.timeline(database, bomb.id)]
    assert reasons.count("lease_expired") <= 4
