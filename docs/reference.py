"""Write the references of commands and settings, `docs/reference/cli.md` and `docs/reference/settings.md`.

Run `python docs/reference.py` after a command, an option or a setting was changed. All text comes from the code: what
`--help` prints, and the docstrings of the settings.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from mailglass.cli import cli
from mailglass.mail.recipients import RecipientPolicy
from mailglass.mail.streams import DEFAULT_POLICIES, Stream, StreamPolicy
from mailglass.settings import (
    ENVIRONMENT,
    AccountSettings,
    DomainSettings,
    EngineSettings,
    LimitRule,
    Route,
    SendingSettings,
    Settings,
    WarmupPlan,
    WebhookSettings,
)

DIRECTORY: Final = Path(__file__).resolve().parent / "reference"

_WIDTH: Final = 100
_WRITTEN: Final = "<!-- written by docs/reference.py -->\n"
_CLI_HEAD: Final = """\
# Commands

Every command, as `--help` prints it. Data goes to standard output, and everything else to standard error. The exit code
is 0 for success, 1 for an error with its remedy, 64 for wrong usage and 130 when you interrupt it. Commands document
further codes. With `--format json` you get what [the schemas](../schemas/) describe.
"""
_SETTINGS_HEAD: Final = """\
# Settings

You write settings in `mailglass.toml`. mailglass reads it from the working directory, or from where `MAILGLASS_CONFIG`
points. Check yours with `mailglass config check`. [Getting started](../getting-started.md#configure-it) shows a whole
file. What a provider's accounts take stands on the provider's page.
"""
# keys that are written otherwise than the field is called
_SPELLED: Final[Mapping[type, Mapping[str, str]]] = {
    AccountSettings: {"sender": "from"},
    WarmupPlan: {"caps": "plan"},
}
# fields that are no keys: the table's own name, what stands in tables of its own, and what only a process knows
_LEFT_OUT: Final[Mapping[type, frozenset[str]]] = {
    Settings: frozenset(
        {"accounts", "routes", "streams", "engine", "webhooks", "limits", "domains", "recipients", "tasks"}
        | {"file", "django", "unknown_variables"}
    ),
    AccountSettings: frozenset({"name", "options", "warmup", "dns"}),
}


def commands() -> str:
    """Return the reference of commands."""
    parts = [f"## {' '.join(path)}\n\n```text\n{text.rstrip()}\n```\n" for path, text in _helps(cli, ("mailglass",))]
    return f"{_CLI_HEAD}{_WRITTEN}\n" + "\n".join(parts)


def _helps(command: click.Command, path: tuple[str, ...], parent: click.Context | None = None) -> Iterator[Any]:
    """Yield each command's path and help, groups before what is in them."""
    # with the program's own settings: click keeps a command's help option by the first context that asks for it
    settings = {**cli.context_settings, "terminal_width": _WIDTH, "max_content_width": _WIDTH}
    context = click.Context(command, parent=parent, info_name=path[-1], **settings)
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _helps(found, (*path, name), context)


def settings() -> str:
    """Return the reference of settings."""
    parts = [
        _section("At the top", "Before the first table.", Settings),
        _section("[accounts.NAME]", "One for each account. `provider` is needed.", AccountSettings),
        _section("[accounts.NAME.warmup]", "How many mails a day a new account sends.", WarmupPlan),
        _section("[accounts.NAME.dns]", "What `mailglass mail-doctor` and the watch check.", SendingSettings),
        _section("[[routes]]", "The first route that matches counts.", Route),
        _limits(),
        _section("[engine]", "Durations are seconds.", EngineSettings),
        _streams(),
        _section("[webhooks]", "The webhook endpoint.", WebhookSettings),
        _section("[domains]", "The watch of your sending domains.", DomainSettings),
        _section("[environments.NAME]", "Who may get mail outside production.", RecipientPolicy),
        "## [tasks]\n\nThe queue of a task by its name, for a worker of its own.\n",
        _variables(),
    ]
    return f"{_SETTINGS_HEAD}{_WRITTEN}\n" + "\n".join(parts)


def _section(title: str, sentence: str, cls: type) -> str:
    rows = [(_SPELLED.get(cls, {}).get(field.name, field.name), _default(field), said) for field, said in _fields(cls)]
    return f"## {title}\n\n{sentence}\n\n{_table(('key', 'default', 'meaning'), rows)}"


def _fields(cls: type) -> Iterator[tuple[dataclasses.Field[Any], str]]:
    """Yield the fields of a dataclass that are keys, with what its docstring says of them."""
    said = _said(cls)
    for field in dataclasses.fields(cls):
        if field.name not in _LEFT_OUT.get(cls, ()):
            if field.name not in said:
                raise SystemExit(f"{cls.__name__}.{field.name} is not described in the docstring: add it to Attributes")
            yield field, said[field.name]


def _said(cls: type) -> dict[str, str]:
    """Return the entries of a docstring's `Attributes`, by name."""
    section = inspect.getdoc(cls).partition("Attributes:\n")[2].partition("\n\n")[0]  # type: ignore[union-attr]
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \w+: )", "\n" + section):
        name, _, text = entry.strip().partition(": ")
        found[name] = " ".join(text.split())
    return found


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING:
        return "needed"
    return _shown(value)


def _shown(value: Any) -> str:
    """Return a value as it is written in TOML, or an empty text if it stands for nothing."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value:g}`" if value < 1_000_000 else f"`{value:.0f}`"
    if isinstance(value, str) and value:
        return f'`"{value}"`'
    return ""


def _limits() -> str:
    said = _said(LimitRule)
    rows = [
        ("scope", "needed", f"{said['scope']} See [rate limits](../guides/rate-limits.md)."),
        ("key", '`"*"`', said["key"]),
        ("rate", "needed", "Mails a second, minute, hour or day: `100/s`, `600/m`, `5000/h`, `100000/d`."),
        ("burst", "two seconds' worth", said["burst"]),
    ]
    return f"## [[limits]]\n\nAll workers share them.\n\n{_table(('key', 'default', 'meaning'), rows)}"


def _streams() -> str:
    rows = [
        (field.name, *(_shown(getattr(DEFAULT_POLICIES[stream], field.name)) for stream in Stream), said)
        for field, said in _fields(StreamPolicy)
    ]
    return (
        "## [streams.NAME]\n\nThe stream is `transactional`, `operational` or `bulk`. Durations are seconds.\n\n"
        + _table(("key", *Stream, "meaning"), rows)
    )


def _variables() -> str:
    rows = [(name, text) for name, text in ENVIRONMENT.items()]
    return f"## Variables\n\nA variable goes before the key of its name.\n\n{_table(('variable', 'meaning'), rows)}"


def _table(heads: tuple[str, ...], rows: list[Any]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for name, *middle, text in rows:
        lines.append(f"| {' | '.join([f'`{name}`', *middle, _sentences(text)])} |")
    return "\n".join(lines) + "\n"


def _sentences(text: str) -> str:
    """Return a docstring's entry as sentences."""
    text = text.replace("None: ", "If left out: ")
    text = re.sub(r"; (.)", lambda found: f". {found[1].upper()}", text.strip())
    if "://" not in text.partition(" ")[0]:
        text = text[:1].upper() + text[1:]
    return text.replace("|", "\\|") if text.endswith((".", ":")) else f"{text}.".replace("|", "\\|")


PAGES: Final = {"cli.md": commands, "settings.md": settings}


def main() -> None:
    """Write both."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, write in PAGES.items():
        (DIRECTORY / name).write_text(write(), encoding="utf-8")


if __name__ == "__main__":
    main()
