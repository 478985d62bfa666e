"""Rate limits shared by all workers: one bucket per limit, on one server's clock, one round trip for a batch.

The rule is GCRA, the generic cell rate algorithm. A limit of `burst` mails, one each `interval`, stores one figure, its
level: the work that was taken and has not drained yet. It drains by a second each second; a mail adds one interval; a
mail fits while the level stays within `burst * interval`. From this alone follows that no stretch of time sees more
than `burst + time / interval` mails, and that one who asks often enough gets all of them. Textbooks keep the moment at
which the level reaches zero, the theoretical arrival time. Level and stamp are the same fact, and better kept: a moment
since 1970 in microseconds leaves a double a quarter of a microsecond, which at 3,000 mails a second is one mail in four
thousand, while levels are small and, with the intervals of `exact_microseconds`, exact; and a clock that was set back
by an hour shifts the stamp instead of closing the limit for an hour.

Only the level grants. All limits of a mail are taken together or none is, in the order of the batch.

A refused mail is no failure: it is due later, and the limiter says when. If each got the next free place, a
backlog would come back as a herd, of which one mail wins and the others have cost a claim each. So every limit keeps a
second level, the promised one, that runs ahead of the first by one interval for each mail sent away: they come back one
by one, as places become free. A promise reserves nothing; whoever asks while there is room gets it, and who then comes
back in vain is promised the next place at the end of the line.

Promises end at a horizon, 30 seconds beyond the next free place. A backlog of a million fills this line and no more;
the others come back spread over the last third of it. Without the horizon one bulk mailing would be given places hours
ahead, and nothing done about it in the meantime, a limit raised or the mailing cancelled, would bring a mail forward.
Only the limits that refused a mail promise it a place, so a tenant's own backlog is never in the way of another tenant
at the account they share.

Urgent mail has a promised level of its own, which other mail queues behind and which does not look at theirs: it comes
back for the next place that is really free, whatever was promised to a newsletter. And since the newsletter's mails may
get there first, they leave urgent mail a tenth of the bursts that both share.

A rule may change, and during a deploy workers ask by the old and the new one in turns. So the limit keeps the interval
and the burst that its level was taken by. For another interval the level becomes as many mails of that one, and it is
never more than the burst of who asks: the next urgent mail waits for one interval at the most. What this forgets must
not be had again and again by asking in turns. So from the first change on a second level, the guard, is taken from by
the smallest interval and the largest burst seen, until it has drained. Promises made under another rule are forgotten.

Providers give feedback (`Limiter.slow_down`, `observe`, `set_rate`). It pauses an account, stretches its interval for a
while, or sets a rate. The tolerance stays what it is in seconds, so that slowing an account never gives it a fresh
burst.

A warm-up plan is no rate but a count of a day, which does not drain: what a rate forgets is made good in seconds, what
a count forgets is sent beyond the plan. So counts are kept in the ledger alone, where neither a restart of Redis nor a
change between the two servers loses any, and what was certainly not sent is given back to them. They are asked for
first, so that a mail over its plan takes nothing from rates that others share; a mail that then meets a rate gives its
place back, and comes back for it.

Where Redis cannot be reached, the ledger's limiter answers, and keeps answering for one to ten seconds before Redis is
asked again: never without a limit, never blocked. The two do not know of each other, so each change over grants up to
one more burst, and while only some workers reach Redis, the two sides add up. Feedback is written to both.
"""

from __future__ import annotations

from mailglass.limits.batch import Grant
from mailglass.limits.gcra_ledger import prune
from mailglass.limits.granted import learn_granted_rates
from mailglass.limits.limiter import Limiter, limiter_for
from mailglass.limits.rules import Cap, Limit, Mail, Rule, RuleBook, warmup_cap

__all__ = [
    "Cap",
    "Grant",
    "Limit",
    "Limiter",
    "Mail",
    "Rule",
    "RuleBook",
    "learn_granted_rates",
    "limiter_for",
    "prune",
    "warmup_cap",
]
