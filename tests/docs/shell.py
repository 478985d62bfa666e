"""Runs the commands of a page: those of mailglass in this process, servers until they are ready, others by a shell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Final

from mailglass import clock
from mailglass.cli import run
from mailglass.runtime import close_runtime
from mailglass.settings import configure
from mailglass.stack.postgres import find_binaries
from mailglass.stack.process import ChildProcess, Guardian, free_port, until_line

_ID: Final = re.compile(r"\b0199c6f\d-…|\b0198c0de-[0-9a-f-]{27}")
_SHELL: Final = re.compile(r"[|<>$&;`]")
_READY: Final = {
    re.compile(r"celery .*\bworker\b"): r"ready\.",
    re.compile(r"celery .*\bbeat\b"): "beat: Starting",
    re.compile(r"mailglass web(?: |$)|uvicorn |gunicorn |granian "): "running on|Listening at|startup complete",
}
# commands whose exit code is an answer: a fault that they found, or that there is nothing
ANSWERS: Final = frozenset(
    {
        "preflight",
        "doctor",
        "mail-doctor",
        "go-live",
        "config check",
        "secrets check",
        "install",
        "probe",
        "suppressions show",
    }
)
_ANSWERS: Final = (0, 1, 2, 3)
# commands that print the same wherever they run, so what a page shows of it is compared
ALWAYS_THE_SAME: Final = frozenset({"mail-doctor", "sizing"})


@dataclass
class Shell:
    """Shell in which the commands of a page run.

    Attributes:
        directory: the page's own.
        environment: of programs that are started, beside that of this process.
        delivery: returns the id of a delivery that a subcommand of `mailglass deliveries` can work on.
        resolver: the address of the DNS server that has the page's records.
    """

    directory: Path
    environment: Mapping[str, str]
    guardian: Guardian
    delivery: Callable[[str], str]
    resolver: str

    def run(self, block: str) -> str:
        """Run a block's commands in their order, and return what they print."""
        return "\n".join([self._run(self._filled(line), shown) for line, shown in commands(block)])

    def _run(self, line: str, shown: Sequence[str]) -> str:
        server = next((ready for words, ready in _READY.items() if words.match(line)), None)
        if server is not None:
            self._serve(shlex.split(line, comments=True), server)
            return ""
        if line.startswith("mailglass ") and not _SHELL.search(re.sub(r"\s#.*", "", line)):
            return self._command(shlex.split(line, comments=True)[1:], shown)
        return self._by_bash(line)

    def _filled(self, line: str) -> str:
        """Put real ids, free ports and moments to come for those that a page shows."""
        words = line.split()
        action = words[2] if words[:2] == ["mailglass", "deliveries"] and len(words) > 2 else ""
        line = _ID.sub(lambda _: self.delivery(action), line)
        if "--port" not in line:
            line = re.sub(r"^mailglass web(?= |$)", "mailglass web --port 1", line)
        tomorrow = clock.now() + timedelta(days=1)
        line = re.sub(r"(--at) \d{4}-\S+", f"\\1 {tomorrow:%Y-%m-%dT%H:%MZ}", line)
        return re.sub(r"(--port[ =])\d+", lambda found: f"{found[1]}{free_port(None)}", line)

    def _command(self, words: list[str], shown: Sequence[str]) -> str:
        name = " ".join(words[:2])
        if words[0] in ("mail-doctor", "go-live") and not {"--resolver", "--explain"} & set(words):
            words = [*words, "--resolver", self.resolver]
        output = TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True)
        with redirect_stdout(output), redirect_stderr(output):
            code = run(words)
        configure(None)
        close_runtime()
        allowed = _ANSWERS if ANSWERS & {words[0], name} else (0,)
        output.seek(0)
        printed = output.read()
        assert code in allowed, f"`mailglass {shlex.join(words)}` exited with {code}: {printed}"
        if words[0] in ALWAYS_THE_SAME:
            for line in shown:
                assert any(said.startswith(line) for said in printed.splitlines()), (line, printed)
        return printed

    def _serve(self, words: list[str], ready: str) -> None:
        program = {"mailglass": ["-m", "mailglass"], "celery": ["-m", "celery"], "uvicorn": ["-m", "uvicorn"]}
        name = words[0]
        child = ChildProcess(
            name,
            [sys.executable, *program[name], *words[1:]] if name in program else words,
            log=self.directory / f"{name}.log",
            env=self._all_environment(),
            cwd=self.directory,
            ready=until_line(ready),
            ready_timeout=60,
            guardian=self.guardian,
        )
        try:
            child.start()
        finally:
            child.stop()

    def _by_bash(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", line],
            cwd=self.directory,
            env=self._all_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == 0, f"`{line}` exited with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def _all_environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), str(find_binaries()), os.environ["PATH"]])
        return {**os.environ, **self.environment, "PATH": path, "PYTHONUNBUFFERED": "1"}


def commands(block: str) -> list[tuple[str, list[str]]]:
    """Return the command lines of a block, each with what it prints; lines that go on in the next one are joined."""
    lines = block.replace("\\\n", " ").splitlines()
    console = any(line.startswith("$ ") for line in lines)
    found: list[tuple[str, list[str]]] = []
    for line in filter(str.strip, lines):
        if line.startswith("$ ") if console else not line.startswith("#"):
            found.append((line.removeprefix("$ ").strip(), []))
        elif found and "..." not in line:
            found[-1][1].append(line if console else line.removeprefix("# "))
    return found
