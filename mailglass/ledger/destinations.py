"""Recipient domains that an account waits for, kept beside the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mailglass.ledger import arrays
from mailglass.ledger.database import Runs

# seconds of the first wait, which doubles with each refusal after it, and of the longest
FIRST_WAIT: Final = 60.0
LONGEST_WAIT: Final = 3600.0
# seconds after a wait in which mail of the domain tries one at a time
TRIED: Final = 600.0


def waits(ledger: Runs, account: str) -> dict[str, float]:
    """Return the domains that an account waits for, with the seconds; 0 where one mail at a time may try."""
    return {row.domain: row.seconds for row in ledger.run("destinations", {"account": account, "tried": TRIED})}


def slow(ledger: Runs, account: str, domains: Mapping[str, float | None]) -> None:
    """Let an account's mail to these domains wait.

    Args:
        ledger: runs the statement.
        account: whose mail.
        domains: each with the seconds that its server asked for; None for a while that doubles each time.
    """
    names = sorted(domains)
    ledger.run(
        "slow_destinations",
        {
            "account": account,
            "domains": arrays.texts(names),
            "asked": arrays.numbers([domains[name] for name in names]),
            "first": FIRST_WAIT,
            "longest": LONGEST_WAIT,
            "tried": TRIED,
        },
    )


def free(ledger: Runs, account: str, domains: Sequence[str]) -> None:
    """Delete an account's waits for these domains, which take its mail again."""
    ledger.run("free_destinations", {"account": account, "domains": arrays.texts(sorted(domains))})
