"""Checks of messages before Celery works on them, since anybody with access to the broker may write them.

A ring has no value of its own: the ledger owes the mail, and the pump rings again. So a message that none of our tasks
accepts is refused and dropped, and its content is never logged.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from mailglass import clock, telemetry
from mailglass.doorbell import BACKLOG, DISPATCH, SUPPRESSIONS, WEBHOOKS
from mailglass.routing import Lane
from mailglass.settings.queues import TASKS

# bytes of a message; ours have a few hundred, an application's own tasks on this worker may have more
LARGEST: Final = 1024 * 1024
LARGEST_OF_OURS: Final = 16 * 1024
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,155}\Z")
_LONGEST_NAME: Final = 255
_LONGEST_LANE: Final = 160
# seconds that a ring may be put off
_LONGEST_DELAY: Final = 3600.0
_OURS: Final = frozenset({DISPATCH, *TASKS})


class RefusedError(Exception):
    """Raised when a worker of ours does not accept a message; its text is the reason, one of a closed set."""


def check(message: Any, tasks: Mapping[str, Any]) -> None:
    """Refuse a message that no task of this worker accepts.

    Args:
        message: kombu's, not decoded yet.
        tasks: Celery's registry.

    Raises:
        RefusedError: with the reason, and nothing of the message.
    """
    if message.body is not None and len(message.body) > LARGEST:
        raise RefusedError("too_large")
    if message.content_type != "application/json" or message.content_encoding not in ("utf-8", "utf8", "us-ascii"):
        raise RefusedError("content_type")
    headers = message.headers
    if not isinstance(headers, dict):
        raise RefusedError("headers")
    if headers.get("compression"):
        raise RefusedError("content_type")
    name = headers.get("task")
    if not isinstance(name, str) or name not in tasks:
        raise RefusedError("unknown_task")
    if not isinstance(message.body, bytes | str) or (name in _OURS and len(message.body) > LARGEST_OF_OURS):
        raise RefusedError("too_large" if message.body else "body")
    _check_headers(headers)
    if name in _OURS:
        _check_ring(headers, tasks[name])
    args, kwargs = _decoded(message, plain=name in _OURS)
    _check_arguments(name, tasks[name], args, kwargs)


def is_broadcast(data: bytes | str) -> bool:
    """Return whether kombu can read a message that was published to all workers at once."""
    from kombu.utils.json import loads

    if len(data) > LARGEST:
        return False
    try:
        found = loads(data.decode() if isinstance(data, bytes) else data)
    except Exception:
        return False
    match found:
        case {"body": str(), "properties": {"delivery_tag": _, "delivery_info": dict()}, **more}:
            return isinstance(more.get("headers"), dict | None)
    return False


def is_command(body: object, headers: object, known: Container[str]) -> bool:
    """Return whether a message is one of remote control that Celery can work on.

    Args:
        body: decoded.
        headers: of the message.
        known: the commands of this worker.
    """
    if not isinstance(body, dict) or not isinstance(headers, dict | None):
        return False
    clock_, destination = (headers or {}).get("clock"), body.get("destination")
    reply_to, arguments = body.get("reply_to"), body.get("arguments")
    return (
        isinstance(body.get("method"), str)
        and body["method"] in known
        and isinstance(clock_, int | None)
        and isinstance(arguments, dict | None)
        and isinstance(destination, list | None)
        and all(isinstance(body.get(name), str | None) for name in ("pattern", "matcher", "ticket"))
        and (reply_to is None or _is_address(reply_to))
    )


def _is_address(reply_to: object) -> bool:
    return isinstance(reply_to, dict) and all(
        isinstance(reply_to.get(name), str) for name in ("exchange", "routing_key")
    )


def note_refusal(reason: str, **fields: telemetry.Value) -> None:
    """Say that a message was dropped.

    Args:
        reason: one of a closed set.
        fields: what may be said of it: a task's name, a size.
    """
    telemetry.emit("mailglass.message.refused", level=logging.WARNING, reason=reason, **fields)


def without_lookups(errors: Iterable[type[BaseException]]) -> tuple[type[BaseException], ...]:
    """Leave KeyError out of kombu's connection errors: it comes from a message that lacks something, too."""
    return tuple(error for error in errors if error is not KeyError)


