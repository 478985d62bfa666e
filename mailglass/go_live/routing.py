"""Per-tenant routing: the account, queue and limits of every known tenant and stream."""

from __future__ import annotations

from collections.abc import Iterator

from mailglass.errors import RouteError
from mailglass.go_live.queues import limits_of, rate_of
from mailglass.go_live.report import Answer, Status, counted, judged
from mailglass.go_live.site import Site
from mailglass.ledger import recent
from mailglass.mail.streams import Stream
from mailglass.routing import RouteContext
from mailglass.settings import LimitScope

_ANY = "*"


def tenant_routing(site: Site) -> Answer:
    """Check that every known tenant has a route on each of its streams, and show it."""
    known = known_tenants(site)
    if not known:
        return Answer(Status.FAIL, "no tenant is known", "Set default_tenant, or name tenants in [[routes]]")
    problems: list[str] = []
    details: list[str] = []
    for tenant, streams in known.items():
        lines: dict[str, list[str]] = {}
        for stream in streams:
            try:
                lines.setdefault(_route(site, tenant, stream), []).append(stream)
            except RouteError as error:
                problems.append(str(error))
        details += [f"{tenant} {_streams(streams)}: {line}" for line, streams in lines.items()]
    return judged(
        f"{counted(len(known), 'tenant')} routed on every stream they use",
        list(dict.fromkeys(problems)),
        "Add a route, or correct Tenancy.resolve_route: docs/guides/multi-tenancy.md",
        details,
    )


def known_tenants(site: Site) -> dict[str, list[str]]:
    """Return the tenants that the settings or the newest deliveries name, with their streams, in order."""
    found: dict[str, set[str]] = {}
    for tenant in _configured(site):
        found.setdefault(tenant, set()).update(Stream)
    for tenant, stream in recent.tenants(site.database):
        found.setdefault(tenant, set()).add(stream)
    return {tenant: [stream for stream in Stream if stream in found[tenant]] for tenant in sorted(found)}


def _configured(site: Site) -> Iterator[str]:
    settings = site.settings
    if settings.default_tenant is not None:
        yield settings.default_tenant
    yield from (route.tenant for route in settings.routes if route.tenant != _ANY)
    yield from (account.tenant for account in site.configured.values() if account.tenant is not None)


def _route(site: Site, tenant: str, stream: str) -> str:
    """Return a route as one line.

    Raises:
        RouteError: there is none.
    """
    route = site.router.resolve(RouteContext(tenant, stream))
    parts = [", then ".join(route.accounts), f"queue {route.queue}"]
    if route.concurrency is not None:
        parts.append(f"at most {route.concurrency} at once")
    limits = [rate_of(rule) for rule in limits_of(site.settings.limits, LimitScope.TENANT, tenant)]
    limits += [rate_of(rule) for rule in limits_of(site.settings.limits, LimitScope.STREAM, stream)]
    parts.append(f"limit {', '.join(limits)}" if limits else "no limit of its own")
    return ", ".join(parts)


def _streams(streams: list[str]) -> str:
    return "on every stream" if len(streams) == len(Stream) else f"on {', '.join(streams)}"
