"""What a provider's event says about whom not to mail any more, and about whom to mail again.

| event | entry | reason |
| --- | --- | --- |
| complained | the address | `complaint` |
| bounced, rejected or failed, class hard | the address | `hard_bounce` |
| refused as perhaps gone, twice within weeks and a day or more apart | the address, for 30 days | `hard_bounce` |
| rejected because it bounced or complained before, or is no address | the address | `provider` |
| unsubscribed, or rejected because the person had unsubscribed | the address on the delivery's stream | `unsubscribe` |
| subscribed | ends an `unsubscribe` of that stream which the same account had told of before | |

An entry belongs to the delivery's tenant. A refusal that names an earlier unsubscription stands for no more than that:
other streams go on. A blocked, timed out or unexplained refusal says nothing about the person.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from mailglass import clock
from mailglass.errors import MessageError
from mailglass.ledger import webhooks
from mailglass.ledger.database import Runs
from mailglass.ledger.suppressions import Suppression, refused_again, suppress
from mailglass.ledger.webhooks import Fact, Match, SubscriptionChange
from mailglass.mail.addresses import parse_address
from mailglass.mail.events import BounceClass, EventKind, RejectReason
from mailglass.refusals.consequences import SECOND

_HARD = frozenset({EventKind.BOUNCED, EventKind.REJECTED, EventKind.FAILED})
_REFUSED_PERSON = frozenset({RejectReason.INVALID, RejectReason.BOUNCED, RejectReason.SPAM})


def learn(ledger: Runs, linked: Iterable[tuple[Fact, Match]]) -> int:
    """Bring the suppression list to what these facts say. Returns how many entries were written.

    Where somebody left a stream and came back to it, the later one counts, by the provider's time.
    """
    entries = _refused_again(ledger, linked := list(linked))
    changes: dict[tuple[str, str, str], tuple[SubscriptionChange, bool]] = {}
    # most facts bear on no list, and both sorting and reading addresses cost more than seeing that
    telling = [(fact, match) for fact, match in linked if _reason(fact) or _leaves(fact) is not None]
    for fact, match in sorted(telling, key=lambda pair: (pair[0].occurred_at, pair[0].id)):
        value = _address(fact, match)
        if value is None:
            continue
        if reason := _reason(fact):
            entries.append(Suppression(match.tenant, value, reason, "webhook", account=fact.account))
        elif (left := _leaves(fact)) is not None:
            change = SubscriptionChange(match.tenant, value, match.stream, fact.account, fact.occurred_at)
            changes[match.tenant, value, match.stream] = change, left
    written = suppress(ledger, entries) if entries else 0
    if leaving := [change for change, left in changes.values() if left]:
        written += webhooks.unsubscribe(ledger, leaving)
    if returning := [change for change, left in changes.values() if not left]:
        webhooks.resubscribe(ledger, returning)
    return written


def _refused_again(ledger: Runs, linked: Sequence[tuple[Fact, Match]]) -> list[Suppression]:
    """Return entries for those who were refused as perhaps gone a day or more apart."""
    doubts = [
        (match.tenant, value, fact)
        for fact, match in linked
        if fact.doubted and (value := _address(fact, match)) is not None
    ]
    if not doubts:
        return []
    accounts = {(tenant, value): fact.account for tenant, value, fact in doubts}
    again = refused_again(ledger, [(tenant, value, fact.occurred_at) for tenant, value, fact in doubts])
    return [
        Suppression(
            tenant, value, SECOND.reason, "webhook",
            account=accounts[tenant, value],
            expires_at=clock.now() + timedelta(days=SECOND.days or 0),
        )
        for tenant, value in sorted(again)
    ]  # fmt: skip


def _reason(fact: Fact) -> str | None:
    """Why the address is not to be mailed at all, by the table above; None for most facts."""
    if fact.kind == EventKind.COMPLAINED:
        return "complaint"
    if fact.bounce_class == BounceClass.HARD and fact.kind in _HARD:
        return "hard_bounce"
    if fact.kind == EventKind.REJECTED and fact.reject_reason in _REFUSED_PERSON and not fact.doubted:
        return "provider"
    return None


def _leaves(fact: Fact) -> bool | None:
    """Whether the person leaves the stream (True) or comes back to it (False)."""
    if fact.kind == EventKind.SUBSCRIBED:
        return False
    refused = fact.kind == EventKind.REJECTED and fact.reject_reason == RejectReason.UNSUBSCRIBED
    return True if refused or fact.kind == EventKind.UNSUBSCRIBED else None


def _address(fact: Fact, match: Match) -> str | None:
    """Whom the fact is about: the recipient it names, who may be a copy's, else the delivery's own."""
    try:
        return parse_address(fact.recipient or match.recipient, "recipient").key
    except MessageError:
        # what is no address is nobody we could mail
        return None
