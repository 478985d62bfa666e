"""Events from an SQS queue that is subscribed to the topics: what mailglass misses while it is down waits there."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from mailglass.errors import ProviderCallError, WebhookBodyError
from mailglass.providers.base import Store
from mailglass.providers.ses.clients import Clients
from mailglass.providers.ses.sns import SNSMessage
from mailglass.telemetry import emit

BATCH: Final = 10
"""The most that SQS hands over at once: https://docs.aws.amazon.com/AWSSimpleQueueService/ ReceiveMessage."""


def receive(
    clients: Clients, queue_url: str, topics: Collection[str], account: str, store: Store, *, wait: int = 0
) -> int:
    """Take up to ten messages, and delete from the queue those that are stored.

    A message is believed because only our topics' messages are let into our queue by its own policy, and for naming
    one of the topics; SNS's signature is not needed here. What is not believed stays, for the queue's redrive policy.

    Args:
        clients: of the account.
        queue_url: the queue.
        topics: ARNs.
        account: whose webhooks they are.
        store: keeps one.
        wait: seconds to wait for a first message, 0 to 20.

    Returns:
        How many were stored; ten mean that more may be waiting.

    Raises:
        ProviderCallError: the queue cannot be read, or stored messages could not be deleted from it (they come again
            and are known by their key).
        Exception: whatever `store` raised; what was stored before is deleted, the rest comes again.
    """
    sqs = clients.sqs(queue_url)
    received = clients.manage(
        "receive from the queue",
        lambda: sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=wait),
    )
    stored: list[str] = []
    try:
        for item in received.get("Messages") or []:
            if message := _believed(item, topics, account):
                body = str(item["Body"]).encode("utf-8", "surrogatepass")
                store(account, body, message.headers, message.id)
                stored.append(str(item["ReceiptHandle"]))
    finally:
        _delete(clients, sqs, queue_url, stored)
    return len(stored)


def _believed(item: Mapping[str, Any], topics: Collection[str], account: str) -> SNSMessage | None:
    reason = "other_topic"
    try:
        message = SNSMessage.parse(str(item.get("Body", "")).encode("utf-8", "surrogatepass"))
        if message.topic in topics:
            return message
    except WebhookBodyError:
        reason = "no_sns_message"
    emit("mailglass.webhook.refused", level=logging.WARNING, provider="ses", account=account, reason=reason)
    return None


def _delete(clients: Clients, sqs: Any, queue_url: str, receipts: Sequence[str]) -> None:
    if not receipts:
        return
    entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
    answer = clients.manage(
        "delete from the queue", lambda: sqs.delete_message_batch(QueueUrl=queue_url, Entries=entries)
    )
    if answer.get("Failed"):
        raise ProviderCallError("delete from the queue", retryable=True)
