"""`mailglass suppressions import` and `export`: CSV files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mailglass.cli.actor import actor_option
from mailglass.cli.output import JSON, format_option, note, print_json, progress_bar
from mailglass.cli.suppressions.entries import chosen_filter, filter_options
from mailglass.mail.streams import Stream

if TYPE_CHECKING:
    from typing import TextIO

    from mailglass.suppressions.csv_import import ImportReport

_SHOWN = 20


@click.command()
@click.argument("target", metavar="FILE|-", type=click.Path(allow_dash=True))
@filter_options
@format_option
def export(target: str, output_format: str, **given: Any) -> None:
    """Write the entries that match all filters to a CSV file, or with - to standard output.

    `import` reads the file again.
    """
    from mailglass.routing.scope import ANY_TENANT
    from mailglass.suppressions.csv_export import export_csv

    chosen = chosen_filter(given).given()
    tenant = chosen.pop("tenant", ANY_TENANT)
    try:
        with progress_bar("exported") as show:
            count = export_csv(sys.stdout if target == "-" else target, tenant=tenant, progress=show, **chosen)
    except OSError as error:
        if target == "-":
            raise
        raise click.UsageError(f"{target} cannot be written: {error.strerror}") from None
    if target == "-":
        note(f"{count} exported.")
    elif output_format == JSON:
        print_json(exported=count)
    else:
        click.echo(f"{count} exported.")


@click.command("import")
@click.argument("source", metavar="FILE|-", type=click.Path(allow_dash=True))
@click.option("--tenant", required=True, help="The tenant whose mail the entries stop; * for everybody's.")
@click.option(
    "--reason",
    type=click.Choice(["hard_bounce", "complaint", "unsubscribe", "manual", "provider"]),
    help="For records that say none.",
)
@click.option(
    "--stream",
    type=click.Choice([stream.value for stream in Stream]),
    help="For unsubscriptions that say none.  [default: bulk and operational]",
)
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="A heading, such as value=Customer.")
@click.option("--from-line", type=click.IntRange(1), default=1, show_default=True, help="Go on with this line.")
@click.option("--refused", type=click.Path(), help="Write line numbers and reasons here.")
@click.option("--dry-run", is_flag=True, help="Only say what would be added.")
@actor_option
@format_option
def import_(
    source: str,
    tenant: str,
    reason: str | None,
    stream: str | None,
    columns: tuple[str, ...],
    from_line: int,
    refused: str | None,
    dry_run: bool,
    actor: str,
    output_format: str,
) -> int:
    """Read suppressed addresses from a CSV file into the list.

    Exports of mailglass, SendGrid, Mailgun, Postmark, Amazon SES and Brevo are known by their headings. SendGrid's say
    no reason: give --reason. Lines that cannot be read are counted by reason and named by number. Exits with 1 if there
    are some.
    """
    from mailglass.errors import MessageError
    from mailglass.suppressions.csv_import import import_csv

    reached: list[int] = []
    try:
        with _open(source) as file, _refusals(refused) as on_refused, progress_bar("lines") as show:

            def progress(report: ImportReport) -> None:
                reached[:] = [report.line]
                if show is not None:
                    show(report.line)

            report = import_csv(
                file,
                tenant=tenant,
                reason=reason,
                stream=stream,
                columns=_renamed(columns),
                from_line=from_line,
                dry_run=dry_run,
                actor=actor,
                on_refused=on_refused,
                progress=progress,
            )
    except MessageError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"the file cannot be read or written: {error.strerror}") from None
    except BaseException:
        if reached:
            note(f"Stopped after line {reached[0]}: go on with --from-line {reached[0] + 1}")
        raise
    return _print(report, dry_run, output_format)


def _print(report: ImportReport, dry_run: bool, output_format: str) -> int:
    refused = sum(report.refused.values())
    if output_format == JSON:
        lines = [{"line": line, "reason": reason} for line, reason in report.refused_lines]
        print_json(dry_run=dry_run, read=report.read, added=report.added, refused=report.refused, refused_lines=lines)
        return 1 if refused else 0
    click.echo(f"{report.read} read, {report.added} {'would be added' if dry_run else 'added'}, {refused} refused.")
    for line, reason in report.refused_lines[:_SHOWN]:
        note(f"line {line}: {reason}")
    if refused > _SHOWN:
        note(f"and {refused - _SHOWN} more: --refused FILE writes them all")
    if dry_run:
        note("Nothing was changed: leave --dry-run out to do it.")
    return 1 if refused else 0


def _renamed(columns: tuple[str, ...]) -> Mapping[str, str]:
    renamed = {}
    for column in columns:
        ours, equals, theirs = column.partition("=")
        if not equals or not theirs.strip():
            raise click.BadParameter("give OURS=THEIRS, such as value=Customer", param_hint="--column")
        renamed[ours.strip()] = theirs
    return renamed


@contextmanager
def _open(source: str) -> Iterator[TextIO]:
    if source == "-":
        sys.stdin.reconfigure(encoding="utf-8", errors="replace", newline="")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with open(source, encoding="utf-8", errors="replace", newline="") as file:
        yield file


@contextmanager
def _refusals(path: str | None) -> Iterator[Callable[[int, str], None] | None]:
    if path is None:
        yield None
        return
    with open(path, "w", encoding="utf-8") as file:
        file.write("line,reason\n")
        yield lambda line, reason: print(f"{line},{reason}", file=file)
