"""Celery's consumer, except that no message ends it: what cannot be worked on is dropped, unread by any log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker import consumer, pidbox
from kombu.pidbox import Node

from mailglass_workers import heartbeats
from mailglass_workers.messages import RefusedError, check, is_command, note_refusal, without_lookups

_logger = logging.getLogger("mailglass")


class Consumer(consumer.Consumer):
    """Consumer that checks each message before Celery does, and drops those that would break it."""

    def register_with_event_loop(self, hub: Any) -> None:
        """Beat from the event loop, which proves that it goes round."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(heartbeats.EVERY, self._beat)

    def perform_pending_operations(self) -> None:
        """Beat from the loop of pools without an event loop, which calls this in each round."""
        self._beat()
        super().perform_pending_operations()

    def connect(self) -> Any:
        """Connect to the broker, however long it is away; meanwhile the loop is not expected to go round."""
        heartbeat = heartbeats.current()
        if heartbeat is not None:
            heartbeat.connecting = True
        try:
            return super().connect()
        finally:
            if heartbeat is not None:
                heartbeat.connecting = False
                heartbeat.beat_loop(False)

    def _beat(self) -> None:
        if (heartbeat := heartbeats.current()) is not None:
            heartbeat.beat_loop(self.connection is not None and bool(self.connection.connected))

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Return Celery's handler behind a check of each message."""
        handle = super().create_task_handler(*args, **kwargs)
        tasks = self.app.tasks
        lost = without_lookups((*self.connection_errors, *self.channel_errors))

        def on_task_received(message: Any) -> Any:
            try:
                check(message, tasks)
                return handle(message)
            except RefusedError as refusal:
                self._drop(message, str(refusal))
            except lost:
                raise
            except Exception as error:
                self._drop(message, "unworkable", type(error).__name__)
            return None

        return on_task_received

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Drop a message that cannot be decoded."""
        self._drop(message, "body", type(exc).__name__)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Drop a message of no known form."""
        self._drop(message, "unknown_task")

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """Drop a message of an unknown task."""
        self._drop(message, "unknown_task")

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """Drop a message of an invalid task."""
        self._drop(message, "unworkable", type(exc).__name__)

    def _drop(self, message: Any, reason: str, error_type: str | None = None) -> None:
        """Remove a message from its queue for good, unless its task has acknowledged it."""
        size = len(message.body) if isinstance(message.body, bytes | str) else 0
        note_refusal(reason, size=size, **({} if error_type is None else {"error_type": error_type}))
        if not message.acknowledged:
            message.reject_log_error(_logger, self.connection_errors)


def check_commands() -> None:
    """Make Celery's mailbox drop what is no command of remote control; once is enough."""
    given, begin = pidbox.Pidbox.on_message, pidbox.Pidbox.start
    if getattr(given, "checks", False):
        return

    def on_message(self: Any, body: Any, message: Any) -> None:
        if is_command(body, message.headers, self.node.handlers):
            given(self, body, message)
        else:
            note_refusal("command")

    def on_decode_error(self: Any, message: Any, exc: BaseException) -> None:
        note_refusal("body", error_type=type(exc).__name__)

    def start(self: Any, c: Any) -> None:
        begin(self, c)
        # nothing is acknowledged here: a rejection, as of a task's message, would end the channel of RabbitMQ
        self.consumer.on_decode_error = self.node.on_decode_error

    on_message.checks = True  # type: ignore[attr-defined]
    pidbox.Pidbox.on_message = on_message
    pidbox.Pidbox.start = start
    Node.on_decode_error = on_decode_error  # type: ignore[method-assign]
