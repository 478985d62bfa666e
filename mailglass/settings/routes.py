"""Routes as they are configured: the array of tables `[[routes]]`."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, fields
from typing import Any

from mailglass.mail.streams import Stream
from mailglass.settings.problems import Problems
from mailglass.settings.values import NAME, domain_name, strings, whole

DEFAULT_QUEUE = "mailglass"
QUEUE = re.compile(r"mailglass(?:\.[a-z0-9_-]{1,40})?\Z")


@dataclass(frozen=True, slots=True)
class Route:
    """Tenant, stream, recipient domain and tag to accounts in order, and a queue. `*` matches any.

    The first route that matches counts. A lane is made of tenant and stream, so its queue is that of the first route
    that names neither domain nor tag.

    Attributes:
        accounts: in order of preference; the next one takes over where one cannot be used.
        tenant: whose mail.
        stream: `transactional`, `operational` or `bulk`.
        queue: `mailglass`, or `mailglass.NAME`, which has workers of its own.
        domain: of the recipient.
        tag: of the message.
        weights: how often each account comes first, by share; empty: always the first.
        failover_after: transient failures on one account before the next one is tried.
        concurrency: how many of a tenant's deliveries may be leased at once, over all workers; None for any number.
    """

    accounts: tuple[str, ...]
    tenant: str = "*"
    stream: str = "*"
    queue: str = DEFAULT_QUEUE
    domain: str = "*"
    tag: str = "*"
    weights: tuple[int, ...] = ()
    failover_after: int = 3
    concurrency: int | None = None


_KEYS = frozenset(item.name for item in fields(Route))


def parse_routes(value: object, accounts: Mapping[str, object], problems: Problems) -> tuple[Route, ...]:
    """Return the routes in order; where none is written and there is one account, the route to it.

    Args:
        value: what stands under `routes`.
        accounts: the accounts there are, by name.
        problems: where what is wrong is noted.
    """
    if not isinstance(value, list):
        problems.add("routes", "wrong type", "Write an array of tables: [[routes]]")
        return ()
    routes: list[Route] = []
    for index, body in enumerate(value):
        if isinstance(body, dict):
            routes.append(_route(f"routes[{index}]", body, accounts, problems))
        else:
            problems.add(f"routes[{index}]", "wrong type", "Write an array of tables: [[routes]]")
    if not routes and len(accounts) == 1:
        return (Route(tuple(accounts)),)
    return tuple(routes)


def _route(key: str, body: dict[str, Any], accounts: Container[str], problems: Problems) -> Route:
    for unknown in sorted(body.keys() - _KEYS):
        problems.add(f"{key}.{unknown}", "unknown setting", f"Known are: {', '.join(sorted(_KEYS))}")
    named = strings(f"{key}.accounts", body.get("accounts", []), problems)
    if not named:
        problems.add(f"{key}.accounts", "empty", "Name at least one account, in order of preference")
    for account in named:
        if account not in accounts:
            problems.add(f"{key}.accounts", f"unknown account {account!r}", f"Add [accounts.{account}] or correct it")
    _check_places(key, body, problems)
    weights = body.get("weights", [])
    if weights and not (
        isinstance(weights, list) and len(weights) == len(named) and all(whole(share, 0) for share in weights)
    ):
        problems.add(f"{key}.weights", "not one share for each account", "Give as many whole numbers as accounts")
        weights = []
    for number in ("failover_after", "concurrency"):
        if number in body and not whole(body[number], 1):
            problems.add(f"{key}.{number}", "not a whole number above zero", "Give 1 or more")
    return Route(
        accounts=named,
        tenant=str(body.get("tenant", "*")),
        stream=str(body.get("stream", "*")),
        queue=str(body.get("queue", DEFAULT_QUEUE)),
        domain=_domain(f"{key}.domain", body.get("domain", "*"), problems),
        tag=str(body.get("tag", "*")),
        weights=tuple(weights),
        failover_after=body.get("failover_after", 3),
        concurrency=body.get("concurrency"),
    )


def _check_places(key: str, body: dict[str, Any], problems: Problems) -> None:
    """Whom the route is for, and where its work waits."""
    tenant, stream, queue = body.get("tenant", "*"), body.get("stream", "*"), body.get("queue", DEFAULT_QUEUE)
    if tenant != "*" and not (isinstance(tenant, str) and NAME.match(tenant)):
        problems.add(f"{key}.tenant", "not a tenant name", "Use a name, or * for any")
    if stream != "*" and stream not in list(Stream):
        problems.add(f"{key}.stream", "not a stream", f"Use {', '.join(Stream)}, or * for any")
    if not (isinstance(queue, str) and QUEUE.match(queue)):
        problems.add(f"{key}.queue", "not a queue name", "Use mailglass, or mailglass.<name>")
    if not isinstance(body.get("tag", "*"), str):
        problems.add(f"{key}.tag", "wrong type", "Give a string, or * for any")


def _domain(key: str, value: object, problems: Problems) -> str:
    """Return the domain as recipients' domains are compared with it."""
    found = value if value == "*" else domain_name(value) if isinstance(value, str) else None
    if found is None:
        problems.add(key, "not a domain", "Give a recipient domain, for example gmail.com, or * for any")
        return "*"
    return str(found)
