"""The Celery app: `celery -A mailglass worker -Q mailglass` finds it here.

It is never the current or default app of the process: an application has its own. Tasks are known by name; the
packages `mailglass_workers` and `mailglass_beat` are loaded by the worker and by beat alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.app.utils import Settings as CelerySettings

if TYPE_CHECKING:
    # an application that imports the app loads none of these
    from kombu.entity import Queue

    from mailglass.settings import Settings

# of the lease, which must outlive the task's hard time limit
HARD_LIMIT_SHARE = 0.95
_PRODUCER_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}


def configuration(settings: Settings) -> dict[str, Any]:
    """Return Celery's configuration for the settings. Each value prevents a loss, a duplicate or a hang."""
    from kombu.entity import Queue

    from mailglass.settings import DEFAULT_QUEUE

    broker = settings.broker_url.reveal()
    hard_limit = settings.engine.lease * HARD_LIMIT_SHARE
    return {
        "broker_url": broker or None,
        "broker_connection_timeout": 2.0,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_pool_limit": 10,
        "broker_transport_options": transport_options(broker, settings),
        "task_default_queue": DEFAULT_QUEUE,
        "task_queues": [
            Queue(name, routing_key=name, max_priority=9 if broker.startswith(("amqp", "pyamqp")) else None)
            for name in settings.queue_names
        ],
        "task_create_missing_queues": False,
        # for those who call a task by hand; its doorbell names the queue itself
        "task_routes": {task: {"queue": queue} for task, queue in settings.tasks.items()},
        # a ring that a broker's restart forgets is rung again; one that waits for a disk is waited for by its caller
        "task_default_delivery_mode": "transient",
        "task_serializer": "json",
        "accept_content": ["json"],
        # the ledger holds every result; a message may come twice or get lost without harm
        "result_backend": None,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_publish_retry": False,
        "task_publish_retry_policy": _PRODUCER_RETRY,
        "worker_prefetch_multiplier": 1,
        # a ring that waits in a busy worker is one that no idle worker sees
        "worker_disable_prefetch": broker.startswith("redis"),
        "worker_disable_rate_limits": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "task_time_limit": hard_limit,
        "task_soft_time_limit": hard_limit * HARD_LIMIT_SHARE,
        "worker_soft_shutdown_timeout": settings.engine.task_budget + 5,
        "worker_enable_soft_shutdown_on_idle": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_max_tasks_per_child": None,
        "event_queue_expires": 60,
        "imports": ["mailglass_workers"],
        "worker_consumer": "mailglass_workers.consumer:Consumer",
        "beat_scheduler": "mailglass_beat.scheduler:LedgerScheduler",
        "beat_max_loop_interval": 1,
        "timezone": "UTC",
        "enable_utc": True,
    }


def transport_options(broker: str, settings: Settings) -> dict[str, Any]:
    """Return the options of the broker's transport.

    Redis: without socket timeouts and health checks a half-open connection hangs a worker for ever; kombu's pool of
    ten connections loses acknowledgements under gevent; the visibility timeout must outlast every task by far.
    RabbitMQ: without confirms a published message may never have arrived; and kombu waits two seconds for a broker that
    refuses connections, before it tries again what the doorbell leaves to the pump. Each host is tried once.
    """
    if broker.startswith(("amqp", "pyamqp")):
        return {"confirm_publish": True, "max_retries": broker.count(";"), "interval_start": 0, "interval_step": 0}
    if not broker.startswith("redis"):
        return {}
    return {
        "visibility_timeout": max(600, int(settings.engine.lease * 3)),
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "max_connections": 1000,
        "global_keyprefix": "mailglass:",
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 3,
    }


def use_settings(settings: Settings) -> None:
    """Configure the app again, because Celery may have read its configuration before the settings were chosen."""
    before = {key: app.conf[key] for key in ("broker_url", "task_routes")}, _names(app.conf.task_queues)
    wanted = configuration(settings)
    if before != ({key: wanted[key] for key in before[0]}, _names(wanted["task_queues"])):
        forget_broker()
    app.conf.update(wanted)


def _names(queues: list[Queue]) -> list[str]:
    return [queue.name for queue in queues]


def forget_broker() -> None:
    """Drop the connections to the previous broker, and the queues declared there."""
    app.close()
    # Celery keeps a pool of producers here, of connections that `close` does not know of
    app.__dict__.pop("amqp", None)


_inherited: list[object] = []


def _forget_after_fork() -> None:
    """Leave the parent's connections to the parent: a child that used or closed them would break them.

    Celery does this for the processes of its own pools, but an application may fork in other ways.
    """
    amqp = app.__dict__.get("amqp")
    ours = [pool for pool in (app._pool, getattr(amqp, "_producer_pool", None)) if pool is not None]
    if ours:
        from kombu import pools

        for group in (pools.connections, pools.producers):
            for key in [key for key, pool in group.items() if any(pool is own for own in ours)]:
                dict.pop(group, key)
    # kept, because the end of a connection object is the end of its connection
    _inherited.extend((*ours, amqp))
    app._pool = None
    app.__dict__.pop("amqp", None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


class _OwnSettings(CelerySettings):
    """Celery settings that no variable of another app changes.

    Celery reads `CELERY_BROKER_URL` and its like before any app's configuration, and its `-b` sets them. In the
    environment of an application they are the application's, whose broker rings no lane.
    """

    @property
    def broker_url(self) -> str | None:
        """Return the broker of our settings."""
        return self.first("broker_url")  # type: ignore[no-any-return]

    broker_read_url = broker_url
    broker_write_url = broker_url

    @property
    def result_backend(self) -> None:
        """Return None: the ledger holds every result."""
        return None


def __getattr__(name: str) -> Any:
    """Make the app's loader once Celery asks for it by its name, so that an import of the app loads none."""
    if name != "OwnLoader":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from celery.loaders.app import AppLoader

    class OwnLoader(AppLoader):
        """Loader that reads no configuration module: the one that `CELERY_CONFIG_MODULE` names is another app's."""

        def read_configuration(self, env: str = "") -> dict[str, Any]:
            """Return nothing."""
            return {}

    globals()[name] = OwnLoader
    return OwnLoader


class MailglassCelery(Celery):
    """Celery app that has settings of its own, and whose beat prints no banner between log lines of JSON."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Celery has no seam for the class of an app's settings, and keeps this object for the life of the app
        object.__setattr__(self._conf, "__class__", _OwnSettings)

    @property
    def Beat(self) -> Any:
        """Return beat's class, as Celery's `Celery.Beat`."""
        from celery.apps.beat import Beat

        from mailglass.settings import get_settings

        class QuietBeat(Beat):
            def __init__(beat, *args: Any, quiet: bool = False, **options: Any) -> None:
                quiet = quiet or get_settings().log_format == "json"
                super().__init__(*args, app=self, quiet=quiet, **options)

        return QuietBeat


def _configuration() -> dict[str, Any]:
    from mailglass.settings import get_settings

    return configuration(get_settings())


app = MailglassCelery(
    "mailglass",
    # its name, because Celery for Django reads it
    loader="mailglass.celery:OwnLoader",
    set_as_current=False,
    autofinalize=True,
    # Celery's own for Django loads the whole worker, to find in most processes that there is no Django
    fixups=None if os.environ.get("DJANGO_SETTINGS_MODULE") else (),
)
# called when Celery first needs a value, not by the import
app.add_defaults(_configuration)
