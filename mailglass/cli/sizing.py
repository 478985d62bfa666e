"""`mailglass sizing`: from a rate and a provider's latency to `-c`, concurrency and connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from mailglass.cli.output import JSON, format_option, note, print_json, print_table
from mailglass.preflight.sizing import MAX_CONCURRENCY, PREFORK, parse_latency, parse_rate, size


def _parsed(parse: Callable[[str], float]) -> Callable[[click.Context, click.Parameter, str], float]:
    def callback(ctx: click.Context, param: click.Parameter, value: str) -> float:
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return callback


@click.command()
@click.option("--rate", required=True, callback=_parsed(parse_rate), metavar="MAILS/PERIOD", help="For example 200/s.")
@click.option(
    "--latency",
    required=True,
    callback=_parsed(parse_latency),
    metavar="DURATION",
    help="Time of one request to the provider, for example 80ms.",
)
@click.option(
    "--mails-per-request",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="1 for SMTP and SES; bulk APIs take more.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, MAX_CONCURRENCY),
    default=1,
    show_default=True,
    help="The account's requests in flight in one process.",
)
@click.option("--headroom", type=click.FloatRange(0.0, 10.0), default=0.3, show_default=True, help="Share for peaks.")
@click.option(
    "--pool",
    type=click.Choice([PREFORK, "threads", "gevent"]),
    default=PREFORK,
    show_default=True,
    help="The worker's pool (-P).",
)
@click.option(
    "--transport",
    type=click.Choice(["http", "smtp"]),
    default="http",
    show_default=True,
    help="The transport of the account.",
)
@format_option
def sizing(output_format: str, **given: Any) -> None:
    """Size a worker for a rate and a provider's latency.

    Measure the latency of one request first: `mailglass deliveries show` prints it for each attempt. Without a measure,
    start with 10 slots. Add slots when deliveries lag. Take some away when the provider limits you.

    \b
    mailglass sizing --rate 200/s --latency 80ms
    mailglass sizing --rate 1000000/day --latency 400ms --mails-per-request 100 --pool gevent
    """
    answer = size(given.pop("rate"), given.pop("latency"), **given)
    pool = given["pool"]
    command = f"celery -A mailglass worker -Q mailglass -c {answer.slots}" + ("" if pool == PREFORK else f" -P {pool}")
    if output_format == JSON:
        print_json(command=command, **asdict(answer))
        return
    print_table(
        ("", ""),
        [
            ("requests in flight", f"{answer.in_flight:.1f}"),
            ("slots (-c)", str(answer.slots)),
            ("account concurrency", str(answer.concurrency)),
            ("database connections", str(answer.connections)),
            ("processor cores", f"{answer.cores:.2f}"),
        ],
    )
    note(command)
    if answer.cores > 1:
        note("One process uses one core at most. Divide the slots among as many workers as it takes.")
