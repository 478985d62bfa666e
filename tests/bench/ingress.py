"""Webhooks: how many requests a second one core takes, and how many events a second two cores understand.

The endpoint runs as `mailglass web`, pinned to one core; the client and PostgreSQL share the other one. Every request
is a webhook of its own with one event, verified and committed before it is answered.

Both sides are taken by the clock and by processor time: the second is what a core could do that waits for nobody. The
server's own cost is that of an application that does nothing on the same uvicorn.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psutil
import psycopg
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from mailglass.doorbell import PUMP
from mailglass.ids import uuid7s
from mailglass.runtime import get_runtime
from mailglass.stack.process import ChildProcess
from tests.bench.figures import Comparison, Side
from tests.bench.machine import ROOT, Machine, plain_environment, wait_until

ROUNDS = 3
REQUESTS = 10_000
WARMING = 1_000
CONNECTIONS = 128
PATIENCE = 60.0
VERIFICATIONS = 3_000
DELIVERIES = 20_000
PER_WEBHOOK = 100
_SERVER, _CLIENT = 0, 1
_SECRET = "a-secret-of-the-bench"
_PINNED = (
    "import os, runpy, sys; os.sched_setaffinity(0, {int(sys.argv.pop(1))}); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
_KINDS = ("processed", "delivered", "open")

Webhook = tuple[str, Mapping[str, str], bytes]
Maker = Callable[[int], Webhook]


class Providers:
    """Three providers that post webhooks: signed with ECDSA, with HMAC, and with Basic credentials."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public = base64.b64encode(self.key.public_key().public_bytes(serialization.Encoding.DER, form)).decode()
        self.config = f"""
default_from = "shop@example.com"
[accounts.grid]
provider = "sendgrid"
api_key = "env:BENCH_SECRET"
webhook_public_keys = ["{public}"]
[accounts.send]
provider = "resend"
api_key = "env:BENCH_SECRET"
webhook_secrets = ["env:BENCH_WHSEC"]
[accounts.mark]
provider = "postmark"
server_token = "env:BENCH_SECRET"
webhook_username = "hooks"
webhook_passwords = ["env:BENCH_SECRET"]
[[routes]]
accounts = ["grid"]
"""
        self.whsec = os.urandom(24)
        self.environment = {
            "BENCH_SECRET": _SECRET,
            "BENCH_WHSEC": f"whsec_{base64.b64encode(self.whsec).decode()}",
        }

    def ecdsa(self, number: int) -> Webhook:
        return self.grid([grid_event("delivered", None, f"event-{number}")])

    def grid(self, events: list[dict[str, Any]]) -> Webhook:
        body, stamp = json.dumps(events).encode() + b"\r\n", str(int(time.time()))
        signature = base64.b64encode(self.key.sign(stamp.encode() + body, ec.ECDSA(SHA256()))).decode()
        headers = {
            "X-Twilio-Email-Event-Webhook-Signature": signature,
            "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
        }
        return "grid", headers, body

    def hmac(self, number: int) -> Webhook:
        stamp, identity = str(int(time.time())), f"msg_{number}"
        data = {"email_id": f"id-{number}", "to": ["customer@example.com"], "subject": "Receipt", "tags": {}}
        body = json.dumps({"type": "email.delivered", "created_at": _iso(), "data": data}).encode()
        mac = hmac.new(self.whsec, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest()
        signature = f"v1,{base64.b64encode(mac).decode()}"
        return "send", {"svix-id": identity, "svix-timestamp": stamp, "svix-signature": signature}, body

    def basic(self, number: int) -> Webhook:
        event = {
            "RecordType": "Delivery",
            "MessageID": f"id-{number}",
            "Recipient": "customer@example.com",
            "DeliveredAt": _iso(),
            "Details": "250 OK",
            "Tag": "receipt",
            "Metadata": {},
        }
        credentials = base64.b64encode(f"hooks:{_SECRET}".encode()).decode()
        return "mark", {"Authorization": f"Basic {credentials}"}, json.dumps(event).encode()


@dataclass(frozen=True, slots=True)
class Pace:
    """How often something was done a second: by the clock, and for each second of processor time it took."""

    clock: float
    processor: float


def run(machine: Machine) -> list[Comparison]:
    """Requests against the bare verification of their signatures, in turns; then events."""
    providers = Providers()
    bare: list[Pace] = []
    empty: list[Pace] = []
    paces: dict[str, list[Pace]] = {"ECDSA": [], "HMAC": [], "Basic": []}
    makers: dict[str, Maker] = {"ECDSA": providers.ecdsa, "HMAC": providers.hmac, "Basic": providers.basic}
    for _ in range(ROUNDS):
        bare.append(verifications(providers))
        empty.append(empty_requests(machine, providers))
        for name, make in makers.items():
            paces[name].append(requests(machine, providers, make))
    by_clock = Side("bare ECDSA verifications", [pace.clock for pace in bare], "/s")
    figures = [
        Comparison(
            "ingress",
            Side(f"webhooks, {name}", [pace.clock for pace in rounds], "requests/s"),
            by_clock,
            ">= 0.6" if name == "ECDSA" else "",
        )
        for name, rounds in paces.items()
    ]
    figures += _by_processor(paces["ECDSA"], bare, empty)
    events, posting = zip(*(events_a_second(machine, providers) for _ in range(ROUNDS)), strict=True)
    stored = Side("the same, stored only", posting, "events/s")
    return [*figures, Comparison("ingress", Side("events, projected", events, "events/s"), stored, ">= 5000 events/s")]


def _by_processor(signed: list[Pace], bare: list[Pace], empty: list[Pace]) -> list[Comparison]:
    """The same by processor time: against the verification alone, and against the least any ASGI application costs."""
    ours = Side("webhooks, ECDSA", [pace.processor for pace in signed], "/core s")
    floor = [1 / (1 / alone.processor + 1 / served.processor) for alone, served in zip(bare, empty, strict=True)]
    return [
        Comparison("ingress", ours, Side("bare verifications", [pace.processor for pace in bare], "/core s"), ">= 0.6"),
        Comparison("ingress", ours, Side("empty application and verification", floor, "/core s")),
        Comparison(
            "ingress",
            Side("empty application", [pace.processor for pace in empty], "/core s"),
            Side("bare verifications", [pace.processor for pace in bare], "/core s"),
        ),
    ]


def verifications(providers: Providers) -> Pace:
    """What `cryptography` alone verifies on the endpoint's core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_SERVER})
    try:
        _, headers, body = providers.ecdsa(0)
        signed = headers["X-Twilio-Email-Event-Webhook-Timestamp"].encode() + body
        signature = base64.b64decode(headers["X-Twilio-Email-Event-Webhook-Signature"])
        public = providers.key.public_key()
        began, used = time.perf_counter(), time.thread_time()
        for _ in range(VERIFICATIONS):
            public.verify(signature, signed, ec.ECDSA(SHA256()))
        return Pace(VERIFICATIONS / (time.perf_counter() - began), VERIFICATIONS / (time.thread_time() - used))
    finally:
        os.sched_setaffinity(0, before)


def requests(machine: Machine, providers: Providers, make: Maker) -> Pace:
    """Webhooks answered, all of them kept."""
    with machine.ledger() as environment, _web(machine, providers, environment) as (port, server):
        pace = _pace(machine, port, server, make)
        kept = _scalar(environment, "SELECT count(*) FROM mailglass.webhook_events")
        if kept != WARMING + REQUESTS:
            raise RuntimeError(f"{kept} of {WARMING + REQUESTS} webhooks were kept")
        return pace


def empty_requests(machine: Machine, providers: Providers) -> Pace:
    """The same requests, answered by an application that does nothing with them."""
    with _served(machine, lambda port: ["tests.bench.empty_app", str(port)], _SERVER, {}) as (port, server):
        return _pace(machine, port, server, providers.ecdsa)


def _pace(machine: Machine, port: int, server: psutil.Process, make: Maker) -> Pace:
    _post(machine, port, [make(-1 - number) for number in range(WARMING)])
    webhooks = [make(number) for number in range(REQUESTS)]
    used = _processor_time(server)
    taken = _post(machine, port, webhooks)
    return Pace(REQUESTS / taken, REQUESTS / (_processor_time(server) - used))


def _processor_time(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def events_a_second(machine: Machine, providers: Providers) -> tuple[float, float]:
    """Events posted, kept, understood and projected a second by endpoint and worker on both cores; and only kept."""
    with machine.ledger() as environment, _web(machine, providers, environment, core=None) as (port, _):
        ids = sent(environment, DELIVERIES)
        events = [grid_event(kind, key, f"{kind}-{key}") for kind in _KINDS for key in ids]
        webhooks = [providers.grid(events[start : start + PER_WEBHOOK]) for start in range(0, len(events), PER_WEBHOOK)]
        told, queued = {**environment, **_settings(machine, providers)}, machine.queued("mailglass:mailglass")
        with machine.worker("mailglass", told) as worker:
            get_runtime().doorbell.ring_task(PUMP)
            wait_until(lambda: queued() == 0, worker)
            began = time.perf_counter()
            taken = _post(machine, port, webhooks, core=None)
            with psycopg.connect(environment["MAILGLASS_DATABASE_URL"], autocommit=True) as ledger:
                open_work = "SELECT EXISTS (SELECT 1 FROM mailglass.webhook_events WHERE status = 'received')"
                ended = wait_until(lambda: not (ledger.execute(open_work).fetchone() or [True])[0], worker)
        projected = _scalar(
            environment,
            "SELECT count(*) FROM mailglass.deliveries WHERE delivered_at IS NOT NULL AND opened_at IS NOT NULL",
        )
        if projected != DELIVERIES:
            raise RuntimeError(f"{projected} of {DELIVERIES} deliveries know what happened to them")
        return len(events) / (ended - began), len(events) / taken


def _settings(machine: Machine, providers: Providers) -> dict[str, str]:
    file = machine.scratch / "webhooks.toml"
    file.write_text(providers.config, encoding="utf-8")
    return {**providers.environment, "MAILGLASS_CONFIG": str(file)}


@contextmanager
def _web(
    machine: Machine, providers: Providers, environment: Mapping[str, str], core: int | None = _SERVER
) -> Iterator[tuple[int, psutil.Process]]:
    told = {**environment, **_settings(machine, providers)}
    with _served(machine, lambda port: ["mailglass", "web", "--port", str(port)], core, told) as found:
        yield found


@contextmanager
def _served(
    machine: Machine, module: Callable[[int], list[str]], core: int | None, environment: Mapping[str, str]
) -> Iterator[tuple[int, psutil.Process]]:
    """A server of ours: its port and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    start = ["-m"] if core is None else ["-c", _PINNED, str(core)]
    child = ChildProcess(
        "web",
        [sys.executable, *start, *module(port)],
        log=machine.scratch / "web.log",
        cwd=ROOT,
        env={**plain_environment(), **environment},
        ready=lambda _: _listens(port),
        ready_timeout=60,
    )
    with child:
        yield port, psutil.Process(child.pid)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def _post(machine: Machine, port: int, webhooks: list[Webhook], core: int | None = _CLIENT) -> float:
    """Seconds until all are answered with 200."""
    file = machine.scratch / "requests.pickle"
    file.write_bytes(pickle.dumps([_request(*webhook) for webhook in webhooks]))
    cores = "" if core is None else str(core)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.hammer", str(file), str(port), str(CONNECTIONS), str(PATIENCE), cores],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE + 60,
    )
    result = json.loads(done.stdout)
    if result["statuses"] != {"200": len(webhooks)}:
        raise RuntimeError(f"{len(webhooks)} webhooks were answered {result['statuses']}")
    return float(result["seconds"])


