"""`mailglass dev`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailglass.cli.demo import ROOT
from mailglass.cli.output import note
from mailglass.errors import MailglassError

if TYPE_CHECKING:
    from mailglass.demo.assembly import Platform
    from mailglass.settings.django import DjangoSettings


@click.command()
@click.option("--web-port", type=click.IntRange(1, 65535), default=8025, show_default=True, help="If it is free.")
def dev(web_port: int) -> None:
    """Run a local stack to develop an application against.

    Runs the settings of --config, MAILGLASS_CONFIG or ./mailglass.toml, with every account's mail caught: none leaves
    this machine. As `manage.py mailglass dev` it runs MAILGLASS of your Django settings. Without settings, tenants acme
    (Postmark) and globex (SendGrid) have a route of their own to stand-ins, and all others go by SMTP. Ports and
    passwords are the same at every start while the ports are free.

    Prints the environment for the application, which is also written to .mailglass/dev.env, and where the caught mails
    can be read. When templates, Python files or settings change, the worker starts again with them. Shows what worker,
    beat and web process have to say, until Ctrl-C.
    """
    from mailglass.demo import own_settings, surroundings
    from mailglass.demo.assembly import Platform
    from mailglass.demo.keeping import end_on_sigterm, keep, places
    from mailglass.demo.narrator import PlainNarrator
    from mailglass.demo.tail import Tail
    from mailglass.testing.lab.weather import MARKERS

    end_on_sigterm()
    narrating = PlainNarrator(sys.stderr)
    # what the shell still has from an earlier run is no application's own
    surroundings.tidy(ROOT)
    own = own_settings.find(os.environ, Path.cwd())
    with Platform(ROOT, "dev", narrating.say, web_port, own) as platform:
        for line in surroundings.exports(platform.environment):
            click.echo(line)
        for name, place in places(platform).items():
            note(f"{name:<12}{place}")
        note(_ran(own))
        note(f"The lab delivers everything, except to addresses that begin with one of: {', '.join(MARKERS)}")
        note(f"In another shell: . {platform.environment_file}   Here: Ctrl-C ends it.")
        file = own if isinstance(own, Path) else None
        tail, reload = Tail([child.log for child in platform.children], note), _reloader(platform, file)

        def look() -> None:
            tail.look()
            reload()

        keep(platform, look)


def _ran(own: Path | DjangoSettings | None) -> str:
    """Return a sentence about the settings that are run."""
    if own is None:
        return "Runs settings of its own: no mailglass.toml."
    name = own if isinstance(own, Path) else f"MAILGLASS of {own.module}"
    return f"Runs {name}, with every account's mail caught."


def _reloader(platform: Platform, own: Path | None) -> Callable[[], None]:
    """Return what starts processes again once their files have changed; called every now and then."""
    from mailglass.demo.reloading import Changes

    changes = Changes(Path.cwd(), own)

    def reload() -> None:
        changed = changes.look()
        if not changed:
            return
        note(f"{changed[0].name} has changed: starting again")
        try:
            platform.reload(settings=own is not None and own in changed)
        except MailglassError as error:
            note(f"mailglass: {error}")
            note("What ran before goes on.")

    return reload
