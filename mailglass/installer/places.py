"""Places in Python source where code is added: read by libcst, which knows statements, comments and scopes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, cast

import libcst as cst
from libcst.helpers import get_full_name_for_node
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider, QualifiedNameProvider

from mailglass.installer.source import Source, bare

_ADDS: Final = frozenset({"append", "extend", "insert"})


@dataclass(frozen=True, slots=True)
class Place:
    """A place after a statement.

    Attributes:
        line: the number of lines before the place.
        indent: the white space that its lines begin with.
        target: the expression that the statement assigns to, as it is written.
        value: the assigned expression, or None if there are several.
    """

    line: int
    indent: str
    target: str
    value: cst.BaseExpression | None


class Reading:
    """A Python file as libcst reads it.

    Args:
        source: the file.

    Raises:
        SyntaxError: libcst cannot read it.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        try:
            module = cst.parse_module(source.plain)
        except (cst.ParserSyntaxError, RecursionError) as error:
            raise SyntaxError(str(error)) from None
        if module.code != source.plain:
            raise SyntaxError("it is not written back as it is read")
        self._wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
        self.module = self._wrapper.module
        self._positions = self._wrapper.resolve(PositionProvider)

    def calls(self, names: Collection[str]) -> list[cst.Call]:
        """Return every call of something with one of these full names, in the order of the file."""
        qualified = self._wrapper.resolve(QualifiedNameProvider)
        found = []
        for node in _walk(self.module):
            if isinstance(node, cst.Call):
                known = qualified.get(node.func, ())
                if any(name.name in names for name in (known() if callable(known) else known)):
                    found.append(node)
        return sorted(found, key=self.line_of)

    def line_of(self, node: cst.CSTNode) -> int:
        """Return the line that a node begins on, from 1."""
        return int(self._positions[node].start.line)

    def after(self, call: cst.Call) -> Place | None:
        """Return the place after the statement `name = call`, or None if the call stands in another statement."""
        parents = self._wrapper.resolve(ParentNodeProvider)
        assignment = parents[call]
        if not isinstance(assignment, cst.Assign | cst.AnnAssign) or assignment.value is not call:
            return None
        statement = parents[assignment]
        # a second statement on the line, or one behind a colon, leaves no place for a line of its own
        if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
            return None
        target = assignment.target if isinstance(assignment, cst.AnnAssign) else assignment.targets[0].target
        name = get_full_name_for_node(target) if isinstance(target, cst.Name | cst.Attribute) else None
        return None if name is None else self._place(statement, name, call)

    def last_binding(self, name: str) -> Place | None:
        """Return the place after the last statement of the module that assigns or adds to a name of it.

        Statements within `if`, `try` and the like count as the whole that they stand in.
        """
        last: cst.CSTNode | None = None
        assigned: list[cst.BaseExpression] = []
        for statement in self.module.body:
            if isinstance(statement, cst.FunctionDef | cst.ClassDef):
                continue
            for node in _walk(statement):
                if _binds(node, name):
                    last = statement
                    if isinstance(node, cst.Assign | cst.AnnAssign) and node.value is not None:
                        assigned.append(node.value)
        return None if last is None else self._place(last, name, assigned[0] if len(assigned) == 1 else None)

    def last_import(self, before: int) -> int | None:
        """Return the number of lines up to the end of the last plain import that stands before a line.

        Imports within `if`, `try` and functions do not count. None where there is none.
        """
        found = None
        for statement in self.module.body:
            position = self._positions[statement]
            if position.end.line <= before and _is_import(statement):
                found = int(position.end.line)
        return found

    def imported(self, name: str, before: int) -> str | None:
        """Return the name that a plain `from x import y` binds before a line, if nothing else binds it."""
        module, _, attribute = name.rpartition(".")
        for statement in self.module.body:
            if not _is_import(statement) or self.line_of(statement) > before:
                continue
            for node in cast(cst.SimpleStatementLine, statement).body:
                if not isinstance(node, cst.ImportFrom) or isinstance(node.names, cst.ImportStar) or node.relative:
                    continue
                if node.module is None or get_full_name_for_node(node.module) != module:
                    continue
                for alias in node.names:
                    bound = str(alias.evaluated_alias or alias.evaluated_name)
                    if alias.evaluated_name == attribute and self._bindings(bound) == 1:
                        return bound
        return None

    def imports_from(self, module: str) -> bool:
        """Return whether a plain `from module import ...` stands in the module."""
        statements = (statement for statement in self.module.body if isinstance(statement, cst.SimpleStatementLine))
        imports = (node for statement in statements for node in statement.body if isinstance(node, cst.ImportFrom))
        return any(node.module is not None and get_full_name_for_node(node.module) == module for node in imports)

    def is_free(self, name: str) -> bool:
        """Return whether no name of the file is spelt so."""
        return not any(isinstance(node, cst.Name) and node.value == name for node in _walk(self.module))

    def _bindings(self, name: str) -> int:
        """Count the imports, assignments, definitions and parameters that bind a name anywhere in the file."""
        count = 0
        for node in _walk(self.module):
            if isinstance(node, cst.ImportAlias):
                count += (node.evaluated_alias or node.evaluated_name.partition(".")[0]) == name
            elif isinstance(node, cst.AssignTarget | cst.AnnAssign | cst.NamedExpr | cst.For | cst.AugAssign):
                count += isinstance(node.target, cst.Name) and node.target.value == name
            elif isinstance(node, cst.FunctionDef | cst.ClassDef | cst.Param):
                count += node.name.value == name
        return count

    def _place(self, statement: cst.CSTNode, target: str, value: cst.BaseExpression | None) -> Place:
        position = self._positions[statement]
        first = bare(self.source.lines[position.start.line - 1]).replace("\f", "")
        return Place(position.end.line, first[: len(first) - len(first.lstrip())], target, value)


def may_give(call: cst.Call, name: str, position: int) -> bool:
    """Return whether a call may give an argument: by its name, by its position, or among unpacked ones."""
    positional = sum(item.keyword is None for item in call.args)
    named = {item.keyword.value for item in call.args if item.keyword is not None}
    return name in named or positional > position or any(item.star for item in call.args)


def _walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    waiting: list[cst.CSTNode] = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting.extend(current.children)


def _is_import(statement: cst.CSTNode) -> bool:
    return isinstance(statement, cst.SimpleStatementLine) and all(
        isinstance(node, cst.Import | cst.ImportFrom) for node in statement.body
    )


def _binds(node: cst.CSTNode, name: str) -> bool:
    """Return whether a node assigns or adds to a name."""
    if isinstance(node, cst.Assign):
        return any(_is_name(item.target, name) for item in node.targets)
    if isinstance(node, cst.AnnAssign | cst.AugAssign):
        return _is_name(node.target, name)
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        return node.func.attr.value in _ADDS and _is_name(node.func.value, name)
    return False


def _is_name(node: cst.BaseExpression, name: str) -> bool:
    return isinstance(node, cst.Name) and node.value == name
