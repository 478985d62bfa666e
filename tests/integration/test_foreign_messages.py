"""Messages that no worker can work on are dropped by all pools, whatever they are; everybody else's mail leaves."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection, Exchange, Producer
from kombu.transport.virtual.base import Base64

from mailglass import Message, deliver_later
from mailglass.celery import app, transport_options
from mailglass.doorbell import DISPATCH, PUMP
from mailglass.routing import Lane
from mailglass.settings import get_settings
from mailglass_workers.messages import RefusedError, check

SECRET = "ada.private@example.com"
LANE = "mailglass/acme/bulk"


def body(*args: object, **kwargs: object) -> str:
    return json.dumps([args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])


def headers(task: object = DISPATCH, **more: object) -> dict[str, object]:
    return {"id": str(uuid4()), "task": task, "lang": "py", "argsrepr": "()", "retries": 0, "eta": None, **more}


Foreign = tuple[object, dict[str, object], str, str]
JSON, UTF8 = "application/json", "utf-8"

FOREIGN: dict[str, Foreign] = {
    "no json": (f"{{{SECRET}", headers(), JSON, UTF8),
    "no utf-8": (b"\xff\xfe\x00", headers(), JSON, UTF8),
    "empty": ("", headers(), JSON, UTF8),
    "an object": (json.dumps({"to": SECRET}), headers(), JSON, UTF8),
    "a word": (json.dumps("args"), headers(), JSON, UTF8),
    "arguments that are none": (json.dumps([None, None, None]), headers(), JSON, UTF8),
    "a list too short": (json.dumps([[LANE], {}]), headers(), JSON, UTF8),
    "a list of words": (json.dumps(["args", "kwargs", "task"]), headers(), JSON, UTF8),
    "nested beyond the parser": ("[" * 100_000, headers(), JSON, UTF8),
    "callbacks that are none": (json.dumps([[LANE], {}, {"callbacks": SECRET}]), headers(), JSON, UTF8),
    "a ring with a callback": (json.dumps([[LANE], {}, {"callbacks": [7]}]), headers(), JSON, UTF8),
    "a ring with a chain": (json.dumps([[LANE], {}, {"chain": [{"task": DISPATCH}]}]), headers(), JSON, UTF8),
    "a ring with a chord": (json.dumps([[LANE], {}, {"chord": {"task": SECRET}}]), headers(), JSON, UTF8),
    "a ring with a limit that ends its process": (body(LANE), headers(timelimit=[0.001, None]), JSON, UTF8),
    "a ring with a limit that ends its batch": (body(LANE), headers(timelimit=[None, 0.001]), JSON, UTF8),
    "a ring of another century": (body(LANE), headers(eta="2999-01-01T00:00:00+00:00"), JSON, UTF8),
    "a ring of another century in no zone": (body(LANE), headers(eta="2999-01-01T00:00:00"), JSON, UTF8),
    "a pickle": (b"cos\nsystem\n(S'true'\ntR.", headers(), "application/x-python-serialize", "binary"),
    "no content type": (body(LANE), headers(), "", ""),
    "unknown encoding": (body(LANE), headers(), JSON, "martian"),
    "unknown task": (body(), headers(SECRET), JSON, UTF8),
    "a task that is a list": (body(), headers([SECRET]), JSON, UTF8),
    "no headers": (body(LANE), {}, JSON, UTF8),
    "protocol 1, no task": (json.dumps({"id": "1", "args": [SECRET]}), {}, JSON, UTF8),
    "protocol 1, unknown task": (json.dumps({"task": SECRET, "id": "1", "args": []}), {}, JSON, UTF8),
    "no id": (body(LANE), headers(id=None), JSON, UTF8),
    "an id that is a list": (body(LANE), headers(id=[SECRET]), JSON, UTF8),
    "an id with lines": (body(LANE), headers(id=f"1\n{SECRET}"), JSON, UTF8),
    "a moment that is none": (body(LANE), headers(eta=SECRET), JSON, UTF8),
    "an expiry that is none": (body(LANE), headers(expires=SECRET), JSON, UTF8),
    "limits that are none": (body(LANE), headers(timelimit=SECRET), JSON, UTF8),
    "limits below zero": (body(LANE), headers(timelimit=[-1, "x"]), JSON, UTF8),
    "retries that are none": (body(LANE), headers(retries=SECRET), JSON, UTF8),
    "compressed": (zlib.compress(body(LANE).encode()), headers(compression="application/x-gzip"), JSON, UTF8),
    "no lane": (body(), headers(), JSON, UTF8),
    "two lanes": (body(LANE, LANE), headers(), JSON, UTF8),
    "a lane by name": (body(lane=LANE), headers(), JSON, UTF8),
    "a lane that is a number": (body(7), headers(), JSON, UTF8),
    "a lane of one word": (body(SECRET), headers(), JSON, UTF8),
    "a lane of an unknown stream": (body("mailglass/acme/pigeon"), headers(), JSON, UTF8),
    "a lane with a NUL": (body("mailglass/ac\x00me/bulk"), headers(), JSON, UTF8),
    "a lane with a surrogate": (body("mailglass/ac\ud800me/bulk"), headers(), JSON, UTF8),
    "a lane without an end": (body("mailglass/" + "a" * 12_000 + "/bulk"), headers(), JSON, UTF8),
    "a pump with an argument": (body(SECRET), headers(PUMP), JSON, UTF8),
    "an account that is an object": (body({"a": 1}), headers("mailglass.suppressions.sync"), JSON, UTF8),
    "huge": (body("x" * 3_000_000), headers(), JSON, UTF8),
}


def publish(url: str, foreign: Foreign) -> None:
    content, extra, kind, encoding = foreign
    with Connection(url, transport_options=transport_options(url, get_settings())) as connection:
        connection.Producer().publish(
            content.encode() if isinstance(content, str) else content,
            routing_key="mailglass",
            # as kombu on Redis keeps bytes
            headers=extra,
            content_type=kind,
            content_encoding=encoding,
        )


class Arrived:
    """A message as a channel hands it out."""

    def __init__(self, foreign: Foreign) -> None:
        from kombu.message import Message as KombuMessage

        content, extra, kind, encoding = foreign
        self.message = KombuMessage(
            content.encode() if isinstance(content, str) else content,
            content_type=kind,
            content_encoding=encoding,
            headers=extra,
            accept={JSON},
        )


@pytest.fixture(scope="module")
def tasks() -> Any:
    import mailglass_workers.tasks  # noqa: F401 - registers them

    return app.tasks


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_message_is_refused_for_a_reason_that_repeats_nothing(what: str, tasks: Any) -> None:
    with pytest.raises(RefusedError, match=r"\A[a-z_]+\Z") as refusal:
        check(Arrived(FOREIGN[what]).message, tasks)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    ("task", "args"),
    [
        (DISPATCH, (LANE,)),
        (DISPATCH, ("mailglass.bulk-1/acme/transactional",)),
        (PUMP, ()),
        ("mailglass.suppressions.sync", ("relay",)),
        ("mailglass.suppressions.sync", ()),
        ("mailglass.retention", ()),
    ],
)
def test_rings_are_taken(task: str, args: tuple[str, ...], tasks: Any) -> None:
    check(Arrived((body(*args), headers(task), JSON, UTF8)).message, tasks)
    moment = "2026-03-04T13:28:50+00:00"
    # as a worker rings, whose tasks are registered
    limits = [tasks[task].time_limit, tasks[task].soft_time_limit]
    check(Arrived((body(*args), headers(task, eta=moment, timelimit=limits), JSON, UTF8)).message, tasks)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    content=st.binary(max_size=40) | _values.map(lambda value: json.dumps(value).encode()),
    extra=st.fixed_dictionaries(
        {},
        optional={
            key: _values | st.sampled_from([DISPATCH, PUMP])
            for key in ("task", "id", "eta", "expires", "timelimit", "retries", "shadow", "group", "stamps", "origin")
        },
    ),
    kind=st.sampled_from([JSON, "", "text/plain", "application/data"]) | st.text(max_size=8),
    encoding=st.sampled_from([UTF8, "binary", ""]) | st.text(max_size=8),
)
def test_any_message_is_taken_or_refused_and_nothing_else(
    tasks: Any, content: bytes, extra: dict[str, object], kind: str, encoding: str
) -> None:
    try:
        check(Arrived((content, extra, kind, encoding)).message, tasks)
    except RefusedError:
        return
    assert extra["task"] in (DISPATCH, PUMP)


@given(st.text() | st.lists(st.sampled_from(["mailglass", "mailglass.x", "acme", "bulk", "", "/"])).map("/".join))
def test_only_what_a_lane_would_write_is_read_as_one(text: str) -> None:
    with suppress(ValueError):
        assert str(Lane.parse(text)) == text


def lay(url: str, *entries: bytes) -> None:
    """Lay entries into the queue that kombu did not write."""
    with redis.Redis.from_url(url) as client:
        client.lpush("mailglass:mailglass", *entries)


def entry(**changes: object) -> bytes:
    encoded = Base64().encode(body(LANE).encode())
    properties = {
        "delivery_tag": str(uuid4()),
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": ""},
    }
    whole = {
        "body": encoded,
        "content-type": JSON,
        "content-encoding": UTF8,
        "headers": headers(),
        "properties": properties,
    }
    return json.dumps({**whole, **changes}).encode()


RAW = [
    b"",
    b"\xff\xfe",
    b"no json",
    b"7",
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    entry(properties={}),
    entry(properties=None),
    entry(properties={"delivery_tag": ["a"]}),
    entry(properties={"delivery_tag": "t", "body_encoding": "martian"}),
    entry(body="%%%"),
    entry(body=7),
    entry(headers=[1]),
    entry(headers="x"),
    entry(body=b64encode(b"\xff").decode()),
]


def broadcast(body: object, **changes: object) -> bytes:
    """Publish as Celery does to all workers, with changes."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    envelope: dict[str, object] = {
        "body": b64encode(sent).decode(),
        "content-encoding": UTF8,
        "content-type": JSON,
        "headers": {"clock": 1},
        "properties": {"delivery_tag": "1", "delivery_info": {"exchange": "celery.pidbox"}, "body_encoding": "base64"},
    }
    return json.dumps(envelope | changes).encode()


