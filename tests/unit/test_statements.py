"""The ledger's statements as text: named, used, explained, and in lines that fit."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mailglass
from mailglass.ledger.statements import statements

ROOT = Path(mailglass.__file__).parent


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
