"""The stand-in for Postmark that the benchmark against the peers sends to, over real sockets."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailglass.stack.process import Guardian
from tests.bench.peers.receivers import DELAY_MS, PostmarkStandIn

OURS = "0190b0c0-0000-7000-8000-000000000001"


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[PostmarkStandIn]:
    guardian = Guardian()
    with PostmarkStandIn(tmp_path, guardian) as receiver:
        yield receiver
    guardian.close()


def test_a_mail_and_a_batch_are_counted_by_number_each_time(standin: PostmarkStandIn) -> None:
    answer = _post(standin, "/email", _mail(7))
    assert answer["ErrorCode"] == 0
    items = _post(standin, "/email/batch", [_mail(7), _mail(8)])
    assert [item["To"] for item in items] == ["customer7@example.com", "customer8@example.com"]
    moments = standin.report()
    assert {number: len(found) for number, found in moments.items()} == {7: 2, 8: 1}
    assert standin.arrived() == 3
    assert moments[8][0] - moments[7][0] >= DELAY_MS / 1000


def test_a_mail_whose_sender_is_gone_is_accepted_all_the_same(standin: PostmarkStandIn) -> None:
    body = json.dumps(_mail(9)).encode()
    with socket.create_connection(("127.0.0.1", standin.port)) as sender:
        sender.sendall(b"POST /email HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    # a mail that comes later is answered later
    _post(standin, "/email", _mail(10))
    assert set(standin.report()) == {9, 10}


def test_a_search_finds_a_mail_by_the_id_in_its_metadata(standin: PostmarkStandIn) -> None:
    assert _get(standin, f"/messages/outbound?count=50&metadata_mailglass_id={OURS}")["Messages"] == []
    accepted = _post(standin, "/email", _mail(1) | {"Metadata": {"mailglass_id": OURS}})
    (found,) = _get(standin, f"/messages/outbound?count=50&metadata_mailglass_id={OURS}")["Messages"]
    assert found == {"MessageID": accepted["MessageID"], "Metadata": {"mailglass_id": OURS}}


def _mail(number: int) -> dict[str, Any]:
    return {"From": "shop@example.com", "To": f"customer{number}@example.com", "TextBody": "Hello"}


def _post(standin: PostmarkStandIn, path: str, value: object) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{standin.port}{path}", json.dumps(value).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def _get(standin: PostmarkStandIn, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{standin.port}{path}", timeout=10) as answer:
        return json.load(answer)
