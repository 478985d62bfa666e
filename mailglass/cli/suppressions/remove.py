"""`mailglass suppressions remove`: remove an address here and at providers."""

from __future__ import annotations

from dataclasses import asdict

import click

from mailglass.cli.actor import actor_option
from mailglass.cli.output import JSON, format_option, note, print_json
from mailglass.settings import get_settings


@click.command()
@click.argument("address", metavar="ADDRESS")
@click.option("--tenant", required=True, help="The tenant of the list; * for the one that binds everybody.")
@click.option("--at", "names", multiple=True, metavar="ACCOUNT", help="Off this account's provider's list, too.")
@click.option("--force", is_flag=True, help="Also where the person has complained.")
@actor_option
@format_option
def remove(address: str, tenant: str, names: tuple[str, ...], force: bool, actor: str, output_format: str) -> int:
    """Remove an address from the list.

    The providers' lists of the tenant's pushing accounts lose it too.

    An account that only pulls restores the address from its provider's list: name the account with --at. Exits with 1
    if an entry still suppresses the address.
    """
    from mailglass.mail.addresses import parse_address
    from mailglass.runtime import close_runtime, get_runtime
    from mailglass.suppressions import removal

    runtime = get_runtime()
    try:
        result = removal.remove_address(
            get_settings(),
            runtime.database,
            runtime.accounts,
            tenant,
            parse_address(address, "ADDRESS"),
            actor=actor,
            at=names,
            force=force,
        )
    finally:
        close_runtime()
    if output_format == JSON:
        print_json(**asdict(result))
    else:
        click.echo(f"{result.removed} removed.")
        if result.kept:
            note(
                f"{result.kept} stand: of the domain, on everybody's list (--tenant '*'), or a complaint, which "
                "--force removes."
            )
        for name, done in result.accounts.items():
            if done is not True:
                note(f"{name}: {done or 'its provider keeps the address on its list'}")
    return 0 if result.is_whole else 1
