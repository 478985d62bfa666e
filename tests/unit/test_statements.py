"""The ledger's statements as text: named, used, explained, and in lines that fit."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

import mailglass
from mailglass.ledger.statements import numbered, statements

ROOT = Path(mailglass.__file__).parent
FILES = sorted(Path(str(files("mailglass.ledger").joinpath("sql"))).iterdir())


def words() -> Iterator[tuple[str, str]]:
    """Every string in the package's code, with the function that it is given to first, or an empty name."""
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        first = {
            id(call.args[0]): call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and call.args
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield first.get(id(node), ""), node.value


def test_every_statement_is_run_somewhere_and_every_name_that_is_run_is_a_statement() -> None:
    found = list(words())
    assert set(statements()) - {word for _, word in found} == set()
    run = {word for function, word in found if function == "run" and re.fullmatch(r"\w+", word)}
    assert len(run) > 50
    assert run - set(statements()) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_of_statements_has_a_heading_and_fits_on_a_screen_in_width(path: Path) -> None:
    assert path.suffix == ".sql"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(rf"-- {path.stem.capitalize()}: .+\.", lines[0])
    assert [line for line in lines if len(line) > 120] == []
    assert len(lines) < 600


@pytest.mark.parametrize("name", statements())
def test_a_statement_begins_with_a_sentence_that_says_its_effect(name: str) -> None:
    sentence = re.match(r"-- ([A-Z][a-z]+) [^.]*[.:;]", statements()[name].replace("\n-- ", " "))
    assert sentence
    assert sentence[1] not in {"The", "What", "Whether", "How", "Who", "Which", "As", "For", "Of", "These", "Somebody"}


@pytest.mark.parametrize("name", statements())
def test_a_statement_is_numbered_as_the_driver_would_number_it(name: str) -> None:
    sql = statements()[name]
    converted = PostgresQuery(Transformer())
    converted.convert(sql, dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
    text, names = numbered(sql)
    assert text == converted.query
    assert len(names) == len(set(names)) == len(converted.params or ())
