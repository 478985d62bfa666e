"""The options of a provider's account, checked against the room's own `Options` dataclass."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar

from mailglass.errors import ConfigError
from mailglass.settings.problems import Problems, Report
from mailglass.settings.secrets import Secret, resolve_secret
from mailglass.settings.values import choice

T = TypeVar("T")


Resolve = Callable[[object, str, Report], Secret | None]
"""`resolve(value, key, report)`: the secret that a value of an option stands for."""


def build_options(
    cls: type[T],
    raw: Mapping[str, Any],
    key: str,
    environ: Mapping[str, str] | None = None,
    *,
    resolve: Resolve | None = None,
) -> T:
    """Fill a provider's frozen `Options` dataclass from the account's table.

    Understands fields of type str, int, float, bool, `Secret`, `Literal[...]`, their tuples and their `| None`, and
    tuples of further frozen dataclasses, written as an array of tables: `[[accounts.NAME.OPTION]]`.

    Args:
        cls: the dataclass.
        raw: the table as written.
        key: `accounts.<name>`, for errors.
        environ: where `env:` references are looked up; os.environ when left out.
        resolve: resolves secrets in place of `environ`.

    Raises:
        ConfigError: an unknown option, a missing one, a wrong type, a secret that is not there.
    """
    problems = Problems()
    resolve = resolve or _by_reference(os.environ if environ is None else environ)
    values = _option_values(cls, raw, key, resolve, problems)
    problems.raise_if_any()
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{key}.{error.key}", error.problem, error.remedy) from None


def secret_options(cls: type) -> list[str]:
    """Return the names of the options that hold one secret, such as an API key."""
    hints = typing.get_type_hints(cls)
    return [item.name for item in fields(cls) if Secret in (hints[item.name], *_alternatives(hints[item.name]))]


def one_secret_each(cls: type, raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """Return an account's table with the first of two secrets where it lists two, and the one with the second.

    Args:
        cls: the provider's options.
        raw: the table as written.

    Returns:
        Both tables. The second is None if no option that holds one secret lists two.
    """
    pairs = {
        name: raw[name] for name in secret_options(cls) if isinstance(raw.get(name), list) and len(raw[name]) in (1, 2)
    }
    first = {**raw, **{name: listed[0] for name, listed in pairs.items()}}
    if all(len(listed) == 1 for listed in pairs.values()):
        return first, None
    return first, {**raw, **{name: listed[-1] for name, listed in pairs.items()}}


def secret_references(cls: type, raw: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every secret that an account's table refers to, by its option as it would be written in an error.

    Args:
        cls: the provider's options, or those of one of its array of tables.
        raw: the table as written.
        prefix: of the options' names, such as `dkim[0].`.
    """
    hints = typing.get_type_hints(cls)
    for item in fields(cls):
        if item.name not in raw:
            continue
        hint, value, name = hints[item.name], raw[item.name], f"{prefix}{item.name}"
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint
        listed = value if isinstance(value, list) else None
        if is_dataclass(inner) and isinstance(inner, type):
            for index, table in enumerate(listed or [value]):
                if isinstance(table, Mapping):
                    yield from secret_references(inner, table, f"{name}[{index}].")
        elif Secret in (inner, *_alternatives(inner)):
            if listed is None:
                yield name, value
            else:
                yield from ((f"{name}[{index}]", one) for index, one in enumerate(listed))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else ()


def _by_reference(environ: Mapping[str, str]) -> Resolve:
    return lambda value, key, report: resolve_secret(value, key, environ, report)


def _option_values(cls: type, raw: Mapping[str, Any], key: str, resolve: Resolve, problems: Problems) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    known = {item.name: item for item in fields(cls)}
    for name in sorted(raw.keys() - known.keys()):
        problems.add(f"{key}.{name}", "unknown option", f"Known are: {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, item in known.items():
        if name in raw:
            values[name] = _option(hints[name], raw[name], f"{key}.{name}", resolve, problems)
        elif item.default is MISSING and item.default_factory is MISSING:
            problems.add(f"{key}.{name}", "missing", f"Add {name} to [{key}]")
    return values


def _option_table(hint: Any, value: Any, key: str, resolve: Resolve, problems: Problems) -> Any:
    """One table of an array of tables; None where something in it is wrong."""
    if not isinstance(value, Mapping):
        problems.add(key, f"wrong type ({type(value).__name__})", f"Write tables: [[{key.partition('[')[0]}]]")
        return None
    before = len(problems.found)
    values = _option_values(hint, value, key, resolve, problems)
    if len(problems.found) > before:
        return None
    try:
        return hint(**values)
    except ConfigError as error:
        problems.add(f"{key}.{error.key}", error.problem, error.remedy)
        return None


def _option(hint: Any, value: Any, key: str, resolve: Resolve, problems: Problems) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        (hint,) = [argument for argument in arguments if argument is not type(None)]
        return _option(hint, value, key, resolve, problems)
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        if is_dataclass(arguments[0]):
            return tuple(
                _option_table(arguments[0], item, f"{key}[{index}]", resolve, problems)
                for index, item in enumerate(items)
            )
        return tuple(_option(arguments[0], item, key, resolve, problems) for item in items)
    if origin is Literal:
        return choice(key, value, arguments, problems)
    if hint is Secret:
        return resolve(value, key, problems.add)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) is not (hint is bool) or not isinstance(value, hint):
        problems.add(key, f"wrong type ({type(value).__name__})", f"Give a {hint.__name__}")
        return None
    return value
