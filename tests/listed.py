"""The lab's accounts whose providers keep suppression lists, as settings that open them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from mailglass.settings import AccountSettings
from mailglass.testing.provider_suite import Feature
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
    process = subprocess.Popen(
        [sys.executable, "-m", "mailglass.testing.lab", "--calm", "--watch-stdin", *others],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdin and process.stdout
    try:
        line = process.stdout.readline()
        assert line, "the lab did not start"
        url = json.loads(line)["http_url"]
        yield {name: _account(name, url if name in _AT_ROOT else f"{url}/{name}") for name in LISTING}
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.stdout.close()


def _account(name: str, url: str) -> AccountSettings:
    room = LISTING[name]
    wanted = {key: value for key, value in room.options.items() if key not in room.webhook_options}
    return AccountSettings(name, name, options={**wanted, room.address_option: url})
