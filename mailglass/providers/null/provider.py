"""A provider that accepts everything and sends nothing: for benchmarks and dry runs."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider
from mailglass.providers.null.options import NullOptions


class NullProvider(Provider):
    """Accepts every mail at once, with the delivery's id as the provider's."""

    name = "null"
    Options = NullOptions
    batch_size = 200

    @override
    def send(self, mails: Sequence[Outgoing], *, deadline: float) -> list[Outcome]:
        return [Outcome(OutcomeClass.ACCEPTED, provider_message_id=str(mail.delivery_id)) for mail in mails]
