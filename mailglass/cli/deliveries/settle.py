"""`mailglass deliveries uncertain` and `settle`: deliveries that may have been sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import click

from mailglass.cli import database as cli_database
from mailglass.cli.actor import actor_option
from mailglass.cli.deliveries.bulk import report, ring, run_batches
from mailglass.cli.moments import Moment, format_moment
from mailglass.cli.output import JSON, SAMPLE, format_option, note, print_json, print_table
from mailglass.mail.streams import Stream

if TYPE_CHECKING:
    from mailglass.ledger.database import Database
    from mailglass.ledger.deliveries import State
    from mailglass.ledger.filters import Selection
    from mailglass.ledger.settlement import Settlement, Unsettled
    from mailglass.routing import Lane

_STREAMS = click.Choice([stream.value for stream in Stream])


@click.command()
@click.option("--tenant", help="Only this tenant's.")
@click.option("--account", help="Only those that this account may have sent.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most this many.")
@format_option
def uncertain(tenant: str | None, account: str | None, limit: int, output_format: str) -> None:
    """List deliveries that may have been sent, oldest first.

    Uncertain ones wait for evidence until their hold ends. Queued ones are asked about again at their account, or sent
    again. Held ones wait for a person.
    """
    from mailglass.ledger.settlement import unsettled

    items = unsettled(cli_database.open_database(), tenant=tenant, account=account, limit=limit)
    if output_format == JSON:
        print_json(deliveries=[_as_json(item) for item in items])
        return
    head = ("ID", "CREATED", "TENANT", "STREAM", "STATUS", "ACCOUNT", "ATTEMPTS", "NEXT", "LAST ERROR", "HOLD ENDS")
    print_table(head, [_row(item) for item in items])


@click.command()
@click.argument("ids", metavar="[ID...]", nargs=-1, type=click.UUID)
@click.option("--sent", is_flag=True, help="They went out.")
@click.option("--resend", is_flag=True, help="Send them again; some recipients may get two.")
@click.option("--give-up", is_flag=True, help="Do not send them again; they fail.")
@click.option(
    "--status",
    type=click.Choice(["uncertain", "queued", "held"]),
    help="Instead of ids: all in doubt that stand there.",
)
@click.option("--tenant", help="With --status: only this tenant's.")
@click.option("--account", help="With --status: only those that this account may have sent.")
@click.option("--stream", type=_STREAMS, help="With --status: only this stream's.")
@click.option("--before", type=Moment(), metavar="MOMENT", help="With --status: only those recorded before it.")
@click.option("--yes", is_flag=True, help="Do it; without this, only say what would be done.")
@actor_option
@format_option
def settle(
    ids: tuple[UUID, ...],
    status: str | None,
    tenant: str | None,
    account: str | None,
    stream: str | None,
    before: datetime | None,
    yes: bool,
    actor: str,
    output_format: str,
    **words: bool,
) -> int:
    """Settle deliveries that may have been sent.

    State their outcome, by id or by filter. Check the provider's own log first. The first run only lists them;
    --yes settles them. By id, the command exits with 1 if one of them is not in doubt, or is claimed.
    """
    from mailglass.ledger.settlement import Settlement

    given = [word for word, is_given in words.items() if is_given]
    if len(given) != 1:
        raise click.UsageError("Say what became of them, by one of --sent, --resend and --give-up.")
    if bool(ids) == bool(status) or (ids and any((tenant, account, stream, before))):
        raise click.UsageError("Give ids, or --status, which --tenant, --account, --stream and --before narrow.")
    database, settlement = cli_database.open_database(), Settlement(given[0])
    if ids:
        return _settle_these(database, ids, settlement, yes, actor, output_format)
    from mailglass.ledger.filters import Selection
    from mailglass.ledger.lifecycle import Status

    chosen = Selection(
        status=Status(status or ""),
        tenant=tenant,
        account=account,
        stream=stream,
        created_before=before,
        in_doubt=True,
    )
    _settle_selected(database, chosen, settlement, yes, actor, output_format)
    return 0


def _settle_these(
    database: Database, ids: tuple[UUID, ...], settlement: Settlement, yes: bool, actor: str, output_format: str
) -> int:
    from mailglass.ledger.audit import Actor
    from mailglass.ledger.deliveries import states
    from mailglass.ledger.settlement import settle as settle_in_ledger

    found = states(database, ids)
    open_ = [key for key in dict.fromkeys(ids) if _is_open(found.get(key))]
    lanes = settle_in_ledger(database, open_, settlement, actor=Actor(actor, open_)) if yes else {}
    _ring(lanes, settlement)
    left = [key for key in dict.fromkeys(ids) if key not in (lanes if yes else set(open_))]
    done = [str(key) for key in open_ if key in lanes]
    if output_format == JSON:
        print_json(
            dry_run=not yes, unsettled=[str(key) for key in open_], settled=done, left=[str(key) for key in left]
        )
        return 1 if left else 0
    if yes:
        click.echo(f"{len(done)} settled.")
    else:
        for key in open_:
            click.echo(str(key))
        note(f"{len(open_)} would be settled; add --yes to do it.")
    for key in left:
        note(f"{key} was left alone: it is not in doubt, or a worker has it, or it has ended.")
    return 1 if left else 0


def _settle_selected(
    database: Database, chosen: Selection, settlement: Settlement, yes: bool, actor: str, output_format: str
) -> None:
    from mailglass.ledger import selection
    from mailglass.ledger.audit import Actor
    from mailglass.ledger.settlement import SETTLEABLE

    preview = selection.preview(database, chosen, SETTLEABLE, SAMPLE)
    by = Actor(actor, chosen.described())
    batches: Iterator[dict[UUID, Lane]] = iter(())
    if yes:
        batches = selection.settle(database, preview.selection, settlement, actor=by, batch=cli_database.BATCH)
    settled = run_batches((_ring(lanes, settlement) for lanes in batches), preview, "settled")
    report(preview, settled, yes, "settled", output_format)


def _is_open(state: State | None) -> bool:
    from mailglass.ledger.settlement import SETTLEABLE

    return state is not None and state.in_doubt and state.status in SETTLEABLE


def _next(item: Unsettled) -> str:
    """Return the next event of a delivery that nobody settles."""
    if item.status == "uncertain":
        return "evidence"
    if item.status == "held":
        return "a person"
    return "asked again" if item.ask_again else "sent again"


def _ring(lanes: Mapping[UUID, Lane], settlement: Settlement) -> int:
    if settlement == "resend":
        ring(lanes)
    return len(lanes)


def _row(item: Unsettled) -> tuple[str, ...]:
    return (
        str(item.id),
        format_moment(item.created_at),
        item.tenant,
        item.stream,
        item.status.value,
        item.account or "",
        str(item.attempts),
        _next(item),
        item.last_error or "",
        format_moment(item.hold_until),
    )


def _as_json(item: Unsettled) -> dict[str, object]:
    return {
        "id": str(item.id),
        "tenant": item.tenant,
        "stream": item.stream,
        "status": item.status.value,
        "account": item.account,
        "attempts": item.attempts,
        "ask_again": item.ask_again,
        "last_error": item.last_error,
        "created_at": item.created_at.isoformat(),
        "hold_until": item.hold_until and item.hold_until.isoformat(),
        "search_from": item.search_from and item.search_from.isoformat(),
    }
