"""A real PgBouncer in transaction mode as our own child process, from the system's package."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from mailglass.errors import StackError
from mailglass.ledger.pooler import SESSION
from mailglass.stack.directory import write_private
from mailglass.stack.process import ChildProcess, Guardian, until_port
from mailglass.stack.server import EmbeddedServer

COMMANDS = ("/usr/sbin/pgbouncer", "pgbouncer")


class PgBouncer(EmbeddedServer):
    """Our own PgBouncer on 127.0.0.1 before all databases of a server, for one login.

    Args:
        data_dir: keeps configuration and log.
        server_url: of any database on the server, with the login that all sessions have.
        ignore: startup parameters that it takes and does not pass on.
        guardian: ends it if this process cannot; one of its own when left out.
    """

    name = "PgBouncer"
    port_taken = "already in use"

    def __init__(self, data_dir: Path, server_url: str, ignore: str = "", guardian: Guardian | None = None) -> None:
        super().__init__(data_dir, guardian)
        self._server = urlsplit(server_url)
        self._ignore = ignore

    def url(self, direct: str) -> str:
        """Return the URL of a database of the server as it is reached through the pooler."""
        parts = urlsplit(direct)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self._port}"))

    @property
    def port(self) -> int | None:
        return self._port

    def _prepare(self) -> None:
        self._program = find_program()

    def _process(self, port: int) -> ChildProcess:
        server = self._server
        target = f"host={server.hostname} port={server.port or 5432} user={_quoted(server.username or 'postgres')}"
        if server.password:
            target += f" password={_quoted(server.password)}"
        configuration = self._directory / "pgbouncer.ini"
        write_private(
            configuration,
            f"[databases]\n* = {target}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            "unix_socket_dir =\nauth_type = any\npool_mode = transaction\nmax_client_conn = 1000\n"
            f"default_pool_size = 20\nserver_idle_timeout = 5\nserver_login_retry = 0.2\n"
            f"ignore_startup_parameters = {self._ignore}\n"
            "log_connections = 0\nlog_disconnections = 0\n",
        )
        # it refuses to run as root, and changes the user once it has read its configuration
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        return ChildProcess(
            self.name,
            [self._program, *user, str(configuration)],
            log=self.log,
            env=dict(os.environ),
            cwd=Path("/"),
            ready=until_port(port),
            guardian=self._guardian,
        )


def _quoted(part: str) -> str:
    """Return a part of a URL as PgBouncer's configuration takes it."""
    return "'" + unquote(part).replace("'", "''") + "'"


def find_program() -> str:
    """Return the program's path.

    Raises:
        StackError: it is not installed.
    """
    for command in COMMANDS:
        if found := shutil.which(command):
            return found
    raise StackError("PgBouncer is not installed: apt-get install pgbouncer")


def give_sessions(server_url: str, login: str) -> None:
    """Give the role of a login what a pooler does not pass on, in all databases of the server."""
    role = unquote(urlsplit(login).username or "postgres")
    with psycopg.connect(server_url) as connection:
        # another process of this test run does the same
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('give_sessions'))")
        for name, value in SESSION.items():
            statement = sql.SQL("ALTER ROLE {} SET {} = {}").format(
                sql.Identifier(role), sql.Identifier(name), sql.Literal(value)
            )
            connection.execute(statement)
