"""Source files of a project: found, bounded and parsed, never imported."""

from __future__ import annotations

import ast
import os
import re
import stat
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from mailglass.errors import ConfigError
from mailglass.settings import WebhookSettings

# bounds of one look: a larger project is looked at from a directory further down
MAX_FILES: Final = 20_000
MAX_BYTES: Final = 1024 * 1024
_SKIPPED: Final = frozenset(
    "__pycache__ build dist env migrations node_modules site-packages tests test venv virtualenv".split()
)
# as pytest and unittest find them: they make applications of their own
_TEST: Final = re.compile(r"conftest\.py|test_.*\.py|.*_test\.py|tests\.py")

# a module without any of these says nothing of the wiring
_WORDS: Final = (
    b"mailglass",
    b"INSTALLED_APPS",
    b"MIDDLEWARE",
    b"CONTENT_LENGTH",
    b"before_request",
    b"before_app_request",
    b"flask",
    b"fastapi",
    b"starlette",
    b"litestar",
)


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        path: relative to the project, with `/`.
        tree: its syntax tree.
    """

    path: str
    tree: ast.Module = field(repr=False)

    @property
    def name(self) -> str:
        """Dotted name from the project's directory."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree."""
        return list(ast.walk(self.tree))

    @cached_property
    def imports(self) -> dict[str, str]:
        """Dotted name of each name that an import binds, relative imports resolved."""
        bound: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    package = alias.name.split(".")[0]
                    bound[alias.asname or package] = alias.name if alias.asname else package
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                for alias in node.names:
                    bound[alias.asname or alias.name] = f"{base}.{alias.name}"
        return bound

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.name.split(".")
        if not self.path.endswith("__init__.py"):
            package = package[:-1]
        package = package[: len(package) - node.level + 1]
        return ".".join([*package, *([node.module] if node.module else [])])

    def dotted(self, node: ast.AST) -> str:
        """Return the dotted name that an expression stands for, imports resolved, or "" if it is none."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    @cached_property
    def calls(self) -> list[tuple[str, ast.Call]]:
        """Every call with the dotted name of what is called."""
        return [(self.dotted(node.func), node) for node in self.nodes if isinstance(node, ast.Call)]


class Project:
    """A directory with the source of an application.

    Args:
        root: the directory.

    Raises:
        ConfigError: it is no directory.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ConfigError("directory", "it is no directory", "Name the directory with your application's source")
        self.root = root
        self.unreadable: list[str] = []
        self._cache: dict[str, Module | None] = {}

    @cached_property
    def modules(self) -> list[Module]:
        """Every module that speaks of a framework or of mailglass. Those that cannot be parsed are in `unreadable`.

        Raises:
            ConfigError: there are more than `MAX_FILES` files.
        """
        found = (self._parsed(name, only_relevant=True) for name in self._paths)
        return [module for module in found if module is not None]

    def module(self, dotted: str) -> tuple[Module, str] | None:
        """Return the module behind a dotted name and the rest of the name, or None if it is not the project's."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            path = self._by_name.get(".".join(parts[:length]))
            module = None if path is None else self._parsed(path)
            if module is not None:
                return module, ".".join(parts[length:])
        return None

    @cached_property
    def max_body(self) -> int:
        """Bytes that a webhook may have, by the project's mailglass.toml where it can be read."""
        try:
            document = tomllib.loads((self.root / "mailglass.toml").read_text(encoding="utf-8"))
            size = document["webhooks"]["max_body"]
        except (OSError, ValueError, KeyError, TypeError):
            return WebhookSettings().max_body
        return size if isinstance(size, int) else WebhookSettings().max_body

    @cached_property
    def _by_name(self) -> dict[str, str]:
        """Paths by dotted name. A project is often run from a directory below its root, such as src/."""
        found: dict[str, str] = {}
        for path in self._paths:
            parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
            for start in range(len(parts)):
                name = ".".join(parts[start:])
                if start == 0 or name not in found:
                    found[name] = path
        return found

    def _parsed(self, path: str, *, only_relevant: bool = False) -> Module | None:
        if path in self._cache:
            return self._cache[path]
        file = self.root / path
        try:
            found = file.stat()
            if found.st_size > MAX_BYTES or not stat.S_ISREG(found.st_mode):
                raise ValueError("too large, or no file")
            source = file.read_bytes()
            if only_relevant and not any(word in source for word in _WORDS):
                return None
            module: Module | None = Module(path, ast.parse(source))
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
            self.unreadable.append(path)
            module = None
        self._cache[path] = module
        return module

    @cached_property
    def _paths(self) -> list[str]:
        return source_files(self.root, lambda name: name.endswith(".py"))


def source_files(root: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Return the paths of an application's own files, relative to its directory, with `/`.

    Tests, dependencies, environments and hidden directories are left out, and symbolic links to directories too.

    Args:
        root: the directory.
        wanted: tells by the name of a file whether it counts.

    Raises:
        ConfigError: there are more than `MAX_FILES` files.
    """
    paths: list[str] = []
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if _is_source(Path(directory), name))
        paths.extend(
            (Path(directory) / name).relative_to(root).as_posix()
            for name in sorted(files)
            if wanted(name) and not _TEST.fullmatch(name)
        )
        if len(paths) > MAX_FILES:
            raise ConfigError(
                "directory", f"it has more than {MAX_FILES} Python files", "Name the directory of the application"
            )
    return paths


def _is_source(directory: Path, name: str) -> bool:
    return name not in _SKIPPED and not name.startswith(".") and not (directory / name / "pyvenv.cfg").exists()
