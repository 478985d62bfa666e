"""Fixtures for pytest. Nothing of mailglass is loaded until a test asks for one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mailglass.testing import Mailbox, Outbox


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    """Catch the mails that the test's code sends, in memory."""
    from mailglass.testing import outbox as caught

    with caught() as box:
        yield box


@pytest.fixture
def mailbox_connection() -> Any:
    """Return the connection of the test's `mailbox`; override it to give that of your own tests."""
    return None


@pytest.fixture
def mailbox(mailbox_connection: Any) -> Iterator[Mailbox]:
    """Send the test's mails by the real path, to a provider in this process."""
    from mailglass.testing import mailbox as opened

    with opened(mailbox_connection) as box:
        yield box
