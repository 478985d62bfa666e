"""`mailglass secrets`: see which secrets accounts have, and which may go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mailglass.cli.output import JSON, format_option, note, print_json, print_table

if TYPE_CHECKING:
    from mailglass.preflight.secrets import AccountSecrets, CheckedSecret
    from mailglass.runtime import Runtime

_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}


@click.group()
def secrets() -> None:
    """See which secrets accounts have, and which may go."""


@secrets.command()
@click.option("--account", "names", multiple=True, metavar="NAME", help="Only this account. May be repeated.")
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=7,
    show_default=True,
    help="Warn of an old webhook secret that no webhook has used for so long.",
)
@format_option
def check(names: tuple[str, ...], days: int, output_format: str) -> int:
    """Check the secrets of every account. Shows none, changes nothing, and asks no provider.

    A secret behind file: is read again by every process within ten seconds of its change. One behind env: needs a
    restart. The last use is known to within an hour. Exits with 1 if a secret is missing, of the wrong form or refused
    by its provider.

    \b
    mailglass secrets check
    mailglass secrets check --account shop --days 14 --format json
    """
    from mailglass.runtime import close_runtime, get_runtime

    runtime = get_runtime()
    try:
        for name in names:
            if not runtime.router.knows_account(name):
                raise click.BadParameter(f"the settings have no account {name!r}", param_hint="--account")
        found, known = _checked(runtime, names or runtime.accounts.names(), days)
    finally:
        close_runtime()
    ok = all(account.ok for account in found)
    if output_format == JSON:
        print_json(ok=ok, days=days, uses_known=known, accounts=[_as_json(account) for account in found])
    else:
        _print(found)
    return 0 if ok else 1


def _checked(runtime: Runtime, names: Sequence[str], days: int) -> tuple[list[AccountSecrets], bool]:
    """Return the accounts' secrets, and whether the ledger could tell of their use."""
    from mailglass.errors import MailglassError
    from mailglass.preflight.secrets import check_secrets, with_uses
    from mailglass.providers.registry import Accounts

    # as a process that starts now would open them
    accounts = Accounts(runtime.settings)
    found = [check_secrets(accounts, name) for name in names]
    try:
        return [with_uses(account, runtime.database, days) for account in found], True
    except MailglassError as error:
        note(f"When secrets were used is not known: {error}")
        return found, False


def _as_json(account: AccountSecrets) -> dict[str, Any]:
    return {
        "account": account.account,
        "provider": account.provider,
        "ok": account.ok,
        "webhook_secrets": account.webhook_secrets,
        "secrets": [
            {
                "option": secret.option,
                "purpose": secret.purpose.value,
                "source": secret.source.value,
                "reference": secret.reference,
                "rereads": secret.rereads,
                "state": secret.state.value,
                "known_since": None if secret.known_since is None else secret.known_since.isoformat(),
                "last_used": None if secret.last_used is None else secret.last_used.isoformat(),
            }
            for secret in account.secrets
        ],
        "findings": [
            {"status": finding.status.value, "observed": finding.observed, "remedy": finding.remedy}
            for finding in account.findings
        ],
    }


def _print(found: Sequence[AccountSecrets]) -> None:
    rows = [_row(account.account, secret) for account in found for secret in account.secrets]
    if rows:
        print_table(("ACCOUNT", "SECRET", "FOR", "STATE", "STANDS IN", "IS REREAD", "LAST USED"), rows)
        click.echo()
    for account in found:
        for finding in account.findings:
            mark = click.style(f"[{finding.status.value}]", fg=_COLOURS[finding.status.value])
            click.echo(f"{mark} {finding.id}: {finding.observed}")
            if finding.remedy:
                click.echo(f"    {finding.remedy}")
    counts = Counter(finding.status.value for account in found for finding in account.findings)
    click.echo("mailglass secrets check: " + " ".join(f"{status}={counts[status]}" for status in _COLOURS))


def _row(account: str, secret: CheckedSecret) -> tuple[str, ...]:
    return (
        account,
        secret.option,
        secret.purpose.value,
        secret.state.value.replace("_", " "),
        secret.reference or f"the {secret.source.value}",
        "yes" if secret.rereads else "at a restart",
        "-" if secret.last_used is None else f"{secret.last_used:%Y-%m-%d %H:%M}",
    )
