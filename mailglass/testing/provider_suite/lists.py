"""Tests of a provider's suppression list: the seam's shape, and errors that say whether to try again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mailglass.errors import ProviderCallError
from mailglass.providers.base import Provider
from mailglass.providers.suppression_list import ListedAddress
from mailglass.testing.provider_suite.declaration import Declaration, Feature
from mailglass.testing.provider_suite.mails import RECIPIENT
from mailglass.testing.provider_suite.wire import Reply, Wire

_ENTRY = ListedAddress(RECIPIENT, "hard_bounce")


class SuppressionSuite(Declaration):
    """`suppression_list`."""

    def test_a_room_says_truly_whether_it_has_a_suppression_list(self, nowhere: Provider) -> None:
        assert nowhere.keeps_suppressions is (Feature.SUPPRESSION_LIST not in self.lacks)
        if not nowhere.keeps_suppressions:
            with pytest.raises(NotImplementedError):
                nowhere.suppression_list()
            return
        for name in ("pull", "push", "remove"):
            assert callable(getattr(nowhere.suppression_list(), name))

    def test_nothing_to_change_in_the_suppression_list_is_nothing_done(self, provider: Provider, wire: Wire) -> None:
        self.need(Feature.SUPPRESSION_LIST)
        listed = provider.suppression_list()
        assert list(listed.push([])) == []
        assert list(listed.remove([])) == []
        assert wire.seen == []

    def test_a_suppression_list_that_cannot_be_reached_may_be_asked_later(self, nowhere: Provider) -> None:
        self.need(Feature.SUPPRESSION_LIST)
        listed = nowhere.suppression_list()
        with pytest.raises(ProviderCallError) as error:
            listed.pull(None)
        assert error.value.retryable
        self.shows_nothing(error.value)
        self._cannot_be_reached(lambda: listed.push([_ENTRY]))
        self._cannot_be_reached(lambda: listed.remove([RECIPIENT]))

    def _cannot_be_reached(self, change: Callable[[], list[bool]]) -> None:
        try:
            done = change()
        except ProviderCallError as error:
            self.shows_nothing(error)
            retryable = error.retryable
        else:
            # what a provider has no call for is told without one
            retryable = done == [False]
        assert retryable

    @pytest.mark.parametrize(("status", "retryable"), [(401, False), (429, True), (503, True)])
    def test_a_suppression_list_that_refuses_says_whether_to_try_again(
        self, status: int, retryable: bool, provider: Provider, wire: Wire
    ) -> None:
        self.need(Feature.SUPPRESSION_LIST)
        listed = provider.suppression_list()
        wire.behaviour = lambda request: Reply(status, b"{}", {"content-type": "application/json"})
        with pytest.raises(ProviderCallError) as error:
            listed.pull(None)
        assert (error.value.status, error.value.retryable) == (status, retryable)
        self.shows_nothing(error.value)
