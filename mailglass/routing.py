"""Routes: tenant, stream, domain and tag to accounts in order, and the lane the work waits in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from uuid import UUID

from mailglass.errors import ConfigError, RouteError
from mailglass.settings import NAME, LimitRule, Route, Settings
from mailglass.settings.routes import QUEUE
from mailglass.settings.values import whole
from mailglass.streams import Stream

_STREAMS = frozenset(Stream)


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """Where due work waits: a queue, a tenant, a stream. The unit of ringing and claiming."""

    queue: str
    tenant: str
    stream: str

    def __str__(self) -> str:
        return f"{self.queue}/{self.tenant}/{self.stream}"

    @classmethod
    def parse(cls, text: str) -> Lane:
        """The lane that `str()` wrote.

        Raises:
            ValueError: not a lane; the text is not repeated, whoever it is from.
        """
        parts = text.split("/", 3)
        if len(parts) != 3 or not QUEUE.match(parts[0]) or not NAME.match(parts[1]) or parts[2] not in _STREAMS:
            raise ValueError("not a lane: write queue/tenant/stream")
        return cls(*parts)


@dataclass(frozen=True, slots=True)
class RouteContext:
    """What a route is chosen by.

    Attributes:
        domain: of the recipient, in A-labels; "" where only the lane is asked for.
        tags: of the message.
    """

    tenant: str
    stream: str
    domain: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LimitContext:
    """What limits from the application are chosen by.

    Attributes:
        domain: of the recipient, in lower-case A-labels.
    """

    tenant: str
    stream: str
    domain: str


class Tenancy:
    """The hooks an application may bring: set `tenancy = "package.module:Class"` to a subclass.

    Every hook may answer None to leave the matter to the settings. What a hook answers is checked; a hook that raises,
    or answers nonsense, is an error and never a silent fallback.
    """

    def resolve_route(self, context: RouteContext) -> Route | Sequence[str] | None:
        """The route of a delivery: a `Route`, or account names in order of preference.

        A route's queue is one that a route, a task or `queues` of the settings names. Asked when a mail is recorded,
        where an error is the caller's, and for each batch, where it holds the mail. With an empty domain only the lane
        is asked for: its queue, and how much may be under way (`Route.concurrency`).
        """
        return None

    def resolve_limits(self, context: LimitContext) -> Sequence[LimitRule] | None:
        """More rate limits for this mail, beside those of the settings: a tenant's plan, say. None: no more.

        Asked once a batch for each recipient domain, before anything of it is sent. The rules are counted apart from
        the configured ones: a mail must pass both. A transactional mail is bound only by those of the scopes account
        and domain. Where the hook fails nothing is sent without its limits: the mails are held.
        """
        return None

    def resolve_webhook_tenant(self, account: str, path_tenant: str | None) -> str | None:
        """The tenant of a verified webhook: its events are applied to no other tenant's mail.

        Where this hook is brought and answers None, path and account count; where neither names a tenant the webhook is
        refused with 422.

        Args:
            account: for which it was posted.
            path_tenant: from `/webhooks/{tenant}/{account}`.

        Raises:
            TenantError: to refuse it with 422. Any other error is the application's fault: the provider posts again.
        """
        return path_tenant


class Router:
    """Resolves routes from the settings and the tenancy hooks.

    Args:
        settings: routes, accounts, and the tenancy class.
        tenancy: the hooks; opened from the settings when left out.
    """

    def __init__(self, settings: Settings, tenancy: Tenancy | None = None) -> None:
        self._settings = settings
        self._given = tenancy

    @cached_property
    def tenancy(self) -> Tenancy | None:
        """The hooks, None where the settings name none.

        Raises:
            RouteError: the class cannot be imported, or is no `Tenancy`.
        """
        if self._given is not None or self._settings.tenancy is None:
            return self._given
        return _open_tenancy(self._settings.tenancy)

    @cached_property
    def _queues(self) -> frozenset[str]:
        # no other is known to Celery: nobody could ring there
        return frozenset(self._settings.queue_names)

    @cached_property
    def by_delivery(self) -> bool:
        """Whether deliveries of one lane may have different routes."""
        routes = self._settings.routes
        return self.tenancy is not None or any(
            route.domain != "*" or route.tag != "*" or route.weights for route in routes
        )

    def resolve(self, context: RouteContext) -> Route:
        """The route: the hook's, else the first of the settings that matches.

        Raises:
            RouteError: none matches, or the hook misbehaves; there is no fallback.
        """
        if self.tenancy is not None:
            answer = self._ask(self.tenancy, context)
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
        """The rate limits that the application adds to those of the settings.

        Raises:
            ConfigError: the hook misbehaves; there is no fallback.
            RouteError: the tenancy cannot be opened.
        """
        tenancy = self.tenancy
        if tenancy is None or type(tenancy).resolve_limits is Tenancy.resolve_limits:
            return ()
        try:
            answer = tenancy.resolve_limits(context)
        except Exception as error:
            raise _limits_refused(f"failed with {type(error).__name__} for tenant {context.tenant!r}") from error
        if answer is None:
            return ()
        if not isinstance(answer, list | tuple) or not all(
            isinstance(rule, LimitRule) and isinstance(rule.key, str) for rule in answer
        ):
            raise _limits_refused("answered something else than LimitRules or None")
        if len({(rule.scope, rule.key, rule.period) for rule in answer}) < len(answer):
            raise _limits_refused("answered two rules of the same scope, key and period")
        return tuple(answer)

    def lane(self, tenant: str, stream: str) -> Lane:
        """The lane in which this tenant's stream waits."""
        return Lane(self.resolve(RouteContext(tenant, stream)).queue, tenant, stream)

    def concurrency(self, lane: Lane) -> int | None:
        """How many of the lane's tenant's deliveries may be leased at once; None for any number.

        A route that cannot be resolved says nothing here: its deliveries are held when they are placed.
        """
        try:
            return self.resolve(RouteContext(lane.tenant, lane.stream)).concurrency
        except RouteError:
            return None

    def _ask(self, tenancy: Tenancy, context: RouteContext) -> Route | None:
        try:
            answer = tenancy.resolve_route(context)
        except Exception as error:
            raise RouteError(
                f"the tenancy's resolve_route failed with {type(error).__name__} for tenant {context.tenant!r}: "
                "correct the hook"
            ) from error
        if answer is None:
            return None
        route = answer if isinstance(answer, Route) else Route(answer)  # type: ignore[arg-type]
        if not isinstance(route.accounts, list | tuple) or not all(isinstance(name, str) for name in route.accounts):
            raise RouteError("the tenancy's resolve_route must answer a Route, account names or None")
        if not _figures(route):
            raise RouteError(
                "the tenancy's resolve_route must answer patience and concurrency above zero, and a weight an account"
            )
        unknown = [name for name in route.accounts if name not in self._settings.accounts]
        if unknown or not route.accounts:
            raise RouteError(
                f"the tenancy's resolve_route answered an unknown account for tenant {context.tenant!r}: "
                f"{', '.join(unknown) or 'no account'}"
            )
        if not isinstance(route.queue, str) or route.queue not in self._queues:
            raise RouteError(
                f"the tenancy's resolve_route answered an unknown queue for tenant {context.tenant!r}: {route.queue}; "
                "add it to `queues` in mailglass.toml"
            )
        return replace(route, accounts=tuple(route.accounts), weights=tuple(route.weights))


def ordered_accounts(route: Route, delivery_id: UUID) -> tuple[str, ...]:
    """The route's accounts in the order for one delivery: by weight where there are weights, always the same for it."""
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


def _figures(route: Route) -> bool:
    """Whether a route from code has the figures that one from the settings must have."""
    return (
        whole(route.patience, 1)
        and (route.concurrency is None or whole(route.concurrency, 1))
        and isinstance(route.weights, list | tuple)
        and all(whole(share, 0) for share in route.weights)
        and len(route.weights) in (0, len(route.accounts))
    )


def _matches(route: Route, context: RouteContext) -> bool:
    # where only the lane is asked for there is no domain, and a route for some domain or tag says nothing of it
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
    except Exception as error:
        raise RouteError(f"the tenancy {path!r} cannot be imported ({type(error).__name__}): correct it") from error
    if not (isinstance(cls, type) and issubclass(cls, Tenancy)):
        raise RouteError(f"the tenancy {path!r} is no subclass of mailglass.routing.Tenancy")
    try:
        return cls()
    except Exception as error:
        raise RouteError(f"the tenancy {path!r} cannot be made ({type(error).__name__}): correct it") from error
