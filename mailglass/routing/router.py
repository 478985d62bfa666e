"""Routes: from tenant, stream, domain and tag to accounts in order, and to a queue."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from uuid import UUID

from mailglass.errors import ConfigError, RouteError, failure
from mailglass.routing.accounts import AccountResolver
from mailglass.routing.hooks import LimitContext, RouteContext, Tenancy
from mailglass.routing.lane import Lane
from mailglass.settings import NAME, LimitRule, Route, Settings
from mailglass.settings.values import whole


class Router:
    """Resolver of routes by the settings and the tenancy hooks.

    Args:
        settings: routes, accounts, and the tenancy class.
        tenancy: the hooks; by default those that the settings name.
    """

    def __init__(self, settings: Settings, tenancy: Tenancy | None = None) -> None:
        self._settings = settings
        self._given = tenancy

    @property
    def given(self) -> bool:
        """True if the hooks were given, and not named by the settings."""
        return self._given is not None

    @cached_property
    def tenancy(self) -> Tenancy | None:
        """Return the hooks, or None if the settings name none.

        Raises:
            RouteError: the class cannot be imported, or is no `Tenancy`.
        """
        if self._given is not None or self._settings.tenancy is None:
            return self._given
        return _open_tenancy(self._settings.tenancy)

    @cached_property
    def _queues(self) -> frozenset[str]:
        # Celery knows no other queue
        return frozenset(self._settings.queue_names)

    @cached_property
    def by_delivery(self) -> bool:
        """True if deliveries of one lane may have different routes."""
        routes = self._settings.routes
        return self.tenancy is not None or any(
            route.domain != "*" or route.tag != "*" or route.weights for route in routes
        )

    @cached_property
    def accounts(self) -> AccountResolver | None:
        """Return the accounts that the application keeps, or None if it has no hook for them.

        Raises:
            RouteError: the tenancy cannot be opened.
        """
        tenancy = self.tenancy
        if tenancy is None or type(tenancy).resolve_account is Tenancy.resolve_account:
            return None
        return AccountResolver(tenancy.resolve_account, tenancy.list_accounts)

    def knows_account(self, name: str) -> bool:
        """Return whether the settings name an account, or the application's hook may know it. Asks nobody."""
        return name in self._settings.accounts or (self.accounts is not None and NAME.match(name) is not None)

    def resolve(self, context: RouteContext) -> Route:
        """Return the hook's route, or the first matching route of the settings.

        Raises:
            RouteError: no route matches, or the hook fails; there is no fallback.
        """
        if self.tenancy is not None:
            answer = self._from_hook(self.tenancy, context)
            if answer is not None:
                return answer
        for route in self._settings.routes:
            if _matches(route, context):
                return route
        raise RouteError(
            f"no route for tenant {context.tenant!r} and stream {context.stream!r}: add one to [[routes]] in "
            "mailglass.toml"
        )

    def limits(self, context: LimitContext) -> tuple[LimitRule, ...]:
        """Return the application's rate limits, in addition to those of the settings.

        Raises:
            ConfigError: the hook fails; there is no fallback.
            RouteError: the tenancy cannot be opened.
        """
        tenancy = self.tenancy
        if tenancy is None or type(tenancy).resolve_limits is Tenancy.resolve_limits:
            return ()
        try:
            answer = tenancy.resolve_limits(context)
        except BaseException as error:
            raise _limits_refused(f"failed with {failure(error)} for tenant {context.tenant!r}") from error
        if answer is None:
            return ()
        if not isinstance(answer, list | tuple) or not all(
            isinstance(rule, LimitRule) and isinstance(rule.key, str) for rule in answer
        ):
            raise _limits_refused("returned something else than LimitRules or None")
        if len({(rule.scope, rule.key, rule.period) for rule in answer}) < len(answer):
            raise _limits_refused("returned two rules of the same scope, key and period")
        return tuple(answer)

    def concurrency(self, lane: Lane) -> int | None:
        """Return how many deliveries of the lane's tenant may be leased at once, or None for any number.

        Deliveries without a route have no bound here: they are held later.
        """
        try:
            return self.resolve(RouteContext(lane.tenant, lane.stream)).concurrency
        except RouteError:
            return None

    def _from_hook(self, tenancy: Tenancy, context: RouteContext) -> Route | None:
        try:
            answer = tenancy.resolve_route(context)
        except BaseException as error:
            raise RouteError(
                f"the tenancy's resolve_route failed with {failure(error)} for tenant {context.tenant!r}: "
                "correct the hook"
            ) from error
        if answer is None:
            return None
        route = answer if isinstance(answer, Route) else Route(answer)  # type: ignore[arg-type]
        if not isinstance(route.accounts, list | tuple) or not all(isinstance(name, str) for name in route.accounts):
            raise RouteError("the tenancy's resolve_route must return a Route, account names or None")
        if not _has_valid_figures(route):
            raise RouteError(
                "the tenancy's resolve_route must return failover_after and concurrency above zero, "
                "and one weight for each account"
            )
        unknown = [name for name in route.accounts if not self.knows_account(name)]
        if unknown or not route.accounts:
            raise RouteError(
                f"the tenancy's resolve_route returned an unknown account for tenant {context.tenant!r}: "
                f"{', '.join(unknown) or 'no account'}"
            )
        if not isinstance(route.queue, str) or route.queue not in self._queues:
            raise RouteError(
                f"the tenancy's resolve_route returned an unknown queue for tenant {context.tenant!r}: {route.queue}; "
                "add it to `queues` in mailglass.toml"
            )
        return replace(route, accounts=tuple(route.accounts), weights=tuple(route.weights))


