"""Whether a mail is delivered at once or by a worker later, its provider gets the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

import mailglass
from mailglass.mail.message import Attachment, Message
from mailglass.providers.http_provider import HTTPProvider
from mailglass.routing import Lane
from mailglass.settings import configure, load_settings
from mailglass.testing.provider_suite import Declaration
from mailglass.testing.provider_suite.wire import Seen, Wire
from tests.rooms import ROOMS

OVER_HTTP = [room for room in ROOMS.values() if issubclass(room.provider_class, HTTPProvider)]
MESSAGE = Message(
    to="Ada Lovelace <ada@recipient.example>",
    from_="Acme <orders@sender.example>",
    subject="Größe 世界",
    text="Thank you.\n",
    html="<p>Thank you.</p>\n",
    reply_to="desk@sender.example",
    cc="copy@recipient.example",
    headers={"X-Order": "4711"},
    attachments=(Attachment("receipt.txt", b"4711"),),
)


@pytest.fixture
def wire(cluster: Any, room: type[Declaration], monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """The cluster with one account, of this room, whose provider takes everything."""
    declared = room()
    for name, value in declared.environ.items():
        monkeypatch.setenv(name, value)
    with declared.open_wire() as server:
        lines = [f"{key} = {json.dumps(value)}" for key, value in declared.at(server.port).items()]
        config = cluster.directory / "mailglass.toml"
        config.write_text(
            f'[accounts.main]\nprovider = "{room.provider_class.name}"\n' + "\n".join(lines), encoding="utf-8"
        )
        configure(load_settings())
        yield server


@pytest.mark.parametrize("room", OVER_HTTP)
def test_now_and_later_send_the_same_bytes(cluster: Any, wire: Wire) -> None:
    mailglass.deliver(MESSAGE)
    mailglass.deliver_later.delay(MESSAGE)
    cluster.runtime.engine.run(Lane("mailglass", "default", "transactional"))
    now, later = (_lasting(request) for request in wire.seen)
    assert now == later


def _lasting(request: Seen) -> tuple[str, str, str]:
    """All of a request but the delivery's own id and moment."""
    body = request.body.decode("utf-8")
    identity = re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", body)
    assert identity is not None
    # a form's boundary is made from its content
    body = re.sub(r"mailglass-[0-9a-f]{32}", "BOUNDARY", body)
    return request.method, request.path, body.replace(identity[0], "ID").replace(identity[0].replace("-", ""), "ID")
