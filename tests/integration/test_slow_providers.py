"""A provider that hangs keeps its own mail waiting, and nobody else's."""

from __future__ import annotations

import signal
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import sqlalchemy

from mailglass import Message, deliver_many, tenant
from mailglass.engine import bulkhead
from mailglass.engine.bulkhead import Bulkhead
from mailglass.ledger import deliveries
from mailglass.routing import Lane
from mailglass.runtime import close_runtime
from mailglass_workers import slots

SLOW_LANE = Lane("mailglass", "slow", "transactional")


@dataclass
class SlowProvider:
    """An SMTP port whose connections are taken, and answered once `go` is set."""

    port: int = 0
    taken: list[int] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def provider() -> Iterator[SlowProvider]:
    slow = SlowProvider()

    class Handler(socketserver.StreamRequestHandler):
        timeout = 30

        def handle(self) -> None:
            slow.taken.append(1)
            slow.go.wait(30)
            self.wfile.write(b"220 ready\r\n")
            in_content = False
            while line := self.rfile.readline():
                if in_content and line != b".\r\n":
                    continue
                verb = line[:4].upper()
                in_content = verb == b"DATA"
                self.wfile.write(b"354 go on\r\n" if in_content else b"250 fine\r\n")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        slow.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield slow
        slow.go.set()
        server.shutdown()


@pytest.fixture
def slow_cluster(cluster, provider: SlowProvider):
    """A cluster whose tenant `slow` sends through the slow provider."""
    from mailglass.settings import configure, load_settings

    config = cluster.directory / "mailglass.toml"
    account = f'[accounts.slow]\nprovider = "smtp"\nhost = "127.0.0.1"\nport = {provider.port}\nsecurity = "none"\n'
    account += "connect_timeout = 40.0\n"
    route = '[[routes]]\ntenant = "slow"\naccounts = ["slow"]\n'
    # a busy machine must end neither the lease nor a wait within it before the provider answers
    text = config.read_text(encoding="utf-8").replace("lease = 12", "lease = 80").replace("margin = 6", "margin = 60")
    config.write_text(text.replace("[[routes]]", f"{account}{route}\n[[routes]]", 1), encoding="utf-8")
    configure(load_settings())
    close_runtime()
    return cluster


@pytest.fixture
def walls(slow_cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bulkhead]:
    """A worker of two slots in this process, for which a tenth of a second is slow."""
    for module in (bulkhead, slots):
        monkeypatch.setattr(module, "SLOW", 0.1)
    monkeypatch.setattr(slots, "_LOOK", 0.02)
    walls = Bulkhead(2)
    bulkhead.install(walls)
    yield walls
    slots.wait()
    bulkhead.install(None)


def mails(count: int) -> list[Message]:
    return [Message(to=f"u{number}@example.com", subject="s", text="t") for number in range(count)]


def queue(owner: str, count: int) -> None:
    with tenant(owner):
        deliver_many(mails(count))


def dispatch(lane: Lane) -> None:
    from mailglass_workers import tasks

    tasks.dispatch(str(lane))


def counts(cluster, owner: str) -> dict[str, int]:
    return deliveries.counts(cluster.runtime.database).get(owner, {})


def test_a_slot_does_not_wait_for_a_hanging_provider_and_its_batch_is_recorded_all_the_same(
    slow_cluster, walls: Bulkhead, provider: SlowProvider, wait_for
) -> None:
    queue("slow", 1)
    dispatch(SLOW_LANE)
    assert counts(slow_cluster, "slow") == {"sending": 1}
    provider.go.set()
    wait_for(lambda: counts(slow_cluster, "slow") == {"sent": 1})