def _request(account: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [
        f"POST /webhooks/{account} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def grid_event(kind: str, delivery: UUID | None, identity: str) -> dict[str, Any]:
    return {
        "event": kind,
        "email": "customer@example.com",
        "timestamp": int(time.time()),
        "sg_event_id": identity,
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        "ip": "192.0.2.1",
        "tls": 1,
        "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>",
        "response": "250 2.0.0 OK",
        "category": ["receipt"],
        "mailglass_id": str(delivery or ""),
    }


def sent(environment: Mapping[str, str], count: int) -> list[UUID]:
    """Deliveries as an engine leaves them after account `grid` has accepted them."""
    ids = uuid7s(count)
    with psycopg.connect(environment["MAILGLASS_DATABASE_URL"], autocommit=True) as ledger:
        ledger.execute(
            """INSERT INTO mailglass.deliveries (id, tenant_id, message_id, stream, queue, status, recipient,
                                                 recipient_domain, account, provider, attempts, sent_at)
               SELECT id, 'default', id, 'transactional', 'mailglass', 'sent', 'customer@example.com', 'example.com',
                      'grid', 'sendgrid', 1, now() FROM unnest(%s::uuid[]) AS id""",
            (ids,),
        )
        ledger.execute("ANALYZE mailglass.deliveries")
    return ids


def _scalar(environment: Mapping[str, str], statement: str) -> Any:
    with psycopg.connect(environment["MAILGLASS_DATABASE_URL"], autocommit=True) as ledger:
        row = ledger.execute(statement).fetchone()  # type: ignore[call-overload]
    return None if row is None else row[0]


def _iso() -> str:
    return datetime.now(UTC).isoformat()
