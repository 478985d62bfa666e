"""The tenant in scope: `with tenant(name):`."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

from mailglass.errors import TenantError
from mailglass.settings import NAME, get_settings

_tenant: contextvars.ContextVar[str | None] = contextvars.ContextVar("mailglass_tenant", default=None)


class AnyTenant(Enum):
    """The type of `ANY_TENANT`."""

    ANY = "any"

    def __repr__(self) -> str:
        return "ANY_TENANT"


ANY_TENANT: Final = AnyTenant.ANY
"""Any tenant, for operators' look-ups by id."""


@contextmanager
def tenant(name: str) -> Iterator[str]:
    """Send the mail of one tenant in a block.

    >>> with tenant("acme"):
    ...     current_tenant()
    'acme'

    Blocks nest. The scope is one thread, task or greenlet.

    Args:
        name: of the tenant.

    Raises:
        TenantError: not a tenant name (1 to 63 of a-z, 0-9, `_`, `.`, `-`).
    """
    token = _tenant.set(check_tenant(name))
    try:
        yield name
    finally:
        _tenant.reset(token)


def check_tenant(name: object) -> str:
    """Return a tenant's name, if it is valid.

    Raises:
        TenantError: it is not.
    """
    if not isinstance(name, str) or not NAME.match(name):
        raise TenantError("a tenant's name is 1 to 63 of a-z, 0-9, `_`, `.`, `-`, beginning with a letter or digit")
    return name


def current_tenant() -> str:
    """Return the tenant of the innermost `tenant()` block, or the settings' default.

    >>> with tenant("acme"), tenant("globex"):
    ...     current_tenant()
    'globex'

    Raises:
        TenantError: there is no block, and the settings name no default.
    """
    name = _tenant.get() or get_settings().default_tenant
    if name is None:
        raise TenantError("no tenant is in scope: wrap the call in `with tenant(name):`, or set default_tenant")
    return name