def decompress_nothing() -> None:
    """Unlearn every compression: none of our messages has one, and a few bytes of a foreign one may fill the memory."""
    from kombu import compression

    compression._decoders.clear()


def _check_headers(headers: Mapping[str, Any]) -> None:
    """Those that Celery works on without a look of its own."""
    identifier, shadow = headers.get("id"), headers.get("shadow")
    if not isinstance(identifier, str) or not _ID.match(identifier):
        raise RefusedError("id")
    if shadow is not None and not (isinstance(shadow, str) and len(shadow) <= _LONGEST_NAME and shadow.isprintable()):
        raise RefusedError("headers")
    for field, allowed in _HEADERS.items():
        value = headers.get(field)
        if value is not None and not allowed(value):
            raise RefusedError("headers")


def _check_ring(headers: Mapping[str, Any], task: Any) -> None:
    """Refuse headers that no ring of ours has.

    A short time limit would end a process with all that it has claimed. A ring carries its sender's limits, which may
    differ a little elsewhere. A message for much later would fill a worker's memory.
    """
    for given, own in zip(headers.get("timelimit") or (), (task.time_limit, task.soft_time_limit), strict=False):
        if given is not None and own is not None and given < own / 4:
            raise RefusedError("headers")
    if headers.get("eta"):
        eta = datetime.fromisoformat(headers["eta"])
        if ((eta if eta.tzinfo else eta.replace(tzinfo=UTC)) - clock.now()).total_seconds() > _LONGEST_DELAY:
            raise RefusedError("headers")


def _is_moment(value: object) -> bool:
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _are_limits(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(limit is None or (_is_number(limit) and limit > 0) for limit in value)
    )


def _is_short_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LARGEST_OF_OURS


_HEADERS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "eta": _is_moment,
    "expires": _is_moment,
    "timelimit": _are_limits,
    "retries": _is_number,
    "stamps": lambda value: isinstance(value, dict),
    "stamped_headers": lambda value: isinstance(value, list | tuple),
    **dict.fromkeys(
        ("root_id", "parent_id", "group", "origin", "argsrepr", "kwargsrepr", "lang", "meth"), _is_short_text
    ),
}


def _decoded(message: Any, *, plain: bool) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a message of protocol 2.

    Args:
        message: kombu's.
        plain: refuse callbacks and chains.
    """
    try:
        payload = message.decode()
    except Exception:
        raise RefusedError("body") from None
    match payload:
        case [list() as args, dict() as kwargs, dict() as embedded] if all(
            value is None or (isinstance(value, list | dict) and not (plain and value)) for value in embedded.values()
        ):
            return args, kwargs
    raise RefusedError("body")


def _check_arguments(name: str, task: Any, args: list[Any], kwargs: Mapping[str, Any]) -> None:
    if name in _OURS and kwargs:
        raise RefusedError("arguments")
    if name == DISPATCH:
        if len(args) != 1 or not isinstance(args[0], str) or len(args[0]) > _LONGEST_LANE:
            raise RefusedError("lane")
        try:
            Lane.parse(args[0])
        except ValueError:
            raise RefusedError("lane") from None
    elif name == WEBHOOKS:
        if args not in ([], [BACKLOG]):
            raise RefusedError("arguments")
    elif name in _OURS:
        most = 1 if name == SUPPRESSIONS else 0
        if len(args) > most or any(not isinstance(value, str) or len(value) > _LONGEST_NAME for value in args):
            raise RefusedError("arguments")
    else:
        try:
            task.__header__(*args, **kwargs)
        except TypeError:
            raise RefusedError("arguments") from None
