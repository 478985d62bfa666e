"""Hooks of an application: the route, the limits and the tenant of a mail, by code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mailglass.routing.accounts import Account
from mailglass.settings import LimitRule, Route


class Mode(StrEnum):
    """Call that asked for a mail: `deliver_later` and `deliver_many`, or `deliver`."""

    LATER = "later"
    NOW = "now"


@dataclass(frozen=True, slots=True)
class RouteContext:
    """Properties of a mail that select its route.

    Attributes:
        tenant: its owner.
        stream: transactional, operational or bulk.
        domain: of the recipient, in A-labels; "" if only the queue is wanted.
        tags: of the message.
        mode: `later` or `now`. It is kept with the delivery, so each attempt sees the same.
        mailable: `package.module:Class` of the mailable, or None for a plain message.
    """

    tenant: str
    stream: str
    domain: str = ""
    tags: tuple[str, ...] = ()
    mode: Mode = Mode.LATER
    mailable: str | None = None


@dataclass(frozen=True, slots=True)
class LimitContext:
    """Properties of a mail that select the application's limits.

    Attributes:
        tenant: its owner.
        stream: transactional, operational or bulk.
        domain: of the recipient, in lower-case A-labels.
    """

    tenant: str
    stream: str
    domain: str


class Tenancy:
    """Base of an application's hooks: set `tenancy = "package.module:Class"` to a subclass.

    A hook returns None to leave the decision to the settings. Results are checked. A hook that raises, or returns an
    invalid result, is an error and never a silent fallback.

    >>> class Plans(Tenancy):
    ...     def resolve_route(self, context):
    ...         return ["premium"] if context.tenant == "acme" else None
    >>> Plans().resolve_route(RouteContext("acme", "transactional"))
    ['premium']
    """

    def resolve_route(self, context: RouteContext) -> Route | Sequence[str] | None:
        """Return the route of a delivery: a `Route`, or account names in order of preference.

        The hook is called when a mail is recorded, where an error goes to the caller, and for each batch, where an
        error holds the mail. With an empty domain only the queue and `Route.concurrency` count. The queue must be one
        that a route, a task or `queues` of the settings names.
        """
        return None

    def resolve_limits(self, context: LimitContext) -> Sequence[LimitRule] | None:
        """Return more rate limits for a mail, in addition to those of the settings, such as a tenant's plan.

        The hook is called once a batch for each recipient domain, before any of its mails is sent. The rules count
        apart from the configured ones, and a mail must pass both. Only rules of the scopes account and domain bind
        transactional mail. If the hook fails, the mails are held.
        """
        return None

    def resolve_account(self, name: str) -> Account | None:
        """Return an account that the settings do not name, with its secrets as values, or None if there is none.

        The hook is called in a thread of its own, again after five seconds for an account that is in use. It has two
        seconds. If it raises, hangs or returns None, the account's mail waits and its webhooks are posted again, and
        no other account is affected. What it returns stays in the memory of the process.

        Args:
            name: as `resolve_route` returned it, or as it stands in the URL of a webhook. Anybody may have made up the
                latter.
        """
        return None

    def list_accounts(self) -> Sequence[str]:
        """Return the names of the accounts that `resolve_account` knows, for work that no mail asks for.

        Suppression lists of these accounts are kept in step, and `mailglass preflight` and `mailglass secrets check`
        look at them.
        """
        return ()

    def resolve_webhook_tenant(self, account: str, path_tenant: str | None) -> str | None:
        """Return the tenant of a verified webhook. Its events are applied to no other tenant's mail.

        If the hook returns None, URL and account decide. If neither names a tenant, the webhook is refused with 422.

        Args:
            account: the account that the webhook is for.
            path_tenant: from `/webhooks/{tenant}/{account}`.

        Raises:
            TenantError: refuses the webhook with 422. After any other error the provider posts again.
        """
        return path_tenant
