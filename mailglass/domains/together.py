"""Examination of several domains at the same time, for commands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mailglass.domains.report import Report
    from mailglass.domains.subject import Subject

TOGETHER: Final = 5
"""Domains that are examined at the same time."""


def examine_all(subjects: Sequence[Subject], resolver: str, *, online: bool = False) -> list[Report]:
    """Return the report of each domain, in their order.

    Args:
        subjects: what is examined.
        resolver: `IP` or `IP:PORT` of the DNS resolver; "" for those of the system.
        online: fetch the policy file of MTA-STS too.

    Raises:
        ConfigError: the resolver is no address.
    """
    from mailglass.domains.collector import Collector, examine, parse_resolver
    from mailglass.domains.policy_file import fetch

    servers = parse_resolver(resolver)
    together = asyncio.Semaphore(TOGETHER)

    async def one(subject: Subject) -> Report:
        async with together:
            return await examine(replace(subject, online=online), Collector(servers, fetch=fetch if online else None))

    async def run() -> list[Report]:
        return list(await asyncio.gather(*(one(subject) for subject in subjects)))

    return asyncio.run(run())
