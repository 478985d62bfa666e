"""The tenant of a verified webhook: by an application's hook, by the URL, or by the account."""

from __future__ import annotations

from mailglass.errors import RouteError, TenantError, failure
from mailglass.routing import Tenancy
from mailglass.settings import NAME, AccountSettings


def resolves_by_code(tenancy: Tenancy | None) -> bool:
    """Return whether the application has a hook that names webhooks' tenants."""
    return tenancy is not None and type(tenancy).resolve_webhook_tenant is not Tenancy.resolve_webhook_tenant


def tenant_of(account: AccountSettings, path_tenant: str | None, tenancy: Tenancy | None) -> str | None:
    """Return a webhook's tenant.

    The application's hook (`Tenancy.resolve_webhook_tenant`) decides first, then the URL, then the account. An account
    that belongs to a tenant accepts no other tenant's webhooks.

    Args:
        account: the account that the webhook is for.
        path_tenant: from `/webhooks/{tenant}/{account}`.
        tenancy: the application's hooks.

    Returns:
        The tenant, or None if the webhook may be about any tenant's mail.

    Raises:
        TenantError: the URL's tenant is not a valid name, the account is another tenant's, or the application has a
            hook and nothing names a tenant. A hook may raise it too.
        RouteError: the hook fails, or does not return a tenant's name.
    """
    if path_tenant is not None and not NAME.match(path_tenant):
        raise TenantError("the path names no tenant: post to /webhooks/TENANT/ACCOUNT")
    by_code = resolves_by_code(tenancy)
    resolved = _resolve(tenancy, account.name, path_tenant) if tenancy is not None and by_code else None
    tenant = resolved or path_tenant or account.tenant
    if tenant is None and by_code:
        raise TenantError("the tenancy's resolve_webhook_tenant named no tenant, and neither does the account")
    if account.tenant is not None and tenant != account.tenant:
        raise TenantError("the account is another tenant's")
    return tenant


def _resolve(tenancy: Tenancy, account: str, path_tenant: str | None) -> str | None:
    try:
        resolved: object = tenancy.resolve_webhook_tenant(account, path_tenant)
    except TenantError:
        raise
    except BaseException as error:
        raise RouteError(
            f"the tenancy's resolve_webhook_tenant failed with {failure(error)} for account {account!r}: "
            "correct the hook"
        ) from error
    if resolved is None:
        return None
    if not isinstance(resolved, str) or not NAME.match(resolved):
        raise RouteError("the tenancy's resolve_webhook_tenant must return a tenant's name or None")
    return resolved