PING = {"method": "ping"}
# what is no command, as RabbitMQ passes it on
BODIES: list[bytes] = [b"\xff", b"{", b"7", b"[1]", b"", json.dumps({"method": SECRET}).encode()]
BROADCASTS: list[bytes] = [
    f"{{{SECRET}".encode(),
    b"\xff\xfe",
    b"[1]",
    b"7",
    b"null",
    b"[" * 100_000,
    json.dumps({"body": SECRET}).encode(),
    json.dumps({"body": "", "properties": None}).encode(),
    json.dumps({"__type__": SECRET, "__value__": SECRET}).encode(),
    *(broadcast(body) for body in (b"\xff", b"{", 7, None, [1], SECRET, {}, {"method": SECRET}, {"method": [SECRET]})),
    *(
        broadcast(PING | more)
        for more in (
            {"arguments": 7},
            {"destination": 7},
            {"destination": {"a": 1}},
            {"pattern": 7, "matcher": 8},
            {"reply_to": SECRET},
            {"reply_to": {"exchange": 7, "routing_key": []}},
            {"ticket": {}},
        )
    ),
    broadcast(PING, properties={}),
    broadcast(PING, properties={"delivery_tag": None, "delivery_info": {}, "body_encoding": SECRET}),
    broadcast(PING, **{"content-type": "application/x-python-serialize"}),
    broadcast(PING, headers=7),
    broadcast(PING, headers={"clock": SECRET}),
    broadcast(PING, headers={"compression": "zlib"}),
]


