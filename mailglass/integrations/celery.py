"""mailglass's worker beside the worker of your own Celery app, as Celery's `-B` runs beat.

    from celery import Celery
    from mailglass.integrations.celery import embed_worker

    app = Celery("shop")
    embed_worker(app)

`celery -A shop worker -c 4 --mailglass 10` then runs four processes for your tasks, and a worker of mailglass with ten
threads as a child process. The child has mailglass's own app, with its broker, acknowledgements, time limits and
prefetch, so neither app changes anything for the other.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import click
from celery import Celery, bootsteps

from mailglass import clock, telemetry
from mailglass.errors import MailglassError
from mailglass.settings import get_settings

OPTION: Final = "mailglass"

# seconds until a child that ended is started again: twice as long each time, and anew after one that has lived
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_LIVED: Final = 60.0
# seconds between two looks of the child at its parent
_LOOK_EVERY: Final = 1.0
# seconds that a child is given to end where no settings say it
_LEASE: Final = 120.0


def embed_worker(app: Celery) -> None:
    """Add the option `--mailglass THREADS` to `celery worker` of your app.

    >>> from celery import Celery
    >>> from mailglass.integrations.celery import embed_worker
    >>> app = Celery("shop", set_as_current=False)
    >>> embed_worker(app)
    >>> [option.name for option in app.user_options["worker"]]
    ['mailglass']

    A worker that is started with it also runs a worker of mailglass, in a process of its own, for all queues of the
    settings. It starts that process again if it ends, and stops it when it stops itself. If your worker is killed, the
    process ends by itself, after its running tasks.

    Args:
        app: your Celery app.
    """
    option = click.Option(
        [f"--{OPTION}"],
        type=click.IntRange(min=1),
        metavar="THREADS",
        help="Also run mailglass's worker, as a process with this many threads.",
    )
    app.user_options["worker"].add(option)
    app.steps["worker"].add(EmbeddedWorker)


class EmbeddedWorker(bootsteps.StartStopStep):
    """Bootstep that runs mailglass's worker as a child process."""

    # whose processes are forked before the thread of this one runs
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, mailglass: int | None = None, **_: Any) -> None:
        self.enabled = mailglass is not None
        self._child = Child(_command(worker, mailglass or 1))

    def start(self, worker: Any) -> None:
        """Start the process."""
        self._child.start()

    def stop(self, worker: Any) -> None:
        """Stop the process as Celery's warm shutdown does, and wait for its running tasks."""
        self._child.stop(signal.SIGTERM)

    def terminate(self, worker: Any) -> None:
        """Stop the process as Celery's cold shutdown does: its tasks get the time that mailglass gives them."""
        self._child.stop(signal.SIGQUIT)


def _command(worker: Any, threads: int) -> list[str]:
    level = worker.loglevel
    return [
        sys.executable,
        *("-m", __name__, str(os.getpid()), "-P", "threads", "-c", str(threads), "-n", f"mailglass-{worker.hostname}"),
        *("-l", level if isinstance(level, str) else logging.getLevelName(level or logging.WARNING)),
    ]


class Child:
    """A process that is started again if it ends by itself.

    Args:
        command: its arguments.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process, and a thread that waits for its end."""
        threading.Thread(target=self._supervise, name="mailglass worker", daemon=True).start()

    def stop(self, number: signal.Signals) -> None:
        """End the process, and wait for it as long as it may hold what it has claimed.

        Args:
            number: the signal that asks it to end.
        """
        with self._lock:
            self._ended.set()
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(_lease())
        except subprocess.TimeoutExpired:
            # its leases have expired, so it could record nothing any more
            process.kill()
            process.wait()

    def _supervise(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            with self._lock:
                if self._ended.is_set():
                    return
                began = clock.monotonic()
                self._process = process = self._started()
            status = process.wait() if process is not None else None
            if self._ended.is_set():
                return
            telemetry.emit("mailglass.worker.ended", level=logging.ERROR, status=status)
            pause = _FIRST_PAUSE if clock.monotonic() - began > _LIVED else min(2 * pause, _LONGEST_PAUSE)
            self._ended.wait(pause)

    def _started(self) -> subprocess.Popen[bytes] | None:
        """Start the process; None if the system has none to spare, which is tried again."""
        try:
            return subprocess.Popen(self._command)
        except OSError:
            return None


def _lease() -> float:
    try:
        return get_settings().engine.lease
    except MailglassError:
        return _LEASE


def _end_with(parent: int) -> None:
    """Ask this process to end when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)


def _main(parent: int, options: Sequence[str]) -> None:
    """Run mailglass's worker for all queues of the settings, until its parent is gone."""
    from mailglass.celery import app

    threading.Thread(target=_end_with, args=(parent,), name="mailglass parent", daemon=True).start()
    try:
        queues = get_settings().queue_names
    except MailglassError as error:
        sys.stderr.write(f"mailglass worker: {error}\n")
        raise SystemExit(1) from None
    app.worker_main(["worker", "-Q", ",".join(queues), *options])


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2:])
