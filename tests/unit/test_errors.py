"""Failures of code of somebody else, told apart from what asks to stop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import gevent
import greenlet
import pytest

from mailglass.errors import failure


class Panic(BaseException):
    pass


def failure_in_a_thread(error: BaseException) -> str:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(failure, error).result(60)


@pytest.mark.parametrize("error", [Panic(), ValueError(), MemoryError(), SystemExit(2), KeyboardInterrupt()])
def test_code_that_raises_in_a_thread_has_failed(error: BaseException) -> None:
    assert failure_in_a_thread(error) == type(error).__name__


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt()])
def test_a_signal_in_the_main_thread_is_raised_again(error: BaseException) -> None:
    with pytest.raises(type(error)):
        failure(error)


@pytest.mark.parametrize("error", [gevent.Timeout(1), greenlet.GreenletExit(), asyncio.CancelledError()])
def test_the_end_of_a_greenlet_or_a_coroutine_is_raised_again(error: BaseException) -> None:
    with pytest.raises(type(error)):
        failure_in_a_thread(error)
