"""`mailglass accounts`: see accounts and their states, pause and resume them, close their breakers."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from mailglass import clock
from mailglass.cli.actor import actor_option
from mailglass.cli.database import open_database
from mailglass.cli.output import JSON, format_option, note, print_json, print_table
from mailglass.errors import ConfigError
from mailglass.settings import Settings, get_settings
from mailglass.settings.limits import ANY, LimitScope

if TYPE_CHECKING:
    from mailglass.ledger.database import Database
    from mailglass.ledger.pauses import AccountState


@click.group()
def accounts() -> None:
    """See accounts, pause and resume them, close their breakers."""


@accounts.command("list")
@format_option
def list_accounts(output_format: str) -> None:
    """List accounts with their states."""
    from mailglass.ledger.pauses import account_states

    settings = get_settings()
    states = account_states(open_database(), list(settings.accounts))
    if output_format == JSON:
        print_json(accounts=[_as_json(settings, state) for state in states])
        return
    rows = [
        (
            state.account,
            _provider_of(settings, state.account),
            _state_of(state),
            str(state.waiting),
            state.last_error or "",
        )
        for state in states
    ]
    print_table(("ACCOUNT", "PROVIDER", "STATE", "WAITING", "LAST ERROR"), rows)


@accounts.command()
@click.argument("account")
@format_option
def show(account: str, output_format: str) -> None:
    """Show one account.

    Its limits, its warm-up, its breaker, and the error that opened it.
    """
    from mailglass.ledger.pauses import account_states

    settings = _known(account)
    (state,) = account_states(open_database(), [account])
    described = _as_json(settings, state)
    if output_format == JSON:
        print_json(account=described)
        return
    rows = [(name, _as_text(value)) for name, value in described.items() if value not in (None, [], {})]
    print_table(("", ""), [("state", _state_of(state)), *rows])


@accounts.command()
@click.argument("account")
@actor_option
@format_option
def pause(account: str, actor: str, output_format: str) -> None:
    """Stop using an account until it is resumed.

    Its mail goes to the route's next account, or waits.
    """
    from mailglass.ledger.pauses import pause_account

    _report(account, "paused", pause_account(_database(account), account, actor), output_format)


@accounts.command()
@click.argument("account")
@actor_option
@format_option
def resume(account: str, actor: str, output_format: str) -> None:
    """Use a paused account again.

    Its waiting mail is due at once.
    """
    from mailglass.ledger.pauses import resume_account

    _report(account, "resumed", resume_account(_database(account), account, actor), output_format)


@accounts.command("close-breaker")
@click.argument("account")
@actor_option
@format_option
def close_breaker(account: str, actor: str, output_format: str) -> None:
    """Close an account's breaker.

    The account is used again at once, whatever its calls returned. Its waiting mail is due at once.
    """
    from mailglass.ledger import audit, breakers

    database = _database(account)
    closed = breakers.close(database, account)
    audit.record(database, actor, "accounts.close_breaker", None, {"account": account}, count=int(closed))
    breakers.wake(database)
    _report(account, "closed", closed, output_format)


def _report(account: str, done: str, changed: bool, output_format: str) -> None:
    if output_format == JSON:
        print_json(account=account, **{done: changed})
    elif changed:
        click.echo(f"{account}: {done}.")
    else:
        note(f"{account}: nothing to be {done}.")


def _state_of(state: AccountState) -> str:
    """Return the gravest state of an account in a few words."""
    if state.paused_at is not None:
        return f"paused by {state.paused_by}"
    if state.open_until is not None:
        opened = state.open_until > clock.now()
        return f"{state.breaker}, next probe {_moment(state.open_until)}" if opened else f"{state.breaker}, half-open"
    if state.throttled_until is not None:
        return f"throttled until {_moment(state.throttled_until)}"
    return "works"


def _as_json(settings: Settings, state: AccountState) -> dict[str, Any]:
    described = {
        name: _moment(value) if isinstance(value, datetime) else value
        for name, value in asdict(state).items()
        if name != "account"
    }
    configured = settings.accounts.get(state.account)
    limits = [
        f"{rule.amount:g} in {rule.period:g} s, burst {rule.burst}"
        for rule in settings.limits
        if rule.scope is LimitScope.ACCOUNT and rule.key in (state.account, ANY)
    ]
    day = configured.warmup.day(clock.now()) if configured is not None and configured.warmup else None
    warmup = None if day is None else f"{day.cap} mails on {day.date.isoformat()}"
    account = {
        "account": state.account,
        "provider": _provider_of(settings, state.account),
        "limits": limits,
        "warmup": warmup,
    }
    return account | described


def _as_text(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _provider_of(settings: Settings, account: str) -> str:
    """Return the provider of an account, or `application` if the application keeps it."""
    configured = settings.accounts.get(account)
    return "application" if configured is None else configured.provider


def _known(account: str) -> Settings:
    from mailglass.routing import Router

    settings = get_settings()
    if not Router(settings).knows_account(account):
        raise ConfigError("account", "the settings have no such account", f"Use one of {', '.join(settings.accounts)}")
    return settings


def _database(account: str) -> Database:
    """Return the ledger, once the account is known to the settings."""
    _known(account)
    return open_database()