def ordered_accounts(route: Route, delivery_id: UUID) -> tuple[str, ...]:
    """Return a route's accounts in the order for one delivery: by weight, and always the same for it."""
    total = sum(route.weights)
    if not total:
        return route.accounts
    # the last 62 bits of a UUIDv7 are random
    point = (delivery_id.int & ((1 << 62) - 1)) / (1 << 62) * total
    for position, weight in enumerate(route.weights):
        point -= weight
        if point < 0:
            first = route.accounts[position]
            return (first, *(name for name in route.accounts if name != first))
    return route.accounts


def _has_valid_figures(route: Route) -> bool:
    """Return whether a hook's route has valid figures, as routes of the settings must have."""
    return (
        whole(route.failover_after, 1)
        and (route.concurrency is None or whole(route.concurrency, 1))
        and isinstance(route.weights, list | tuple)
        and all(whole(share, 0) for share in route.weights)
        and len(route.weights) in (0, len(route.accounts))
    )


def _matches(route: Route, context: RouteContext) -> bool:
    # without a domain only the queue is wanted, so routes for a domain or a tag do not match
    return (
        route.tenant in ("*", context.tenant)
        and route.stream in ("*", context.stream)
        and route.domain in ("*", context.domain)
        and (route.tag == "*" or route.tag in context.tags)
    )


def _limits_refused(problem: str) -> ConfigError:
    return ConfigError("tenancy", f"resolve_limits {problem}", "Correct the hook, then release what is held")


def _open_tenancy(path: str) -> Tenancy:
    import importlib

    module, _, name = path.partition(":")
    try:
        cls = getattr(importlib.import_module(module), name)
    except BaseException as error:
        raise RouteError(f"the tenancy {path!r} cannot be imported ({failure(error)}): correct it") from error
    if not (isinstance(cls, type) and issubclass(cls, Tenancy)):
        raise RouteError(f"the tenancy {path!r} is no subclass of mailglass.routing.Tenancy")
    try:
        return cls()
    except BaseException as error:
        raise RouteError(f"the tenancy {path!r} cannot be made ({failure(error)}): correct it") from error
