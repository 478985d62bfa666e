"""A real RabbitMQ as our own child process, from the system's package."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import urllib.request
from base64 import b64encode
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mailglass.errors import StackError
from mailglass.stack.directory import write_private
from mailglass.stack.process import ChildProcess, Guardian, free_port, until_line, until_port
from mailglass.stack.server import EmbeddedServer

# Debian's `rabbitmq-server` on PATH works for root and the user rabbitmq only, in /var/lib and /var/log; this is the
# script behind it, which works for anybody and anywhere
COMMANDS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
_USER = "mailglass"
_LONGEST_STOP = 2.0


class RabbitServer(EmbeddedServer):
    """Our own RabbitMQ on 127.0.0.1, at free ports, with a password, and nothing left of it after `stop`.

    Its clients meet in a virtual host that `renew` replaces by an empty one. The management plugin makes those; it is
    slow to stop, long after the broker in it has closed.

    Args:
        data_dir: keeps data, configuration and log.
        guardian: ends the server if this process cannot; one of its own when left out.
    """

    name = "RabbitMQ"
    port_taken = "eaddrinuse"

    def __init__(self, data_dir: Path, *, guardian: Guardian | None = None) -> None:
        super().__init__(data_dir, guardian)
        self._password = secrets.token_urlsafe(24)
        self._program = ""
        # the distribution's name server, which would become a daemon if the node started it
        self._epmd: ChildProcess | None = None
        self._management = 0
        self._vhosts = (f"test{number}" for number in count())
        self._vhost = ""

    def url(self) -> str:
        """Where it listens, with the password and the virtual host; the same after `stop` and `start`."""
        return f"amqp://{_USER}:{self._password}@127.0.0.1:{self._port}/{self._vhost}"

    def start(self) -> None:
        super().start()
        if not self._vhost:
            self.renew()

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop(_LONGEST_STOP)
        super().stop()

    def renew(self) -> None:
        """Replace the virtual host by an empty one: whoever is connected to the old one is cut off."""
        old, self._vhost = self._vhost, next(self._vhosts)
        self._manage("PUT", f"vhosts/{self._vhost}")
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self._manage("PUT", f"permissions/{self._vhost}/{_USER}", everything)
        if old:
            self._manage("DELETE", f"vhosts/{old}")

    def flush(self) -> None:
        """Forget every message that waits in a durable queue; the others are somebody's connection's own."""
        for name in self.queues():
            self._manage("DELETE", f"queues/{self._vhost}/{quote(name, safe='')}/contents")

    def queues(self) -> list[str]:
        """The durable queues that exist."""
        found = self._manage("GET", f"queues/{self._vhost}?columns=name,durable")
        return [queue["name"] for queue in found if queue["durable"]]

    def queue(self, name: str) -> dict[str, Any]:
        """How a queue was declared."""
        columns = "name,type,durable,auto_delete,exclusive,arguments"
        declared: dict[str, Any] = self._manage("GET", f"queues/{self._vhost}/{quote(name, safe='')}?columns={columns}")
        return declared

    def cut_connections(self) -> int:
        """Close every connection, as an idle one is closed by the server, by its death, or by a firewall between.

        Returns:
            How many there were.
        """
        connections = self._manage("GET", "connections?columns=name")
        for connection in connections:
            self._manage("DELETE", f"connections/{quote(connection['name'], safe='')}")
        return len(connections)

    def _manage(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._management}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Basic {b64encode(f'{_USER}:{self._password}'.encode()).decode()}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def _prepare(self) -> None:
        self._program = find_program()

    def _process(self, port: int) -> ChildProcess:
        self._stop_epmd()
        epmd_port, distribution_port, self._management = free_port(), free_port(), free_port()
        environment = self._environment(epmd_port, distribution_port)
        write_private(
            self._directory / "rabbitmq.conf",
            f"listeners.tcp.1 = 127.0.0.1:{port}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self._management}\n"
            "management_agent.disable_metrics_collector = true\n"
            f"default_user = {_USER}\ndefault_pass = {self._password}\n"
            # a small disk is no concern of a test
            "disk_free_limit.absolute = 1MB\n",
        )
        write_private(self._directory / "plugins", "[rabbitmq_management].\n")
        self._epmd = ChildProcess(
            "epmd",
            ["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"],
            log=self._directory / "epmd.log",
            env=environment,
            cwd=self._directory,
            ready=until_port(epmd_port),
            guardian=self._guardian,
        ).start()
        return ChildProcess(
            self.name,
            [self._program],
            log=self.log,
            env=environment,
            cwd=self._directory,
            ready=until_line(r"completed with \d+ plugins"),
            ready_timeout=90,
            guardian=self._guardian,
        )

    def _environment(self, epmd_port: int, distribution_port: int) -> dict[str, str]:
        """Nothing of the system's own RabbitMQ: neither its files, its node, its cookie nor its ports."""
        own = self._directory
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            # under systemd the script becomes the server, whose end then is the end of it all
            "NOTIFY_SOCKET": str(own / "nobody-listens"),
            "HOME": str(own),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_NODENAME": "mailglass@localhost",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(own / "no-rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(own / "no-advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(own / "mnesia"),
            "RABBITMQ_PID_FILE": str(own / "rabbitmq.pid"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 2:2 -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }

    def _let_go(self) -> None:
        self._stop_epmd()
        super()._let_go()

    def _stop_epmd(self) -> None:
        if self._epmd is not None:
            self._epmd.stop()
            self._epmd = None


def find_program() -> str:
    """The server's start script.

    Raises:
        StackError: it is not installed.
    """
    for command in COMMANDS:
        if found := shutil.which(command):
            return found
    raise StackError("RabbitMQ is not installed: apt-get install rabbitmq-server")
