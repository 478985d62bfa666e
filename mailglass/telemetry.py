"""The one telemetry call: ids, lanes, counts and durations, without addresses and content."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

Value = str | int | float | bool | UUID | None
Subscriber = Callable[[str, dict[str, Value]], None]

# all fields of events; any other is a mistake in the calling code
FIELDS = frozenset(
    "lane account provider task claimed sent failed queued suppressed uncertain held settled rung lanes events "
    "matched orphans dead duplicates stored linked count size status reason error_type duration_ms delivery_id "
    "webhook_id attempt variable nearest about lasting receiver domain".split()
)

_subscribers: list[Subscriber] = []
_logger: Any = None
_library = logging.getLogger("mailglass")
# or the standard library prints warnings to standard error where nobody has configured logging
_library.addHandler(logging.NullHandler())


def emit(event: str, *, level: int = logging.INFO, **fields: Value) -> None:
    """Emit an event to subscribers and to the log.

    Args:
        event: dotted name, such as `mailglass.dispatch.batch`.
        level: of the log line.
        fields: from `FIELDS` only.

    Raises:
        ValueError: a field is not allowed, so that no address slips out by accident.
    """
    if unknown := fields.keys() - FIELDS:
        raise ValueError(f"telemetry fields not allowed: {', '.join(sorted(unknown))}")
    try:
        for subscriber in tuple(_subscribers):
            subscriber(event, fields)
        _log(level, event, fields)
    except Exception as error:
        # a broken metric or a closed pipe must not affect a mail
        _library.warning("telemetry failed: %s", type(error).__name__)


def _log(level: int, event: str, fields: dict[str, Value]) -> None:
    """Log by structlog if it is configured, else by a library's logger, which prints nothing by itself."""
    global _logger
    if _logger is None:
        structlog = sys.modules.get("structlog")
        if structlog is None or not structlog.is_configured():
            # structlog without a configuration would print to the application's standard output
            words = [event, *(f"{key}={value}" for key, value in fields.items())]
            _library.log(level, "%s", " ".join(words))
            return
        _logger = structlog.stdlib.get_logger("mailglass")
    _logger.log(
        level,
        event,
        **{key: str(value) if isinstance(value, UUID) else value for key, value in fields.items()},
    )


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Call `subscriber(event, fields)` for every event; returns a function that ends the subscription."""
    _subscribers.append(subscriber)
    return lambda: _subscribers.remove(subscriber)


# Celery's loggers that write a line for each task received and done; rings come by the second, mail or no mail
_PER_TASK = ("celery.worker.strategy", "celery.app.trace")


def _is_no_ring(record: logging.LogRecord) -> bool:
    """Return whether a log line is not beat's line about a ring."""
    return not (record.name == "celery.beat" and str(record.msg).startswith("Scheduler: Sending due task"))


def configure_logging(level: str = "info", style: str = "json") -> None:
    """Send structlog and the standard library's loggers to stderr in one form.

    Celery's lines about single tasks are left out unless the level is debug: rings come and go every second.

    Args:
        level: debug, info, warning or error.
        style: json for machines, console for people.
    """
    import structlog

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    per_task = logging.NOTSET if level == "debug" else logging.WARNING
    for name in _PER_TASK:
        logging.getLogger(name).setLevel(per_task)
    if level != "debug":
        handler.addFilter(_is_no_ring)
    # or they are text between lines of JSON
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
