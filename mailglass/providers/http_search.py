"""Base of the HTTP providers that can be searched: options, one question after another, checked answers."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final
from urllib.parse import urlencode
from uuid import UUID

from mailglass.clock import monotonic
from mailglass.errors import ConfigError, ProviderCallError
from mailglass.mail.outcomes import Outcome
from mailglass.providers.http import LEAST_BUDGET, HTTPOptions, HTTPRequest
from mailglass.providers.http_provider import HTTPProvider
from mailglass.providers.management import refused
from mailglass.providers.search import ABSENT, UNKNOWN, SearchResult, SearchTarget
from mailglass.telemetry import emit

QUESTIONS: Final = 4
"""Questions of one search that are under way at once."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions(HTTPOptions):
    """The options of an HTTP provider that can be searched; a room says what `search` is unless it is chosen.

    Attributes:
        search: look at the provider for mails whose answer was lost.
        search_lag: seconds after which the provider's search is expected to know of a mail.
        search_complete_after: seconds after which a mail that the search does not show was certainly not taken, so
            that it is sent again; left out, not being found proves nothing, and the stream's policy decides.
    """

    search: bool = True
    search_lag: float = 30.0
    search_complete_after: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.search_lag < math.inf:
            raise ConfigError("search_lag", "not a duration", "Give seconds, 0 or more")
        if self.search_complete_after is not None and not self.search_lag <= self.search_complete_after < math.inf:
            raise ConfigError(
                "search_complete_after", "shorter than search_lag", "Give seconds, at least those of search_lag"
            )


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Result of one question.

    Attributes:
        results: of deliveries that the provider has, by our id as it told it.
        whole: whether the answer held everything that was asked for, so that what is not in it is absent.
    """

    results: Mapping[UUID, SearchResult] = field(default_factory=dict)
    whole: bool = True


class SearchableProvider(HTTPProvider):
    """An HTTP provider that can be searched. A room says how one question is asked.

    Class attributes:
        targets_per_search: deliveries of one question.
    """

    targets_per_search: ClassVar[int] = 1

    def __init__(self, account: str, options: SearchOptions) -> None:
        super().__init__(account, options)
        self.searchable = options.search
        self.search_lag = options.search_lag
        self.absence_proves_after = options.search_complete_after

    @abstractmethod
    def search(self, targets: Sequence[SearchTarget], *, deadline: float) -> SearchAnswer:
        """Ask about at most `targets_per_search` deliveries.

        Raises:
            ProviderCallError: no answer, or none of this call.
        """

    def find(self, targets: Sequence[SearchTarget], *, deadline: float) -> list[SearchResult]:
        """Ask a few questions at a time until one goes wrong; what was not asked about is unknown."""
        results: dict[UUID, SearchResult] = {}
        size = self.targets_per_search
        questions = [targets[start : start + size] for start in range(0, len(targets), size)]

        def answered(question: Sequence[SearchTarget]) -> SearchAnswer | None:
            return self._answer_to(question, deadline)

        for start in range(0, len(questions), QUESTIONS):
            if deadline - monotonic() < LEAST_BUDGET:
                break
            asked = questions[start : start + QUESTIONS]
            answers = self.http.each(answered, asked)
            for question, answer in zip(asked, answers, strict=True):
                rest = ABSENT if answer is not None and answer.whole else UNKNOWN
                told = {} if answer is None else answer.results
                results |= {item.delivery_id: told.get(item.delivery_id, rest) for item in question}
            if None in answers:
                break
        return [results.get(item.delivery_id, UNKNOWN) for item in targets]

    def _answer_to(self, question: Sequence[SearchTarget], deadline: float) -> SearchAnswer | None:
        try:
            return self.search(question, deadline=deadline)
        except ProviderCallError as error:
            # it names the account and the call, and neither address nor content
            self._say_failed(str(error))
        except Exception as error:
            # an answer that the room cannot read; what the other questions found stands
            self._say_failed(f"{self.search_name}: {type(error).__name__}")
        return None

    def ask(self, request: HTTPRequest, *, deadline: float) -> Any:
        """Return the JSON value of a good answer, None where its body is no JSON.

        Raises:
            ProviderCallError: no answer, or a status that is not 2xx.
        """
        answer = self.http.exchange(request, deadline=deadline)
        if isinstance(answer, Outcome):
            raise ProviderCallError(self.search_name, retryable=True)
        if not 200 <= answer.status < 300:
            raise refused(answer, self.search_name)
        return answer.json()

    def listed(self, value: Any, name: str | None = None) -> list[dict[str, Any]]:
        """Return the objects of an answer's list.

        Args:
            value: the answer.
            name: under which the list stands; None where the answer is the list itself.

        Raises:
            ProviderCallError: there is no list, so the answer is none of this call.
        """
        items = value if name is None else value.get(name) if isinstance(value, dict) else None
        if not isinstance(items, list):
            raise ProviderCallError(self.search_name, status=200)
        return [item for item in items if isinstance(item, dict)]

    @property
    def search_name(self) -> str:
        """Account and call, for errors."""
        return f"{self.account}: search messages"

    def _say_failed(self, reason: str) -> None:
        emit(
            "mailglass.search.failed",
            level=logging.WARNING,
            provider=self.name,
            account=self.account,
            reason=reason,
        )


def query(path: str, **fields: str | int) -> HTTPRequest:
    """Return a GET with a query."""
    return HTTPRequest(f"{path}?{urlencode(fields)}", method="GET")
