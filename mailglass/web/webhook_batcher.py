"""Batches of webhooks: verified in the event loop if that takes only CPU time, stored in threads.

Verification that only computes is cheapest in the loop itself. A batch runs one after the other, and no thread takes
the interpreter from another in between. A webhook that is large, or whose verification may wait for a certificate or an
application's hook, is handled in a thread as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from mailglass.runtime import Runtime
from mailglass.web.batcher import Batcher
from mailglass.web.debounce import DebouncedRing
from mailglass.webhooks import ingress
from mailglass.webhooks.ingress import IncomingWebhook, Response

# bytes; a hostile body (a form with each character escaped) takes a tenth of a millisecond for each KiB. So one body
# blocks the loop for some milliseconds at most, and a batch for a few times as long
INLINE_BYTES = 64 * 1024
INLINE_BATCH_BYTES = 4 * INLINE_BYTES


class WebhookBatcher:
    """Handler of webhooks in batches of one provider. Used from one event loop.

    Args:
        runtime: the accounts, the ledger and the doorbell.
        threads: run what may block.
    """

    def __init__(self, runtime: Runtime, threads: Executor) -> None:
        self.runtime = runtime
        self._ring = DebouncedRing(_ring_of(runtime), asyncio.get_running_loop(), threads)
        self._in_loop = Batcher(self._verify_in_loop, threads, INLINE_BATCH_BYTES)
        self._in_threads = Batcher(self._verify_in_threads, threads)

    def submit(self, webhook: IncomingWebhook) -> asyncio.Future[Response]:
        """Verify and store a webhook.

        Returns:
            A future of the response.
        """
        size = len(webhook.request.body)
        inline = size <= INLINE_BYTES and ingress.can_verify_inline(
            webhook.account, self.runtime.ingress_context(self._ring)
        )
        batcher = self._in_loop if inline else self._in_threads
        return batcher.submit(self._key(webhook.account), webhook, size)

    def is_stuck(self, account: str) -> bool:
        """Return whether a webhook of the account would wait behind batches that do not end."""
        key = self._key(account)
        return self._in_loop.is_stuck(key) or self._in_threads.is_stuck(key)

    def discard_abandoned(self, account: str) -> None:
        """Drop waiting webhooks of the account's provider whose clients have left."""
        for batcher in (self._in_loop, self._in_threads):
            batcher.discard_abandoned(self._key(account))

    def _verify_in_loop(self, webhooks: Sequence[IncomingWebhook]) -> Callable[[], list[Response]]:
        context = self.runtime.ingress_context(self._ring)
        return partial(ingress.store_all, ingress.verify_all(webhooks, context), context)

    def _verify_in_threads(self, webhooks: Sequence[IncomingWebhook]) -> Callable[[], list[Response]]:
        return partial(ingress.handle_all, webhooks, self.runtime.ingress_context(self._ring))

    def _key(self, account: str) -> str:
        return self.runtime.accounts.provider_name(account)


def _ring_of(runtime: Runtime) -> Callable[[str], object]:
    # the doorbell opens with the first ring: if it cannot, the webhook is stored all the same
    return lambda task: runtime.doorbell.ring_task(task)
