"""Code that reads or changes a request's body before the webhook endpoint gets it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Final

# middleware that unpacks requests: the signature is over the packed bytes
_UNPACKS: Final = re.compile(r"(?i)(gunzip|gzip_?request|request_?gzip|decompress|inflate|unzip)")


def reads_of(function: ast.AST, attributes: frozenset[str]) -> Iterator[ast.Attribute]:
    """Yield each access to one of these attributes of a request, in a function or class.

    Args:
        function: its syntax tree.
        attributes: names such as `POST`, of anything called `request`, `req` or `self.request`.
    """
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and node.attr in attributes and _is_request(node.value):
            yield node


def _is_request(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in ("request", "req")
    return isinstance(node, ast.Attribute) and node.attr in ("request", "req")


def unpacks(name: str) -> bool:
    """Return whether the name of a middleware says that it unpacks request bodies."""
    return _UNPACKS.search(name) is not None


def size_of(node: ast.AST | None) -> int | None:
    """Return the value of an expression of whole numbers such as `2 * 1024 ** 2`, or None if it is anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    if isinstance(node, ast.BinOp):
        left, right = size_of(node.left), size_of(node.right)
        if left is None or right is None or max(abs(left), abs(right)) > 1 << 62:
            return None
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Pow) and 0 <= right <= 62 and abs(left) <= 1 << 20:
            return int(left**right)
        if isinstance(node.op, ast.LShift) and 0 <= right <= 62:
            return left << right
    return None


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """Return the value of a keyword argument, or None if it is not given."""
    return next((item.value for item in call.keywords if item.arg == name), None)


def strings(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.Constant]]:
    """Yield the text and the node of every string below these nodes."""
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value, node
