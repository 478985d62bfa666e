"""The whole platform on one machine: servers, lab, web process, worker and beat, started side by side and watched."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from mailglass.demo import databases, surroundings
from mailglass.demo.supervisor import Supervisor, await_ready
from mailglass.demo.surroundings import LabAddress
from mailglass.errors import MailglassError
from mailglass.settings import Settings, load_settings
from mailglass.settings.django import DjangoSettings
from mailglass.stack.directory import write_private
from mailglass.stack.local import LocalStack
from mailglass.stack.process import ChildProcess, free_port, until_line, until_port

_READY_TIMEOUT = 60.0
_POLITE = 12.0
# of `dev`, if they are free: the lab with its page of mails, and its SMTP server
_LAB_PORT, _SMTP_PORT = 8026, 8027


class Platform:
    """Servers and processes of one `mailglass demo` or `mailglass dev`; stops what it started, and only that.

    Attributes:
        root: data, logs, settings and environment file.

    Args:
        root: as above; made when it is missing.
        purpose: `demo` gets a database and a broker of its own for this run, where they are embedded; `dev` keeps
            both from run to run.
        say: told what happens.
        web_port: the web process's, if it is free.
        own: the application's settings, for `dev`: they are run with every account's mail caught.
    """

    def __init__(
        self,
        root: Path,
        purpose: Literal["demo", "dev"],
        say: Callable[[str], None],
        web_port: int | None = None,
        own: Path | DjangoSettings | None = None,
    ) -> None:
        surroundings.tidy(root)
        self._stack = LocalStack(root)
        self.root = self._stack.root
        self._purpose = purpose
        self._say = say
        self._web_port = web_port
        self._own = own
        self._environment: dict[str, str] = {}
        self._lab: LabAddress | None = None
        self._web_url = ""
        self._supervisor = Supervisor(say)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables that an application or a shell needs to work with it."""
        return self._environment

    @property
    def settings(self) -> Settings:
        """The settings of its processes."""
        return load_settings({**os.environ, **self._environment}, self.settings_file)

    @property
    def settings_file(self) -> Path:
        """Path of the settings file."""
        return self.root / ("mailglass.toml" if self._purpose == "dev" else f"{self._purpose}.toml")

    @property
    def environment_file(self) -> Path:
        """Path of the environment file."""
        return self.root / f"{self._purpose}.env"

    @property
    def web_url(self) -> str:
        """Base URL of the web process."""
        return self._web_url

    @property
    def lab(self) -> LabAddress:
        """Address of the lab."""
        assert self._lab is not None
        return self._lab

    @property
    def logs(self) -> Path:
        """Directory of the logs."""
        return self._stack.logs

    @property
    def restarted(self) -> int:
        """Number of times an ended process was started again."""
        return self._supervisor.restarted

    @property
    def children(self) -> Sequence[ChildProcess]:
        """Processes of the platform, in the order of their start."""
        return self._stack.children

    def start(self) -> None:
        """Start all of it.

        Raises:
            StackError: something does not start; names its log and quotes the end of it.
        """
        given = [name for name in surroundings.SERVERS if os.environ.get(name)]
        missing = [server for name, server in surroundings.SERVERS.items() if name not in given]
        self._say(f"starting {', '.join([*missing, 'lab'])}")
        self._stack.start()
        dev = self._purpose == "dev"
        secrets = surroundings.remembered_secrets(self.root / "lab.json") if dev else surroundings.new_secrets()
        ports = (free_port(_LAB_PORT), free_port(_SMTP_PORT)) if dev else (0, 0)
        port = free_port(self._web_port)
        self._web_url = f"http://127.0.0.1:{port}"
        lab = self._stack.spawn("lab", surroundings.lab_command(self._web_url, *ports), secrets)
        self._environment = {
            "MAILGLASS_DATABASE_URL": self._database("MAILGLASS_DATABASE_URL" not in given),
            "MAILGLASS_BROKER_URL": self._broker("MAILGLASS_BROKER_URL" not in given),
            "MAILGLASS_CONFIG": str(self.settings_file),
            **secrets,
        }
        await_ready({lab: until_line(r"(?m)^\{.*\}$")}, _READY_TIMEOUT)
        self._supervisor.add(lab, replaceable=False)
        self._lab = LabAddress.parse(lab.output())
        self._write_settings()
        surroundings.write_environment(self.environment_file, self._environment, given)
        self._say("starting web process, worker, beat")
        self._start_processes(port)

    def reload(self, *, settings: bool) -> None:
        """Start the worker again, because the application's files have changed.

        Args:
            settings: its settings have changed too: they are read again, and beat and web process start again too.

        Raises:
            ConfigError: they are not in order; what runs goes on with those before.
        """
        if settings:
            before = self.settings_file.read_text(encoding="utf-8")
            self._write_settings()
            try:
                _ = self.settings
            except MailglassError:
                write_private(self.settings_file, before)
                raise
        self._supervisor.renew(("worker", "beat", "web") if settings else ("worker",), _POLITE)

    def look(self) -> None:
        """Start again what has ended; to be called every now and then.

        Raises:
            StackError: it ends again and again, or the lab, which cannot be replaced, has ended.
        """
        self._supervisor.look()

    def stop(self) -> None:
        """Stop what was started: the processes first, in their own time, then the servers."""
        try:
            self._supervisor.ask_to_end(_POLITE)
        finally:
            self._stack.stop()

    def _write_settings(self) -> None:
        if self._own is None:
            surroundings.write_settings(self.settings_file, self._purpose, self.lab)
        else:
            surroundings.write_own_settings(self.settings_file, self._own, self.lab)

    def _start_processes(self, web_port: int) -> None:
        celery = [sys.executable, "-m", "celery", "-A", "mailglass"]
        queues = ",".join(self.settings.queue_names)
        worker = [
            *celery,
            "worker",
            "-Q",
            queues,
            "-c",
            "2",
            "-n",
            f"{self._purpose}@%h",
            "--loglevel",
            "warning",
            "--without-gossip",
            "--without-mingle",
        ]
        beat = [*celery, "beat", "--loglevel", "warning"]
        web = [sys.executable, "-m", "mailglass", "web", "--host", "127.0.0.1", "--port", str(web_port)]
        # whether they are ready is read from lines of level info
        env = {**self._environment, "MAILGLASS_LOG_LEVEL": "info", "MAILGLASS_LOG_FORMAT": "json"}
        ready = {
            self._stack.spawn("web", web, env): until_port(web_port),
            self._stack.spawn("worker", worker, env): until_line(r"ready\."),
            self._stack.spawn("beat", beat, env): until_line("beat: Starting"),
        }
        for child in ready:
            self._supervisor.add(child)
        await_ready(ready, _READY_TIMEOUT)

    def _database(self, embedded: bool) -> str:
        url = self._stack.database_url
        if embedded and self._purpose == "demo":
            url = databases.fresh(url)
        from mailglass.ledger.schema import upgrade

        upgrade(url)
        return url

    def _broker(self, embedded: bool) -> str:
        url = self._stack.broker_url
        return databases.flushed(url) if embedded and self._purpose == "demo" else url
