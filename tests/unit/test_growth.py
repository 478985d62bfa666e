"""The measure of growth tells a square from noise, on a clock that only the measured work moves."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from tests import growth
from tests.growth import LINEAR, exponent

Noise = Callable[[random.Random, int], float]

# by how much a call costs more than it should
NOISES: dict[str, Noise] = {
    "none": lambda chance, size: 1.0,
    "some": lambda chance, size: chance.uniform(1, 1.5),
    "now and then ten times": lambda chance, size: 10.0 if chance.random() < 0.3 else 1.0,
    "mostly three times": lambda chance, size: 3.0 if chance.random() < 0.7 else 1.0,
    "large inputs miss the cache": lambda chance, size: 2.5 if size > 4_000 else 1.0,
    "the largest inputs miss the cache": lambda chance, size: 2.5 if size > 7_000 else 1.0,
}


Measure = Callable[[Callable[[int], float], str], list[float]]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """`measured(seconds, noise)`: the exponents of a work that takes so long for a size, one for each of five seeds."""
    clock = [0.0]
    monkeypatch.setattr(growth.time, "thread_time", lambda: clock[0])

    def measure(seconds: Callable[[int], float], noise: str) -> list[float]:
        def work(size: int) -> None:
            clock[0] += seconds(size) * NOISES[noise](chance, size)

        exponents = []
        for seed in range(5):
            chance = random.Random(seed)
            exponents.append(exponent(work, lambda size: size, 1_000))
        return exponents

    return measure


@pytest.mark.parametrize("noise", NOISES)
def test_n_log_n_passes_under_noise(noise: str, measured: Measure) -> None:
    assert max(measured(lambda size: 1e-7 * size * math.log(size), noise)) <= LINEAR


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("cost", [1e-10, 1e-9, 1e-8])
def test_square_fails_under_noise(noise: str, cost: float, measured: Measure) -> None:
    assert min(measured(lambda size: cost * size * size, noise)) > LINEAR


def test_square_behind_a_linear_part_fails(measured: Measure) -> None:
    assert min(measured(lambda size: 1e-6 * size + 1e-9 * size * size, "some")) > LINEAR


def test_bounded_cost_counts_as_none(measured: Measure) -> None:
    assert max(measured(lambda size: 1e-3, "some")) == 0.0


def test_square_of_real_work_fails() -> None:
    def squared(text: str) -> int:
        return sum(1 for _ in text for _ in text)

    assert exponent(squared, lambda size: "a" * size, 100) > LINEAR
