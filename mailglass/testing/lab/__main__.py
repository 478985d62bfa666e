"""`python -m mailglass.testing.lab`: a local stand-in for Postmark, SendGrid and an SMTP server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from mailglass.errors import ConfigError, MailglassError
from mailglass.settings import resolve_secret
from mailglass.testing.lab.accounts import LabAccount
from mailglass.testing.lab.server import LabOptions, serve
from mailglass.testing.lab.weather import Climate, Weather

DEFAULT_RATIOS = {
    Weather.HARD_BOUNCE: 0.02,
    Weather.SOFT_BOUNCE: 0.01,
    Weather.DEFER: 0.02,
    Weather.COMPLAINT: 0.005,
    Weather.THROTTLE_ONCE: 0.002,
    Weather.DUPLICATE_EVENT: 0.03,
    Weather.LATE_EVENT: 0.03,
}
_SECRETS = (
    "postmark_token",
    "webhook_password",
    "sendgrid_key",
    "sendgrid_signing_key",
    "smtp_password",
)


def _ratios(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[Weather, float]:
    ratios: dict[Weather, float] = {}
    for value in values:
        name, _, share = value.partition("=")
        try:
            ratios[Weather(name)] = float(share)
        except ValueError:
            raise click.BadParameter(
                f"write WEATHER=SHARE, for example defer=0.05; known: {', '.join(Weather)}"
            ) from None
    return ratios


def _pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = [tuple(value.split("=", 1)) for value in values]
    if any(len(pair) < 2 for pair in pairs):
        raise click.BadParameter(f"write {parameter.metavar}")
    return [(name, value) for name, value in pairs]


@click.command()
@click.option("--http-port", type=int, default=0, show_default=True, help="0: chosen by the system.")
@click.option(
    "--smtp-port", type=int, default=None, help="0: chosen by the system. Without it there is no SMTP server."
)
@click.option("--webhooks", default=None, help="Loopback URL; each account's webhooks go to URL/ACCOUNT.")
@click.option("--state-file", type=click.Path(path_type=Path), default=None, help="Keep what was accepted here.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another climate.")
@click.option("--ratio", "ratios", multiple=True, callback=_ratios, metavar="WEATHER=SHARE", help="May be repeated.")
@click.option("--calm", is_flag=True, help="No weather but what markers in addresses ask for.")
@click.option("--open-rate", type=click.FloatRange(0, 1), default=0.3, show_default=True)
@click.option("--event-delay", type=click.FloatRange(0), default=0.2, show_default=True, help="Seconds to delivery.")
@click.option("--latency-ms", type=click.FloatRange(0), default=0.0, show_default=True, help="Time to answer.")
@click.option("--posts", type=click.IntRange(1, 256), default=16, show_default=True, help="Webhooks in flight.")
@click.option("--postmark-account", default="postmark", show_default=True)
@click.option("--postmark-token", metavar="env:NAME", help="The server token to ask for; without it any will do.")
@click.option("--webhook-username", default="lab", show_default=True)
@click.option("--webhook-password", metavar="env:NAME", help="For Postmark's webhooks; needed with --webhooks.")
@click.option("--sendgrid-account", default="sendgrid", show_default=True)
@click.option("--sendgrid-key", metavar="env:NAME", help="The API key to ask for; without it any will do.")
@click.option("--sendgrid-signing-key", metavar="env:NAME", help="P-256 key in PEM; a new one at each start otherwise.")
@click.option("--smtp-account", default="smtp", show_default=True)
@click.option("--smtp-username", default=None, help="Ask for AUTH with this name.")
@click.option("--smtp-password", metavar="env:NAME", help="And this password.")
@click.option("--account", "named", multiple=True, callback=_pairs, metavar="NAME=PROVIDER", help="May be repeated.")
@click.option("--secret", "secrets", multiple=True, callback=_pairs, metavar="NAME.SECRET=env:VAR", help="As above.")
@click.option("--watch-stdin", is_flag=True, help="End when the standard input is closed.")
def main(
    seed: int,
    ratios: dict[Weather, float],
    calm: bool,
    latency_ms: float,
    named: list[tuple[str, str]],
    secrets: list[tuple[str, str]],
    **rest: Any,
) -> None:
    """Run the lab until SIGTERM. Prints one line of JSON when it is ready.

    Secrets are given as references, env:NAME or file:PATH, so that no process list shows them.
    """
    try:
        climate = Climate(seed, ratios or ({} if calm else DEFAULT_RATIOS))
        for name in _SECRETS:
            rest[name] = _secret(name, rest[name])
        options = LabOptions(climate=climate, latency=latency_ms / 1000, accounts=_accounts(named, secrets), **rest)
        asyncio.run(serve(options))
    except (MailglassError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _accounts(named: list[tuple[str, str]], secrets: list[tuple[str, str]]) -> tuple[LabAccount, ...]:
    known: dict[str, dict[str, str]] = {name: {} for name, _ in named}
    for target, reference in secrets:
        account, _, key = target.rpartition(".")
        if account not in known:
            raise ConfigError(f"--secret {target}", "no such account", "Name it with --account NAME=PROVIDER")
        known[account][key] = _secret(f"secret {target}", reference) or ""
    return tuple(LabAccount(provider, name, known[name]) for name, provider in named)


def _secret(name: str, reference: str | None) -> str | None:
    def report(key: str, problem: str, remedy: str) -> None:
        raise ConfigError(key, problem, remedy)

    if reference is None:
        return None
    secret = resolve_secret(reference, f"--{name.replace('_', '-')}", os.environ, report)
    return secret.reveal() if secret else None


if __name__ == "__main__":
    main(prog_name="python -m mailglass.testing.lab")
