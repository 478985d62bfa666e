"""Routing of a mail to its lane and its accounts: routes of the settings, and hooks of an application."""

from mailglass.routing.accounts import Account, AccountResolver
from mailglass.routing.hooks import LimitContext, Mode, RouteContext, Tenancy
from mailglass.routing.lane import Lane
from mailglass.routing.router import Router, ordered_accounts

__all__ = [
    "Account",
    "AccountResolver",
    "Lane",
    "LimitContext",
    "Mode",
    "RouteContext",
    "Router",
    "Tenancy",
    "ordered_accounts",
]
