"""Whose a verified webhook is: by code, by the path it was posted to, or by the account it was posted for."""

from __future__ import annotations

from mailglass.errors import RouteError, TenantError
from mailglass.routing import Tenancy
from mailglass.settings import NAME, AccountSettings


def resolves_by_code(tenancy: Tenancy | None) -> bool:
    """Whether the application brings a hook that tells a webhook's tenant."""
    return tenancy is not None and type(tenancy).resolve_webhook_tenant is not Tenancy.resolve_webhook_tenant


def tenant_of(account: AccountSettings, path_tenant: str | None, tenancy: Tenancy | None) -> str | None:
    """The tenant of a webhook; None where nothing names one, so that it may speak of any tenant's mail.

    A hook that an application brings (`Tenancy.resolve_webhook_tenant`) is asked first; where it answers None the path
    counts, and then the account. An account that belongs to a tenant has no other tenant's webhooks.

    Args:
        account: for which it was posted.
        path_tenant: from `/webhooks/{tenant}/{account}`.
        tenancy: the application's hooks.

    Raises:
        TenantError: no tenant can be told: the path names none that can be, the account is another tenant's, or the
            application resolves tenants by code and neither it nor path nor account names one. A hook may raise it too.
        RouteError: the hook fails, or answers what is no tenant's name.
    """
    if path_tenant is not None and not NAME.match(path_tenant):
        raise TenantError("the path names no tenant: post to /webhooks/TENANT/ACCOUNT")
    asks = resolves_by_code(tenancy)
    answer = _ask(tenancy, account.name, path_tenant) if tenancy is not None and asks else None
    found = answer or path_tenant or account.tenant
    if found is None and asks:
        raise TenantError("the tenancy's resolve_webhook_tenant named no tenant, and neither does the account")
    if account.tenant is not None and found != account.tenant:
        raise TenantError("the account is another tenant's")
    return found


def _ask(tenancy: Tenancy, account: str, path_tenant: str | None) -> str | None:
    try:
        answer: object = tenancy.resolve_webhook_tenant(account, path_tenant)
    except TenantError:
        raise
    except Exception as error:
        raise RouteError(
            f"the tenancy's resolve_webhook_tenant failed with {type(error).__name__} for account {account!r}: "
            "correct the hook"
        ) from error
    if answer is None:
        return None
    if not isinstance(answer, str) or not NAME.match(answer):
        raise RouteError("the tenancy's resolve_webhook_tenant must answer a tenant's name or None")
    return answer
