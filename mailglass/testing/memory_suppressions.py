"""The suppression list of a ledger in memory: the statements by which an application adds, checks and removes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from mailglass.ledger.database import Rows
from mailglass.testing.array_literals import elements

_FAR = datetime.max.replace(tzinfo=UTC)


class MemorySuppressions:
    """A suppression list in memory.

    Args:
        now: returns the ledger's time.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._entries: dict[tuple[str, str, str, str], Any] = {}

    @property
    def statements(self) -> dict[str, Callable[[Mapping[str, Any]], Rows]]:
        """Return the answers to statements, by their names."""
        return {
            "suppress": self._suppress,
            "unsuppress": self._unsuppress,
            "suppressions_of": self._of,
            "blocked_copies": self._blocked,
            "audit": lambda params: [],
        }

    def scope(self, tenant: str, stream: str | None, key: str, domain: str) -> str | None:
        """Return the scope of an entry that stops a mail, or None."""
        return min((entry.scope for entry in self._live(tenant, stream, key, domain)), default=None)

    def _live(self, tenant: str, stream: str | None, key: str, domain: str) -> Iterator[Any]:
        for entry in self._entries.values():
            if (
                entry.tenant_id in (tenant, "*")
                and entry.value == (domain if entry.scope == "domain" else key)
                and (stream is None or entry.stream in ("", stream))
                and _end(entry) > self._now()
            ):
                yield entry

    def _suppress(self, params: Mapping[str, Any]) -> Rows:
        names = ("ids", "values", "tenants", "scopes", "streams", "reasons", "sources", "accounts", "expires")
        written = []
        for id_, value, tenant, scope, stream, reason, source, account, expires in zip(
            *(elements(params[name]) for name in names), strict=True
        ):
            entry = SimpleNamespace(
                id=UUID(id_),
                tenant_id=tenant,
                scope=scope,
                value=value,
                stream=stream,
                reason=reason,
                source=source,
                account=account,
                created_at=self._now(),
                expires_at=None if expires is None else datetime.fromisoformat(expires),
            )
            key = (str(value), str(tenant), str(scope), str(stream))
            if self._gives_way(self._entries.get(key), entry):
                self._entries[key] = entry
                written.append(SimpleNamespace(id=entry.id))
        return written

    def _gives_way(self, standing: Any, entry: Any) -> bool:
        """Return whether an entry is written over the one that stands."""
        if standing is None or _end(standing) <= self._now():
            return True
        return (standing.reason != "complaint" and entry.reason == "complaint") or _end(standing) < _end(entry)

    def _unsuppress(self, params: Mapping[str, Any]) -> Rows:
        key = (params["value"], params["tenant"], str(params["scope"]), params["stream"])
        entry = self._entries.get(key)
        if entry is None or (entry.reason == "complaint" and not params["force"]):
            return []
        del self._entries[key]
        return [SimpleNamespace(id=entry.id)]

    def _of(self, params: Mapping[str, Any]) -> Rows:
        found = self._live(params["tenant"], None, params["key"], params["domain"])
        return sorted(found, key=lambda entry: (entry.scope, entry.stream))

    def _blocked(self, params: Mapping[str, Any]) -> Rows:
        pairs = zip(params["keys"], params["domains"], strict=True)
        return [
            SimpleNamespace(key=key)
            for key, domain in pairs
            if self.scope(params["tenant"], params["stream"], key, domain) is not None
        ]


def _end(entry: Any) -> datetime:
    end: datetime | None = entry.expires_at
    return _FAR if end is None else end
