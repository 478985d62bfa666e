"""Recipient domains that have asked an account to come back later: learnt for that account and domain alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from mailglass import clock, telemetry
from mailglass.errors import LedgerUnavailableError
from mailglass.ledger import destinations
from mailglass.ledger.database import Runs
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.refusal import About, Refusal, Stage
from mailglass.refusals.consequences import Hears, hears

# seconds for which what other workers have learnt may be unknown here
_CACHED: Final = 2.0


class Destinations:
    """Domains that accounts wait for, over all workers. Safe to use from several threads.

    Args:
        ledger: where it is kept.
    """

    def __init__(self, ledger: Runs) -> None:
        self._ledger = ledger
        self._cache: dict[str, tuple[float, dict[str, float]]] = {}

    def waits(self, account: str) -> dict[str, float]:
        """Return the seconds to wait by domain; 0 where a single mail may try."""
        cached = self._cache.get(account)
        now = clock.monotonic()
        if cached is None or now - cached[0] > _CACHED:
            cached = self._cache[account] = (now, destinations.waits(self._ledger, account))
        age = now - cached[0]
        return {domain: max(seconds - age, 0.0) for domain, seconds in cached[1].items()} if cached[1] else cached[1]

    def learn(self, account: str, mails: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
        """Heed what receivers say to all mailboxes of a domain, and that they take mail again. Never raises."""
        refused: dict[str, float | None] = {}
        taken: set[str] = set()
        for mail, outcome in zip(mails, outcomes, strict=True):
            domain = mail.recipient.domain
            if outcome.kind is OutcomeClass.ACCEPTED:
                taken.add(domain)
            elif outcome.refusal is not None and _speaks_for_a_domain(outcome.refusal):
                refused[domain] = outcome.retry_after
        known = self._cache.get(account, (0.0, {}))[1]
        freed = [domain for domain in taken if domain in known and domain not in refused]
        if not refused and not freed:
            return
        try:
            if refused:
                destinations.slow(self._ledger, account, refused)
            if freed:
                destinations.free(self._ledger, account, freed)
        except LedgerUnavailableError as error:
            telemetry.emit("mailglass.limits.not_learnt", level=logging.WARNING, error_type=type(error).__name__)
        self._cache.pop(account, None)


def _speaks_for_a_domain(refusal: Refusal) -> bool:
    """Return whether the recipient's side has spoken: before RCPT nobody knew who the mail was for.

    A server that is only in trouble may be the account's own.
    """
    heard = hears(refusal) is Hears.DESTINATION and refusal.stage in (Stage.RCPT, Stage.DATA, Stage.DOT)
    return heard and refusal.about not in (About.INFRASTRUCTURE, About.PROTOCOL, About.UNKNOWN)
