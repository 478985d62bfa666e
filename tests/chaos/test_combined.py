"""Several faults at once: every mail that anybody was told of ends, and none goes twice unaccounted for.

The seed is printed; `CHAOS_SEED` plays one round again. `make chaos` plays `CHAOS_ROUNDS` rounds.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.chaos.combined import Combination
from tests.chaos.site import Site
from tests.chaos.test_chaos import ROUNDS

SEED = os.environ.get("CHAOS_SEED")


def play(turn: Combination) -> None:
    try:
        turn.run()
    except BaseException:
        turn.site.describe()
        raise
    finally:
        turn.site.end_round()


def test_combined_faults_lose_nothing_and_double_nothing(site: Site, outside, wait_for) -> None:
    play(Combination(site, outside, wait_for, SEED or str(random.SystemRandom().randrange(10**6)), keys=120))


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_many_combinations(site: Site, outside, wait_for, number: int) -> None:
    seed = SEED or f"{random.SystemRandom().randrange(10**6)}-{number}"
    play(Combination(site, outside, wait_for, seed, keys=400, waves=2))
