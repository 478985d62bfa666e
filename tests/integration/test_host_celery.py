"""mailglass within an application's own Celery app: in its tasks, and beside its worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from celery import Celery, group

from mailglass import Message, deliver_later
from mailglass.ledger import deliveries
from mailglass.stack.process import ChildProcess, until_line
from tests.cluster import Cluster, Outside

# another broker, another serializer, the default app of its process, and an embedded worker if it is asked for
SHOP = """
import os
from celery import Celery, chain, group, shared_task
from mailglass import Message, deliver_later, tenant
from mailglass.integrations.celery import embed_worker

folder = os.environ["SHOP_FOLDER"]
app = Celery("shop", broker="filesystem://")
app.set_default()
app.conf.update(
    broker_transport_options={"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder},
    task_serializer="pickle",
    accept_content=["pickle"],
    task_default_queue="shop",
    task_acks_late=False,
    worker_prefetch_multiplier=4,
)
embed_worker(app)


def message(number, **fields):
    key = f"k{number}"
    return Message(to=f"u{number}@example.com", subject="Receipt", text="Thank you.", idempotency_key=key, **fields)


@app.task
def order(number):
    deliver_later.delay(message(number))


@app.task
def newsletter(number):
    deliver_later.delay(message(number, stream="bulk"))


@shared_task
def in_canvas(number):
    with tenant("acme"):
        group(deliver_later.s(message(f"{number}-{each}")) for each in range(2)).apply_async()
        deliver_later.s(message(f"{number}-s")).apply_async(countdown=0.1)


@app.task(bind=True)
def ordered_in_a_chain(self, number):
    chain(order.si(f"{number}-a"), order.si(f"{number}-b")).apply_async()
"""


@pytest.fixture
def shop(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ChildProcess]:
    """Starts workers of the application's app."""
    folder = cluster.directory / "broker"
    folder.mkdir()
    (cluster.directory / "shop.py").write_text(SHOP, encoding="utf-8")
    monkeypatch.setenv("SHOP_FOLDER", str(folder))

    def worker(*options: str, ready: str = r"@\S+ ready\.", name: str = "shop") -> ChildProcess:
        child = ChildProcess(
            name,
            [sys.executable, "-m", "celery", "-A", "shop", "worker", "-l", "info", "-n", f"{name}@%h", *options],
            log=cluster.directory / f"{name}.log",
            # Celery refuses pickle to root, as whom containers run tests
            env={**os.environ, **cluster.environment, "C_FORCE_ROOT": "1", "PYTHONUNBUFFERED": "1"},
            cwd=cluster.directory,
            ready=until_line(ready),
            ready_timeout=60,
            guardian=cluster.guardian,
        )
        cluster.stack.callback(child.stop)
        return child.start()

    return worker


def call(cluster: Cluster, task: str, numbers: range) -> None:
    """Call a task of the application's from another process of it."""
    code = f"import shop\nfor number in {numbers!r}: shop.{task}.delay(number)"
    subprocess.run(
        [sys.executable, "-c", code], cwd=cluster.directory, env={**os.environ, **cluster.environment}, check=True
    )


def counts(cluster: Cluster) -> dict[str, dict[str, int]]:
    return deliveries.counts(cluster.runtime.database)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_tasks_of_another_app_record_mail_that_a_worker_of_mailglass_sends(
    cluster: Cluster, outside: Outside, shop: Callable[..., ChildProcess], wait_for: Callable[..., None], pool: str
) -> None:
    shop("-P", pool, "-c", "2")
    call(cluster, "order", range(3))
    call(cluster, "in_canvas", range(3))
    call(cluster, "ordered_in_a_chain", range(1))
    wait_for(lambda: counts(cluster) == {"acme": {"queued": 9}, "default": {"queued": 5}}, timeout=60)
    # the application's worker has rung on mailglass's broker
    assert cluster.rings.count() >= 1
    cluster.worker("-P", "threads", "-c", "2")
    wait_for(lambda: counts(cluster) == {"acme": {"sent": 9}, "default": {"sent": 5}}, timeout=60)
    assert len(outside.mails) == 14


def test_calls_record_although_an_app_runs_its_tasks_eagerly(cluster: Cluster) -> None:
    shop = Celery("shop", broker="memory://")
    shop.conf.task_always_eager = True
    shop.conf.task_serializer = "yaml"
    before = shop.set_default

    @shop.task
    def send(to: str) -> str:
        return deliver_later.delay(Message(to=to, subject="Receipt", text="Thank you.")).id

    try:
        before()
        shop.set_current()
        assert deliver_later.app.main == "mailglass"
        assert deliveries.get(cluster.runtime.database, send.delay("a@example.com").get()).status == "queued"
        mixed = group([send.s("b@example.com"), deliver_later.s(Message(to="c@example.com", subject="s", text="t"))])
        recorded, called = mixed.apply_async().results[::-1]
        assert (recorded.state, called.state) == ("queued", "SUCCESS")
    finally:
        from mailglass.celery import app

        app.set_default()
        app.set_current()
    assert counts(cluster) == {"default": {"queued": 3}}
    assert cluster.rings.count() == 1


# one worker for both


def embedded(child: ChildProcess) -> psutil.Process:
    """The process of mailglass's worker beside a worker."""
    assert child.pid is not None
    (found,) = [
        process
        for process in psutil.Process(child.pid).children()
        if "mailglass.integrations.celery" in process.cmdline()
    ]
    return found


READY = r"mailglass-shop@\S+ ready\."
POOLS = (("-P", "prefork", "-c", "2"), ("-P", "threads", "-c", "2"))


@pytest.mark.parametrize(
    ("pool", "number"), [(POOLS[0], signal.SIGTERM), (POOLS[1], signal.SIGQUIT)], ids=["prefork", "threads"]
)
def test_an_embedded_worker_sends_mail_of_the_apps_tasks_and_stops_with_it(
    cluster: Cluster,
    outside: Outside,
    shop: Callable[..., ChildProcess],
    wait_for: Callable[..., None],
    pool: tuple[str, ...],
    number: signal.Signals,
) -> None:
    worker = shop(*pool, "--mailglass", "2", ready=READY)
    child = embedded(worker)
    call(cluster, "order", range(5))
    wait_for(lambda: counts(cluster) == {"default": {"sent": 5}}, timeout=60)
    assert worker.pid is not None
    os.kill(worker.pid, number)
    wait_for(lambda: not worker.running, timeout=60)
    assert not child.is_running()
    assert len(outside.mails) == 5


def test_tasks_of_the_app_run_while_the_embedded_worker_cannot_start(
    cluster: Cluster, shop: Callable[..., ChildProcess], wait_for: Callable[..., None]
) -> None:
    environment = {**cluster.environment}
    cluster.environment["MAILGLASS_LOG_LEVEL"] = "loud"
    worker = shop("-P", "threads", "-c", "1", "--mailglass", "1")
    cluster.environment.clear()
    cluster.environment.update(environment)
    # it says why each time
    wait_for(lambda: worker.output().count("mailglass worker: ") >= 2, timeout=60)
    assert worker.running and "Traceback" not in worker.output()


def test_a_worker_without_the_option_has_none_of_mailglass_beside_it(
    cluster: Cluster, shop: Callable[..., ChildProcess]
) -> None:
    worker = shop("-P", "threads", "-c", "1")
    assert worker.pid is not None
    assert psutil.Process(worker.pid).children() == []


@pytest.mark.parametrize("pool", POOLS, ids=["prefork", "threads"])
def test_no_mail_is_lost_or_sent_twice_when_both_are_killed(
    cluster: Cluster,
    outside: Outside,
    shop: Callable[..., ChildProcess],
    wait_for: Callable[..., None],
    pool: tuple[str, ...],
) -> None:
    worker = shop(*pool, "--mailglass", "2", ready=READY)
    child = embedded(worker)
    # of whose stream nothing is sent again that may have been sent
    call(cluster, "newsletter", range(30))
    wait_for(lambda: len(outside.mails) >= 5, timeout=60)
    child.kill()
    # the same worker starts it again
    wait_for(lambda: any(process.pid != child.pid for process in _embedded(worker)), timeout=60)
    (second,) = _embedded(worker)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    # it ends by itself, and a worker that is started meanwhile shares the work with it
    shop(*pool, "--mailglass", "2", ready=READY.replace("shop", "again"), name="again")
    wait_for(lambda: not second.is_running(), timeout=60)
    wait_for(lambda: not {"queued", "claimed", "sending"} & set(counts(cluster)["default"]), timeout=90)
    found = deliveries.find(cluster.runtime.database)
    assert {delivery.status for delivery in found} <= {"sent", "uncertain", "held"}
    assert all(outside.received[str(delivery.id)] == 1 for delivery in found if delivery.status == "sent")
    assert max(outside.received.values()) == 1


def _embedded(child: ChildProcess) -> list[psutil.Process]:
    try:
        return [embedded(child)]
    except (ValueError, psutil.Error):
        return []


def test_help_of_the_workers_command_shows_the_option(cluster: Cluster, shop: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "shop", "worker", "--help"],
        cwd=cluster.directory,
        env={**os.environ, **cluster.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--mailglass THREADS" in done.stdout
