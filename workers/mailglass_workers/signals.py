"""Signal handlers: checks before a worker starts, and clean-up at its end."""

from __future__ import annotations

import gc
import sys
from typing import Any, NoReturn

from celery import signals
from celery.concurrency import get_implementation

from mailglass import telemetry
from mailglass.celery import app
from mailglass.errors import MailglassError
from mailglass.providers.registry import Accounts
from mailglass.runtime import close_runtime, warn_of_unknown_variables
from mailglass.settings import get_settings
from mailglass_workers import slots, stopping
from mailglass_workers.consumer import check_commands
from mailglass_workers.messages import decompress_nothing
from mailglass_workers.redis_channel import (
    drop_what_is_no_broadcast,
    drop_what_is_no_message,
    notice_free_slots,
    outlive_lost_connections,
)
from mailglass_workers.startup import check_schema, require_accounts


@signals.celeryd_init.connect
def check_before_start(instance: Any = None, options: dict[str, Any] | None = None, **_: Any) -> None:
    """Refuse to start on a pool Celery crashes with, wrong settings, or a schema this version does not know."""
    if instance is None or instance.app is not app:
        return
    pool = _pool(options or {})
    if pool.endswith("concurrency.thread"):
        _refuse_autoscaled_threads(options or {})
    if pool.endswith(("concurrency.gevent", "concurrency.eventlet")):
        # for the sake of heartbeats these wait a tenth of a second after each message; a dead broker is noticed by TCP
        app.conf.broker_heartbeat = 0
    try:
        settings = get_settings()
        if settings.log_format == "json":
            # whoever reads the log reads JSON, from its first line on
            instance.quiet = True
            telemetry.configure_logging(settings.log_level, settings.log_format)
        if settings.require_broker().startswith("redis"):
            outlive_lost_connections()
            notice_free_slots()
            drop_what_is_no_message()
            drop_what_is_no_broadcast()
        check_commands()
        decompress_nothing()
        require_accounts(settings)
        check_schema(settings)
        Accounts(settings).check()
    except MailglassError as error:
        _refuse(str(error))


def _pool(options: dict[str, Any]) -> str:
    """Return the module of the worker's pool, given by class or by name."""
    pool = options.get("pool_cls") or options.get("pool") or app.conf.worker_pool
    return str((get_implementation(pool) if isinstance(pool, str) else pool).__module__)


def _refuse_autoscaled_threads(options: dict[str, Any]) -> None:
    if options.get("autoscale"):
        _refuse(
            "-P threads cannot be combined with --autoscale: Celery's thread pool has no grow() and the worker would "
            "crash under load; give a fixed -c, or use -P prefork"
        )


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"mailglass worker: {reason}\n")
    raise SystemExit(1)


@signals.setup_logging.connect
def configure_logging(**_: Any) -> None:
    """Configure one form for all log lines, in place of Celery's own."""
    settings = get_settings()
    telemetry.configure_logging(settings.log_level, settings.log_format)
    warn_of_unknown_variables(settings)


@signals.worker_process_init.connect
@signals.worker_ready.connect
def keep_what_was_imported(**_: Any) -> None:
    """Exempt lasting objects from garbage collection, which would stop a batch for 50 ms."""
    gc.freeze()


@signals.worker_shutting_down.connect
def note_shutdown(**_: Any) -> None:
    """Make batches stop between two sends."""
    stopping.set()


@signals.worker_shutdown.connect
@signals.worker_process_shutdown.connect
def close(**_: Any) -> None:
    """Wait for running work, and close the process's connections."""
    slots.wait()
    close_runtime()
