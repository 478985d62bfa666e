"""`mailglass mail-doctor`: check whether a domain's mail will be accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mailglass.cli.output import JSON, format_option, print_json
from mailglass.errors import ConfigError

if TYPE_CHECKING:
    from mailglass.domains.report import Report
    from mailglass.domains.subject import Subject

EXIT_FOUND = 1
EXIT_CANNOT_VERIFY = 3
FAIL_ON = ("fail", "warn", "never")


@click.command("mail-doctor")
@click.option("--domain", metavar="DOMAIN", help="The sending domain; default: all of the settings.")
@click.option("--dkim-selector", "selectors", multiple=True, metavar="S", help="A DKIM selector; may be repeated.")
@click.option("--from", "senders", multiple=True, metavar="ADDRESS", help="From of the mail, an address or a domain.")
@click.option("--return-path", default="", metavar="DOMAIN", help="The envelope's sender, an address or a domain.")
@click.option("--ip", "addresses", multiple=True, metavar="IP", help="An address that sends; may be repeated.")
@click.option("--verbose", is_flag=True, help="Show the evidence: queries, answers, TTL, server, milliseconds.")
@click.option(
    "--fail-on",
    type=click.Choice(FAIL_ON),
    default="fail",
    show_default=True,
    help="The least status that exits with 1.",
)
@click.option("--resolver", metavar="IP[:PORT]", help="The DNS resolver to ask, instead of the system's.")
@click.option("--online", is_flag=True, help="Fetch the policy file of MTA-STS over HTTPS too.")
@click.option("--explain", metavar="CODE", help="Say what a receiver meant by a refusal, such as 5.7.515.")
@format_option
def mail_doctor(
    domain: str | None,
    selectors: tuple[str, ...],
    senders: tuple[str, ...],
    return_path: str,
    addresses: tuple[str, ...],
    verbose: bool,
    fail_on: str,
    resolver: str | None,
    online: bool,
    explain: str | None,
    output_format: str,
) -> int:
    """Check whether a domain's mail will be accepted.

    SPF, DKIM, DMARC, alignment, MX, reverse DNS and what your providers ask for, with the record that mends each
    fault. Needs DNS and nothing else. Without --domain it checks every sending domain of the settings.

    \b
      mailglass mail-doctor --domain example.com --dkim-selector s1
      mailglass mail-doctor --domain example.com --ip 192.0.2.1 --verbose
      mailglass mail-doctor --explain "550 5.7.26 This mail is unauthenticated"

    Exit codes: 0 nothing found, 1 found at or above --fail-on, 3 something could not be verified and nothing worse
    was found, 64 wrong usage. With --fail-on never it is 0.
    """
    if explain is not None:
        return _explain(explain, output_format)
    try:
        subjects, where = _subjects(domain, selectors, senders, return_path, addresses, resolver)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    reports = _examined(subjects, where, online)
    if output_format == JSON:
        _print_json(reports, single=domain is not None)
    else:
        _print_human(reports, verbose)
    return _exit_code(reports, fail_on)


def _explain(said: str, output_format: str) -> int:
    from mailglass.domains.explain import explain

    try:
        explanation = explain(said)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if output_format == JSON:
        print_json(explanation=explanation.as_json())
        return 0
    refusal = explanation.refusal
    click.echo(click.style(explanation.status or "A refusal", bold=True) + f": {explanation.text}.")
    receiver = f", said by {refusal.receiver}" if refusal.receiver else ""
    click.echo(f"Lasting: {refusal.lasting}. Reaches: {refusal.scope}{receiver}.")
    if explanation.findings:
        click.echo("Findings: " + ", ".join(explanation.findings))
        click.echo("See them with: mailglass mail-doctor --domain DOMAIN --verbose")
    else:
        click.echo("Findings: none. No DNS record of yours decides about it.")
    for source in explanation.sources:
        click.echo(f"Source: {source}")
    return 0


def _subjects(
    domain: str | None,
    selectors: Sequence[str],
    senders: Sequence[str],
    return_path: str,
    addresses: Sequence[str],
    resolver: str | None,
) -> tuple[Sequence[Subject], str]:
    """Return what is to be checked, and the resolver to ask."""
    from dataclasses import replace

    from mailglass.domains.configured import public_suffix_domain, sending_domains, subject_for
    from mailglass.settings import get_settings

    settings = get_settings()
    where = settings.domains.resolver if resolver is None else resolver
    if domain is not None:
        subject = subject_for(
            settings, domain, selectors=selectors, senders=senders, return_path=return_path, addresses=addresses
        )
        return (subject,), where
    if selectors or senders or return_path or addresses:
        raise ConfigError("--domain", "missing", "Say which domain the other options are about: --domain example.com")
    subjects = sending_domains(settings)
    if not subjects:
        raise ConfigError(
            "--domain",
            "missing, and the settings name no sending domain",
            "Give --domain example.com, or `from` in an account's settings",
        )
    return [replace(item, public_suffix_domain=public_suffix_domain(item.domain)) for item in subjects], where


def _examined(subjects: Sequence[Subject], where: str, online: bool) -> list[Report]:
    from mailglass.domains.together import examine_all

    try:
        return examine_all(subjects, where, online=online)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _print_json(reports: Sequence[Report], *, single: bool) -> None:
    from mailglass.domains.as_json import report_as_json

    shown: list[dict[str, Any]] = [report_as_json(report) for report in reports]
    if single:
        print_json(**shown[0])
    else:
        print_json(reports=shown)


def _print_human(reports: Sequence[Report], verbose: bool) -> None:
    from mailglass.domains.human import lines

    for number, report in enumerate(reports):
        if number:
            click.echo()
        for line in lines(report, verbose=verbose):
            rest = line.text[len(line.marked) :]
            marked = click.style(line.marked, fg=line.colour) if line.colour else line.marked
            click.echo(click.style(line.text, bold=True) if line.bold else f"{marked}{rest}")


def _exit_code(reports: Sequence[Report], fail_on: str) -> int:
    from mailglass.domains.findings import Status

    statuses = {finding.status for report in reports for finding in report.findings}
    if fail_on == "never":
        return 0
    if Status.FAIL in statuses or (fail_on == "warn" and Status.WARN in statuses):
        return EXIT_FOUND
    return EXIT_CANNOT_VERIFY if Status.CANNOT_VERIFY in statuses else 0
