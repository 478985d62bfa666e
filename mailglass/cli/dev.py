"""`mailglass dev`."""

from __future__ import annotations

import sys

import click

from mailglass.cli.demo import ROOT
from mailglass.cli.output import note


@click.command()
@click.option("--web-port", type=click.IntRange(1, 65535), default=8025, show_default=True, help="If it is free.")
@click.pass_context
def dev(ctx: click.Context, web_port: int) -> None:
    """Run a local stack to develop an application against.

    Starts what `mailglass demo` starts and prints the environment for the application, which is also written to
    .mailglass/dev.env; no mail leaves this machine. Tenants acme (Postmark) and globex (SendGrid) have a route of
    their own, all others go by SMTP. Then shows what worker, beat and web process have to say, until Ctrl-C.
    """
    from mailglass.demo.assembly import Platform
    from mailglass.demo.keeping import end_on_sigterm, keep, places
    from mailglass.demo.narrator import PlainNarrator
    from mailglass.demo.surroundings import exports
    from mailglass.demo.tail import Tail
    from mailglass.testing.lab.weather import MARKERS

    end_on_sigterm()
    narrating = PlainNarrator(sys.stderr)
    with Platform(ROOT, "dev", narrating.say, web_port) as platform:
        for line in exports(platform.environment):
            click.echo(line)
        for name, place in places(platform).items():
            note(f"{name:<12}{place}")
        note(f"The lab delivers everything, except to addresses that begin with one of: {', '.join(MARKERS)}")
        note(f"In another shell: . {platform.environment_file}   Here: Ctrl-C ends it.")
        keep(platform, Tail([child.log for child in platform.children], note).look)
