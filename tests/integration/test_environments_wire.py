"""Requests to each provider outside production name nobody who may not get mail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mailglass.mail.addresses import Address
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.recipients import RecipientPolicy, ShowRecipient
from mailglass.testing.provider_suite.declaration import Feature, send
from mailglass.testing.provider_suite.mails import plain
from tests.rooms import ROOMS

OUTSIDER = "ada@customer.test"
POLICY = RecipientPolicy(("*@recipient.example",), Address("dev@recipient.example"), "[staging]", ShowRecipient.NOWHERE)


def hostile(provider: str) -> list[Outgoing]:
    """Mails that name somebody outside in every place where a provider may take recipients from."""
    outsider = Address(OUTSIDER, "Ada")
    places: dict[str, dict[str, Any]] = {
        "to": {"recipient": outsider},
        "cc": {"cc": (outsider, Address("bob@recipient.example"))},
        "bcc": {"bcc": (Address(OUTSIDER.upper()),)},
        "reply-to": {"reply_to": (outsider,)},
        "header": {"headers": (("X-SMTPAPI", f'{{"to": ["{OUTSIDER}"]}}'), ("X-MC-BccAddress", OUTSIDER))},
        "option": {"options": {provider: {"mail_settings": {"bcc": {"email": OUTSIDER}}, "archive": [OUTSIDER]}}},
    }
    return [plain(name, **changes) for name, changes in places.items()]


@pytest.mark.parametrize("name", [name for name, room in ROOMS.items() if Feature.WIRE not in room.lacks])
def test_no_request_to_a_provider_names_anybody_outside(name: str) -> None:
    room = ROOMS[name]()
    with room.open_wire() as wire:
        provider = room.build(room.at(wire.port))
        try:
            mails = [POLICY.restrict(mail).mail for mail in hostile(provider.name)]
            allowed = [mail for mail in mails if mail is not None]
            assert len(allowed) == 6
            assert {outcome.kind.value for outcome in send(provider, *allowed)} == {"accepted"}
            # the same mails without a policy show that the wire is read
            in_production = replace(allowed[1], cc=(Address(OUTSIDER),))
            assert not any(room.holds(seen, "customer") or room.holds(seen, "CUSTOMER") for seen in wire.seen)
            assert any(room.holds(seen, "dev@recipient.example") for seen in wire.seen)
            send(provider, in_production)
            assert any(room.holds(seen, "customer") for seen in wire.seen)
        finally:
            provider.close()