def test_mail_without_a_slot_is_left_unclaimed_or_due_later_with_no_attempt_counted(
    slow_cluster, walls: Bulkhead, provider: SlowProvider, wait_for
) -> None:
    queue("slow", 1)
    dispatch(SLOW_LANE)
    queue("slow", 3)
    dispatch(SLOW_LANE)
    waiting = waiting_rows(slow_cluster)
    assert [(row.attempts, row.last_error) for row in waiting] == [(0, "account_slow")] * 3
    slow_cluster.runtime.database.query(
        sqlalchemy.text("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at > now()")
    )
    before = waiting_rows(slow_cluster)
    dispatch(SLOW_LANE)
    assert waiting_rows(slow_cluster) == before
    provider.go.set()
    wait_for(lambda: counts(slow_cluster, "slow").get("sent") == 1)
    wait_for(lambda: walls.has_room("slow"))
    dispatch(SLOW_LANE)
    wait_for(lambda: counts(slow_cluster, "slow") == {"sent": 4})


def waiting_rows(cluster):
    return cluster.runtime.database.query(
        sqlalchemy.text("SELECT id, attempts, last_error, due_at FROM mailglass.deliveries WHERE status = 'queued'")
    )


def test_a_batch_of_fast_and_slow_accounts_sends_the_fast_ones_mail_first(
    slow_cluster, walls: Bulkhead, provider: SlowProvider, wait_for
) -> None:
    config = slow_cluster.directory / "mailglass.toml"
    text = config.read_text(encoding="utf-8")
    routes = '[[routes]]\ntenant = "null"\ndomain = "slow.example"\naccounts = ["slow"]\n'
    config.write_text(text.replace("[[routes]]", f"{routes}\n[[routes]]", 1), encoding="utf-8")
    from mailglass.settings import configure, load_settings

    configure(load_settings())
    close_runtime()
    lane = Lane("mailglass", "null", "transactional")
    queue("null", 1)
    dispatch(lane)
    with tenant("null"):
        deliver_many([Message(to="a@slow.example", subject="s", text="t"), *mails(5)])
    dispatch(lane)
    wait_for(lambda: counts(slow_cluster, "null") == {"sent": 6, "sending": 1})
    provider.go.set()


def test_new_mail_goes_to_the_next_account_while_a_provider_hangs(
    slow_cluster, walls: Bulkhead, provider: SlowProvider, wait_for, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = slow_cluster.directory / "mailglass.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('accounts = ["slow"]', 'accounts = ["slow", "nowhere"]'), encoding="utf-8")
    from mailglass.settings import configure, load_settings

    configure(load_settings())
    close_runtime()
    monkeypatch.setattr(bulkhead, "HANGING", 0.3)
    queue("slow", 1)
    dispatch(SLOW_LANE)
    queue("slow", 5)
    wait_for(lambda: walls.hangs("slow"))
    dispatch(SLOW_LANE)
    wait_for(lambda: counts(slow_cluster, "slow") == {"sending": 1, "sent": 5})


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_other_tenants_mail_leaves_beside_a_provider_that_hangs(
    slow_cluster, outside, provider: SlowProvider, wait_for, pool: str
) -> None:
    slow_cluster.worker("-P", pool, "-c", "2")
    queue("slow", 200)
    wait_for(lambda: provider.taken)
    for number in range(3):
        queue(f"shop{number}", 1)
        wait_for(lambda number=number: counts(slow_cluster, f"shop{number}") == {"sent": 1})
    assert "sent" not in counts(slow_cluster, "slow")
    assert not provider.go.is_set()


def test_a_worker_that_is_told_to_stop_records_what_a_slow_provider_answers(
    slow_cluster, provider: SlowProvider, wait_for
) -> None:
    worker = slow_cluster.worker("-c", "2")
    queue("slow", 1)
    wait_for(lambda: provider.taken)
    # the slots take other work beside it
    for _ in range(4):
        queue("shop", 1)
    wait_for(lambda: counts(slow_cluster, "shop") == {"sent": 4})
    worker.send_signal(signal.SIGTERM)
    provider.go.set()
    worker.wait(60)
    assert counts(slow_cluster, "slow") == {"sent": 1}
