"""The lab's accounts whose providers keep suppression lists, as settings that open them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from mailglass.settings import AccountSettings
from mailglass.testing.provider_suite import Feature
from tests.provider_lab import lab_process
from tests.rooms import ROOMS

LISTING: Final = {
    room.provider_class.name: room
    for room in reversed(ROOMS.values())  # the first of several for one provider stays
    if Feature.SUPPRESSION_LIST not in room.lacks
}
ENVIRON: Final[Mapping[str, str]] = {"KEY": "lab-key-1", "SECOND": "lab-key-2", "HOOK": "lab-hook-3"}
# these stand at the lab's root; the others below their account's name
_AT_ROOT: Final = frozenset({"postmark", "sendgrid"})


@contextmanager
def lab_of_lists() -> Iterator[dict[str, AccountSettings]]:
    """A lab with an account of every provider that keeps a list, by the provider's name; nothing is posted."""
    others = [f"--account={name}={name}" for name in LISTING if name not in _AT_ROOT]
    with lab_process(*others) as lab:
        yield {name: _account(name, lab.url if name in _AT_ROOT else f"{lab.url}/{name}") for name in LISTING}


def _account(name: str, url: str) -> AccountSettings:
    room = LISTING[name]
    wanted = {key: value for key, value in room.options.items() if key not in room.webhook_options}
    return AccountSettings(name, name, options={**wanted, room.address_option: url})
