"""Where the mails arrive: Postfix's smtp-sink, and the stand-in for Postmark. Both tell each mail and its moment."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mailglass.stack.process import ChildProcess, Guardian, free_port, until_port
from tests.bench.machine import ROOT

DELAY_MS = 50
SINK = "smtp-sink"
_RECIPIENT = re.compile(rb"^X-Rcpt-Args: <customer(\d+)@", re.MULTILINE)
Moments = dict[int, list[float]]


class Receiver(ABC):
    """A server that accepts mails, in a process of its own."""

    def __init__(self, scratch: Path, guardian: Guardian) -> None:
        self.port = free_port()
        self._child = ChildProcess(
            type(self).__name__,
            self._argv(),
            log=scratch / "receiver.log",
            cwd=ROOT,
            ready=until_port(self.port),
            guardian=guardian,
        )

    def __enter__(self) -> Self:
        self._child.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.stop()

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """How the contestants find it."""

    @abstractmethod
    def arrived(self) -> int:
        """How many mails have arrived, the same one counted as often as it did; cheap."""

    @abstractmethod
    def report(self) -> Moments:
        """When each mail was accepted, by number, as often as it was."""

    @abstractmethod
    def _argv(self) -> list[str | Path]:
        """The server's program and arguments."""


class PostmarkStandIn(Receiver):
    """Answers each request after 50 ms, whatever number of mails it has."""

    @property
    def environment(self) -> dict[str, str]:
        return {"PEERS_POSTMARK_URL": f"http://127.0.0.1:{self.port}"}

    def arrived(self) -> int:
        total: int = self._get("count")[1]
        return total

    def report(self) -> Moments:
        return {int(number): moments for number, moments in self._get("report").items()}

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10) as answer:
            return json.load(answer)

    def _argv(self) -> list[str | Path]:
        return [sys.executable, "-m", "tests.bench.peers.standin", str(self.port), str(DELAY_MS)]


class SmtpSink(Receiver):
    """Postfix's sink, which writes each mail into a file of its own, in memory where the system has such a place.

    A file's time is when the sink had the whole mail, to a clock tick of some milliseconds; a mail that was cut off
    lacks its closing boundary and does not count.
    """

    def __init__(self, scratch: Path, guardian: Guardian) -> None:
        memory = Path("/dev/shm")
        self._directory = Path(
            tempfile.mkdtemp(prefix="mailglass-sink-", dir=memory if os.access(memory, os.W_OK) else scratch)
        )
        guardian.sweep(self._directory)
        self._directory.chmod(0o777)
        super().__init__(scratch, guardian)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        return {"PEERS_SMTP_PORT": str(self.port)}

    def arrived(self) -> int:
        return len(os.listdir(self._directory))

    def report(self) -> Moments:
        moments: Moments = {}
        for path in self._directory.iterdir():
            content = path.read_bytes()
            found = _RECIPIENT.search(content)
            if found and content.rstrip().endswith(b"--"):
                moments.setdefault(int(found[1]), []).append(path.stat().st_mtime)
        return moments

    def _argv(self) -> list[str | Path]:
        privileges = ["-u", "nobody"] if os.geteuid() == 0 else []
        return [SINK, *privileges, "-d", f"{self._directory}/mail.", f"127.0.0.1:{self.port}", "1024"]
