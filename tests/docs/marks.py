"""Blocks of the documentation that no test runs, by reason: their number cannot grow unseen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MARKED: Final[Mapping[str, int]] = {
    "installs packages from an index": 10,
    "runs for minutes": 6,
    "opens a browser": 1,
    "needs a production host": 2,
}
"""Each reason, and how many blocks have it."""

BY_ANOTHER_TEST: Final = "run by "
"""The beginning of a reason that names the test which runs the block: a path, which must exist."""

RUN_ELSEWHERE: Final = 7
"""Number of blocks that another test runs."""
