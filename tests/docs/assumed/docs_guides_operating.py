"""Taken for granted: mails that wait, and a moment."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from mailglass import DeliveryGroup, Message, deliver_later, tenant

with tenant("acme"):
    deliver_later.apply_async(
        (Message(to="c@example.com", subject="News", text="News.", stream="bulk"),), countdown=600
    )
    group = cast(
        DeliveryGroup,
        deliver_later.apply_async(
            (Message(to=["a@example.com", "b@example.com"], subject="Receipt", text="Thank you."),), countdown=600
        ),
    )
moment = datetime.now(UTC) + timedelta(minutes=1)


def check(page: dict[str, Any]) -> None:
    """Expect the bulk mail to be canceled by the filter, and the group by itself."""
    assert page["counts"].canceled == 1
    assert set(group.states.values()) == {"canceled"}
