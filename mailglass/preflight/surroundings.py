"""Surroundings of a run: the settings, and the servers and workers that they lead to, each asked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mailglass.celery import app, transport_options, use_settings
from mailglass.ledger.database import Database, get_database
from mailglass.settings import Settings


@dataclass(frozen=True)
class Worker:
    """A worker's answer.

    Attributes:
        name: Celery's name of it, `celery@host`.
        queues: the queues that it consumes.
        processes: concurrency of its pool.
        version: of mailglass; None for a worker too old to say.
        schema: newest revision of the schema that its code knows.
        log_level: as its settings say.
    """

    name: str
    queues: frozenset[str]
    processes: int
    version: str | None = None
    schema: str | None = None
    log_level: str | None = None


class Surroundings:
    """The things that the checks look at. Each is asked once, when the first check needs it.

    Args:
        settings: of this process.
        online: providers may be called.
        timeout: seconds to wait for the broker, and for the workers' answers.
        expected: workers that are known to run. Once so many have answered, nobody is waited for.
    """

    def __init__(
        self, settings: Settings, *, online: bool = False, timeout: float = 2.0, expected: int | None = None
    ) -> None:
        self.settings = settings
        self.online = online
        self.timeout = timeout
        self.expected = expected

    @cached_property
    def database(self) -> Database:
        """The ledger.

        Raises:
            ConfigError: no database is configured, or its URL cannot be read.
        """
        return get_database(self.settings.require_database(), self.settings.pooled)

    @cached_property
    def workers(self) -> list[Worker]:
        """The workers that answered within the timeout, by name.

        Raises:
            ConfigError: no broker is configured.
            OSError, kombu.exceptions.OperationalError: the broker cannot be reached.
        """
        broker = self.settings.require_broker()
        use_settings(self.settings)
        options = transport_options(broker, self.settings)
        with app.connection_for_write(connect_timeout=self.timeout, transport_options=options) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=self.timeout)
            queues = self._ask(connection, "active_queues")
            names = sorted(queues)
            stats = self._ask(connection, "stats", names)
            own = self._ask(connection, "mailglass", names)
        return [
            Worker(
                name,
                frozenset(str(queue["name"]) for queue in queues[name]),
                int(_mapping(stats.get(name)).get("pool", {}).get("max-concurrency") or 1),
                **{key: _mapping(own.get(name)).get(key) for key in ("version", "schema", "log_level")},
            )
            for name in names
        ]

    def _ask(self, connection: Any, command: str, names: list[str] | None = None) -> dict[str, Any]:
        """Return each worker's answer to a command. Those that are named are waited for no longer than needed."""
        if names == []:
            return {}
        answers = app.control.broadcast(
            command,
            reply=True,
            timeout=self.timeout,
            connection=connection,
            destination=names,
            limit=self.expected if names is None else len(names),
        )
        return {name: answer for item in answers or [] for name, answer in item.items()}


def _mapping(answer: Any) -> Mapping[str, Any]:
    # an error, of a worker that does not know the command, is a mapping too: without the keys
    return answer if isinstance(answer, Mapping) else {}