@pytest.mark.parametrize(
    "options",
    [("-c", "1"), ("-P", "threads", "-c", "2"), ("-P", "gevent", "-c", "4"), ("-P", "solo")],
    ids=["prefork", "threads", "gevent", "solo"],
)
def test_foreign_broadcasts_end_no_worker_of_any_pool_and_leave_it_under_control(
    cluster: Any, servers: Any, wait_for: Callable[..., None], options: tuple[str, ...]
) -> None:
    worker, url = cluster.worker(*options), cluster.environment["MAILGLASS_BROKER_URL"]
    wait_for(lambda: app.control.ping(timeout=2))
    sent = BODIES if servers.on_rabbit else BROADCASTS
    if servers.on_rabbit:
        with Connection(url) as connection:
            producer = Producer(connection.channel(), Exchange("celery.pidbox", "fanout"), auto_declare=False)
            for body in BODIES:
                producer.publish(body, content_type=JSON, content_encoding=UTF8)
    else:
        with redis.Redis.from_url(url) as client:
            for raw in BROADCASTS:
                client.publish("mailglass:/0.celery.pidbox", raw)
    wait_for(lambda: len(re.findall(r"mailglass\.message\.refused", worker.output())) >= len(sent))
    wait_for(lambda: app.control.ping(timeout=2))
    assert worker.running
    assert SECRET not in worker.output()
    assert "Traceback" not in worker.output()


@pytest.mark.parametrize(
    "options",
    [("-c", "1"), ("-P", "threads", "-c", "2"), ("-P", "gevent", "-c", "4"), ("-P", "solo")],
    ids=["prefork", "threads", "gevent", "solo"],
)
def test_foreign_messages_end_no_worker_of_any_pool_and_hold_up_nobodys_mail(
    cluster: Any, outside: Any, servers: Any, wait_for: Callable[..., None], options: tuple[str, ...]
) -> None:
    url = cluster.environment["MAILGLASS_BROKER_URL"]
    worker = cluster.worker(*options)
    # the first worker has declared the queue
    for foreign in FOREIGN.values():
        publish(url, foreign)
    if not servers.on_rabbit:
        for raw in RAW:
            lay(url, raw)
    result = deliver_later.delay(Message(to="eve@example.com", subject="Receipt", text="Thanks."))
    assert result.get(timeout=60)
    refused = re.compile(r"mailglass\.message\.refused")
    expected = len(FOREIGN) + (0 if servers.on_rabbit else len(RAW))
    wait_for(lambda: cluster.rings.count() == 0)
    wait_for(lambda: len(refused.findall(worker.output())) >= expected)
    assert worker.running
    assert outside.received == {result.id: 1}
    if not servers.on_rabbit:
        # none of them is kept to be handed out again
        with redis.Redis.from_url(url) as client:
            wait_for(lambda: client.hlen("mailglass:unacked") == 0)
    output = worker.output()
    assert SECRET not in output
    assert "Traceback" not in output
    assert "onnection to broker lost" not in output
