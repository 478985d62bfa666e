"""Fixtures for pytest. Nothing of mailglass is loaded until a test asks for one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mailglass.testing import Outbox


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    """Catch the mails that the test's code sends, in memory."""
    from mailglass.testing import outbox as caught

    with caught() as box:
        yield box
