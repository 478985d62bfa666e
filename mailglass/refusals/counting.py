"""Refusals as counters: by subject and receiver, as telemetry events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mailglass import telemetry


def count_refusals(account: str, codes: Iterable[str | None]) -> None:
    """Emit `mailglass.refusals.met` once for each kind of refusal, with how many there were.

    Args:
        account: whose mail was refused.
        codes: `Refusal.code` of each; None counts nothing.
    """
    for code, count in sorted(Counter(code for code in codes if code is not None).items()):
        about, lasting, receiver, *_ = [*code.split("/"), "", ""]
        telemetry.emit(
            "mailglass.refusals.met",
            account=account,
            about=about,
            lasting=lasting,
            receiver=receiver or "other",
            count=count,
        )
