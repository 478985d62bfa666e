"""`mailglass config`: check the settings as a worker would at its start, and list the variables."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import click

from mailglass.cli.output import JSON, format_option, note, print_json, print_table
from mailglass.mail.recipients import RecipientPolicy
from mailglass.settings import ENVIRONMENT, Settings, get_settings
from mailglass.settings.completeness import describe_recipients, settings_problems
from mailglass.settings.servers import Server, broker_servers, database_server, redis_server


@click.group()
def config() -> None:
    """Check the settings, list the variables."""


@config.command()
@format_option
def check(output_format: str) -> int:
    """Check the settings and open every account.

    Connects to nothing, except a database behind a pooler, whose role is checked. Exits with 1 and the remedy if a
    setting is wrong or missing, or a variable is unknown.
    """
    from mailglass.providers.registry import Accounts

    settings = get_settings()
    accounts = Accounts(settings)
    try:
        accounts.check()
    finally:
        accounts.close()
    problems = settings_problems(settings)
    if settings.pooled and settings.database_url.reveal():
        problems += _session_problems(settings)
    if output_format == JSON:
        print_json(ok=not problems, problems=problems, **_described(settings))
    else:
        _print(settings)
        for problem in problems or ["The settings are in order."]:
            note(problem)
    return 1 if problems else 0


@config.command()
@format_option
def env(output_format: str) -> None:
    """List the environment variables, and whether each is set. Never shows a value."""
    if output_format == JSON:
        print_json(
            variables=[
                {"name": name, "meaning": meaning, "set": name in os.environ} for name, meaning in ENVIRONMENT.items()
            ]
        )
    else:
        print_table(
            ("VARIABLE", "SET", "MEANING"),
            [(name, "yes" if name in os.environ else "no", meaning) for name, meaning in ENVIRONMENT.items()],
        )


def _session_problems(settings: Settings) -> list[str]:
    """Return whether the role's sessions have what a pooler does not pass on."""
    from mailglass.errors import MailglassError
    from mailglass.ledger.database import get_database
    from mailglass.ledger.pooler import check_session

    try:
        check_session(get_database(settings.require_database(), pooled=True), pooled=True)
    except MailglassError as error:
        return [str(error)]
    return []


def _described(settings: Settings) -> dict[str, Any]:
    return {
        "file": None if settings.file is None else str(settings.file),
        "environment": settings.environment,
        "recipients": None if settings.recipients is None else _policy(settings.recipients),
        **{name: [asdict(server) for server in servers] for name, servers in _servers(settings).items()},
        "accounts": [
            {"name": account.name, "provider": account.provider, "has_sender": account.sender is not None}
            for account in settings.accounts.values()
        ],
        "routes": [
            {
                "tenant": route.tenant,
                "stream": route.stream,
                "accounts": list(route.accounts),
                "queue": route.queue,
            }
            for route in settings.routes
        ],
        "tasks": dict(settings.tasks),
        "queues": settings.queue_names,
    }


def _policy(recipients: RecipientPolicy) -> dict[str, Any]:
    return {
        "allow": list(recipients.allow),
        "redirect_to": None if recipients.redirect_to is None else recipients.redirect_to.email,
        "subject_mark": recipients.subject_mark,
        "show_recipient": recipients.show_recipient.value,
    }


def _print(settings: Settings) -> None:
    click.echo(f"Settings file: {settings.source or 'none'}")
    click.echo(f"Environment:   {settings.environment or 'none'}: {describe_recipients(settings)}")
    click.echo()
    print_table(
        ("SERVER", "HOST", "PORT", "DATABASE"),
        [
            (name, server.host or "-", "-" if server.port is None else str(server.port), server.database or "-")
            for name, servers in _servers(settings).items()
            for server in servers or [Server("not set", None, "")]
        ],
    )
    click.echo()
    print_table(("ACCOUNT", "PROVIDER"), [(name, item.provider) for name, item in settings.accounts.items()])
    click.echo()
    print_table(
        ("TENANT", "STREAM", "ACCOUNTS", "QUEUE"),
        [(route.tenant, route.stream, ", ".join(route.accounts), route.queue) for route in settings.routes],
    )
    if len(settings.queue_names) > 1:
        click.echo()
        print_table(("QUEUE", "SERVED BY"), [(name, f"worker -Q {name}") for name in settings.queue_names])


def _servers(settings: Settings) -> dict[str, list[Server]]:
    """Return host, port and database of each server: never a URL, which may hold a password."""
    database, broker, redis = settings.database_url.reveal(), settings.broker_url.reveal(), settings.redis_url
    return {
        "database": [database_server(database)] if database else [],
        "broker": broker_servers(broker) if broker else [],
        "redis": [redis_server(redis.reveal())] if redis else [],
    }
