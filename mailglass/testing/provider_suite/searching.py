"""Tests of a provider's search: a result for each, nothing found that is not ours, nothing raised."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from mailglass import clock, telemetry
from mailglass.providers.base import Provider
from mailglass.providers.search import SearchResult, SearchResultKind, SearchTarget
from mailglass.testing.provider_suite.declaration import Declaration
from mailglass.testing.provider_suite.mails import DELIVERY, RECIPIENT
from mailglass.testing.provider_suite.wire import Reply, Wire

_WITHIN = 20.0


class SearchSuite(Declaration):
    """`find`, also of rooms that have none."""

    def test_a_search_that_cannot_reach_the_provider_leaves_everything_open(self, nowhere: Provider) -> None:
        assert _kinds(_find(nowhere, 3)) == [SearchResultKind.UNKNOWN] * 3

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
    def test_a_search_that_is_refused_leaves_everything_open(self, status: int, provider: Provider, wire: Wire) -> None:
        wire.behaviour = lambda request: Reply(status, b"{}", {"content-type": "application/json"})
        said: list[object] = []
        end = telemetry.subscribe(lambda event, fields: said.append((event, fields)))
        try:
            assert _kinds(_find(provider, 2)) == [SearchResultKind.UNKNOWN] * 2
        finally:
            end()
        self.shows_nothing(said)

    @pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"[{}]", b'"found"', b"\xff", b'{"count": 0}'])
    def test_an_answer_without_our_id_finds_nothing(self, body: bytes, provider: Provider, wire: Wire) -> None:
        wire.behaviour = lambda request: Reply(200, body, {"content-type": "application/json"})
        results = _find(provider, 2)
        assert len(results) == 2
        assert SearchResultKind.FOUND not in _kinds(results)

    def test_a_search_asks_nothing_when_its_time_is_over(self, provider: Provider, wire: Wire) -> None:
        assert _kinds(_find(provider, 2, within=-1.0)) == [SearchResultKind.UNKNOWN] * 2
        assert wire.seen == []

    def test_a_search_without_targets_asks_nothing(self, provider: Provider, wire: Wire) -> None:
        assert list(provider.find([], deadline=clock.monotonic() + _WITHIN)) == []
        assert wire.seen == []

    def test_a_search_says_after_how_long_it_knows(self, nowhere: Provider) -> None:
        assert nowhere.search_lag >= 0
        assert nowhere.absence_proves_after is None or nowhere.absence_proves_after >= nowhere.search_lag


def _find(provider: Provider, count: int, within: float = _WITHIN) -> list[SearchResult]:
    moment = clock.now()
    targets = [
        SearchTarget(UUID(int=DELIVERY.int + number), RECIPIENT, moment - timedelta(minutes=5), moment)
        for number in range(count)
    ]
    return provider.find(targets, deadline=clock.monotonic() + within)


def _kinds(results: list[SearchResult]) -> list[SearchResultKind]:
    return [result.kind for result in results]
