"""The documentation keeps to the code: links, commands, settings, options and paths that it names exist."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import mailglass
from mailglass.cli import cli
from mailglass.providers.registry import provider_class
from mailglass.settings import load_settings
from tests import prose

PAGES = {str(path.relative_to(prose.ROOT)): path.read_text(encoding="utf-8") for path in prose.pages()}
PROVIDERS = [name for name in PAGES if name.startswith("docs/providers/")]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
# what a shortened id of an example stands for
WHOLE_ID = "0199c6f2-0000-7000-8000-000000000000"


def fences(page: str, language: str) -> list[str]:
    """The fenced blocks of a language, without the indentation of a list item."""
    return [
        re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)
        for indent, name, block in FENCE.findall(PAGES[page])
        if name == language
    ]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_lines(text: str) -> Iterator[str]:
    """The lines of indented and console blocks that call `mailglass`."""
    for line in text.splitlines():
        if found := re.match(r"^(?: {4,}| *\$ )(mailglass .+)$", line):
            yield found[1]


@pytest.mark.parametrize("page", PAGES)
def test_prose_of_a_page_keeps_to_the_bounds(page: str) -> None:
    assert list(prose.problems(prose.measure(PAGES[page]))) == []


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_to_a_file_and_a_heading(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        file = (prose.ROOT / page).parent / name if name else prose.ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page_stands_where_the_type_checkers_find_it(page: str) -> None:
    assert PAGES[page].count("```python") == len(re.findall(r"^```python$", PAGES[page], re.MULTILINE))


@pytest.mark.parametrize("page", [page for page in PAGES if list(command_lines(PAGES[page]))])
def test_commands_of_a_page_exist_and_take_their_options(page: str) -> None:
    for line in command_lines(PAGES[page]):
        line = re.sub(r"\b0199c6f\d-…", WHOLE_ID, line)
        _parse(cli, shlex.split(re.sub(r" \| .*| < .*", "", line), comments=True))


def test_commands_in_running_text_and_in_messages_exist() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (prose.ROOT / "mailglass").rglob("*.py")]
    texts = [*PAGES.values(), *sources]
    spans = {" ".join(span.split()) for text in texts for span in re.findall(r"`(mailglass [^`{]+)`", text)}
    assert len(spans) > 40
    for span in spans:
        command: click.Command = cli
        for word in span.split()[1:]:
            if word.startswith("-") or not isinstance(command, click.Group):
                break
            found = [command.get_command(click.Context(command), name) for name in word.split("|")]
            assert None not in found, span
            command = found[0] or cli


def _parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Parse a command line as click does, values included, and run nothing of it.

    Raises:
        click.UsageError: it does not exist so.
    """
    with click.Context(command, parent=parent, info_name=words[0], **command.context_settings) as context:
        if not isinstance(command, click.Group):
            command.parse_args(context, words[1:])
            return
        at = next((number for number, word in enumerate(words[1:], 1) if not word.startswith("-")), None)
        if at is None:
            command.parse_args(context, words[1:])
            return
        found = command.get_command(context, words[at])
        assert found is not None, words
        _parse(found, words[at:], context)


@pytest.mark.parametrize("page", [page for page in PAGES if fences(page, "toml")])
def test_settings_of_a_page_can_be_read(page: str, tmp_path: Path) -> None:
    whole = [block for block in fences(page, "toml") if "[accounts." in block and "provider =" in block]
    for number, block in enumerate(fences(page, "toml")):
        assert tomllib.loads(block)
        if block in whole:
            file = tmp_path / f"{number}.toml"
            file.write_text(f'default_from = "a@example.com"\n{block}' if "default_from" not in block else block)
            accounts = load_settings({}, file).accounts.values()
            assert accounts
            for account in accounts:
                known = {field.name for field in dataclasses.fields(provider_class(account.provider).Options)}
                assert account.options.keys() <= known


@pytest.mark.parametrize("page", PROVIDERS)
def test_options_of_a_provider_stand_on_its_page_with_their_defaults(page: str) -> None:
    said: dict[str, str] = {}
    for line in PAGES[page].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`(\w+)`", cells[0]) if line.startswith("|") else []
        defaults = [value.strip(" `") for value in cells[1].split(",")] if len(cells) > 2 else ["?"]
        for number, name in enumerate(names):
            said.setdefault(name, defaults[number if len(defaults) == len(names) else 0])
    for field in dataclasses.fields(provider_class(Path(page).stem).Options):
        assert field.name in said
        default = _default(field)
        if isinstance(default, bool | int | float):
            assert said[field.name] == str(default).lower().removesuffix(".0"), field.name


def _default(field: dataclasses.Field[Any]) -> object:
    return None if field.default is dataclasses.MISSING else field.default


def test_paths_that_the_architecture_names_exist() -> None:
    paths = set(re.findall(r"`((?:mailglass|workers|beat|docs|tests)/[\w./-]+)`", PAGES["docs/architecture.md"]))
    assert len(paths) > 50
    assert [path for path in sorted(paths) if not (prose.ROOT / path).exists()] == []


def script(name: str) -> Any:
    """A script of `docs/`, as a module."""
    spec = importlib.util.spec_from_file_location(name, prose.ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "settings.md"])
def test_reference_of_commands_and_settings_follows_the_code(name: str) -> None:
    assert PAGES[f"docs/reference/{name}"] == script("reference").PAGES[name](), "run `python docs/reference.py`"


def test_picture_and_table_of_the_rooms_follow_the_imports() -> None:
    rooms = script("rooms")
    graph = rooms.imports()
    named = re.findall(r"`(?:mailglass|workers|beat)/(\w+)", PAGES["docs/architecture.md"])
    assert graph.keys() <= set(named)
    assert rooms.PICTURE.read_text(encoding="utf-8") == rooms.draw(graph), "run `python docs/rooms.py`"


def test_tables_of_the_ledger_are_those_of_the_architecture() -> None:
    versions = (prose.ROOT / "mailglass/ledger/migrations/versions").glob("*.py")
    made = {name for path in versions for name in re.findall(r"CREATE TABLE mailglass\.(\w+)", path.read_text())}
    section = PAGES["docs/architecture.md"].partition("\n### Tables\n")[2].partition("\n## ")[0]
    assert made - set(re.findall(r"`(\w+)`", section)) == set()


def test_changelog_names_everything_that_can_be_imported() -> None:
    assert [name for name in mailglass.__all__ if f"`{name}`" not in PAGES["CHANGELOG.md"]] == []


def _leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command that has none below it."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _leaves(found, (*path, name))


@pytest.mark.parametrize("path", list(_leaves(cli)), ids=" ".join)
def test_options_of_a_command_have_a_help_that_opens_with_no_question(path: tuple[str, ...]) -> None:
    command: click.Command = cli
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.opts
            assert not re.match(r"(?:What|Whether|How|Who|Whose)\b", option.help), option.opts


def test_changelog_names_every_command() -> None:
    section = PAGES["CHANGELOG.md"].partition("\n### Commands\n")[2].partition("\n### ")[0]
    named: set[tuple[str, ...]] = set()
    for row in section.splitlines():
        group: tuple[str, ...] = ()
        for span in re.findall(r"`([^`]+)`", row):
            *before, name = span.removeprefix("mailglass ").split()
            group = tuple(before) if before or span.startswith("mailglass ") else group
            named.add((*group, name))
    assert named == set(_leaves(cli))
