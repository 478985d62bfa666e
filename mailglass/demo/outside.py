"""Figures counted by the lab, outside the ledger."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx

from mailglass.errors import StackError


class Outside:
    """The lab's control API.

    Args:
        url: where the lab listens.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def counts(self) -> dict[str, Any]:
        """Its totals.

        Raises:
            StackError: it does not answer.
        """
        return self._get("/lab/counts")

    def received(self) -> dict[UUID, int]:
        """Count how often each delivery was accepted.

        Raises:
            StackError: it does not answer.
        """
        return {UUID(delivery): times for delivery, times in self._get("/lab/received").items()}

    def _get(self, path: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._client.get(path).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise StackError(f"the lab does not answer ({type(error).__name__}): see its log") from None
        return found
