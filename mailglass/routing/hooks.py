"""Hooks that an application may bring: the route, the limits and the tenant of a mail, by code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailglass.settings import LimitRule, Route


@dataclass(frozen=True, slots=True)
class RouteContext:
    """Values that a route is chosen by.

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
    """Values that limits from the application are chosen by.

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
