-- Limits: take from rate limits, and learn from what providers say of them.

-- name: take_limits
-- Take slots for a batch of mails from rate limits, where there is no Redis. Run twice, it takes twice: too little is
-- sent for a moment, never too much.
SELECT granted, delays, blockers FROM mailglass.take_limits(
    CAST(%(keys)s AS text[]), CAST(%(intervals)s AS double precision[]), CAST(%(tolerances)s AS double precision[]),
    CAST(%(fulls)s AS double precision[]), CAST(%(counted)s AS integer[]), CAST(%(accounts)s AS text[]),
    CAST(%(members)s AS integer[]), CAST(%(starts)s AS integer[]), CAST(%(runs)s AS integer[]),
    CAST(%(urgent)s AS boolean), CAST(%(horizon)s AS double precision), CAST(%(seed)s AS double precision),
    CAST(%(now)s AS bigint))

-- name: return_slots
-- Return slots of counts that were not used. Repeated with the same token, from 0 to 1, it does nothing.
UPDATE mailglass.rate_limits r
SET level = greatest(0, r.level - g.mails), promised = %(token)s
FROM (SELECT * FROM unnest(CAST(%(keys)s AS text[]), CAST(%(mails)s AS integer[])) AS u (key, mails)) g
WHERE r.key = g.key AND r.promised <> %(token)s

-- name: apply_feedback
-- Apply a provider's rate feedback to one account: a pause, a slower pace, a rate.
SELECT mailglass.teach_limit(
    %(account)s, CAST(%(pause)s AS double precision), CAST(%(factor)s AS double precision),
    CAST(%(lasting)s AS double precision), CAST(%(rate)s AS double precision),
    CAST(%(rate_lasting)s AS double precision), CAST(%(now)s AS bigint))

-- name: claim_rates
-- Claim accounts whose granted rate is due to be asked for, each for one worker. Until the provider answers, the rate
-- before holds. Run twice, no other worker asks within `answer_within`.
INSERT INTO mailglass.rate_lessons AS l (account, rate_until)
SELECT account, (extract(epoch FROM now()) + %(lead)s + %(answer_within)s) * 1000000
FROM unnest(CAST(%(accounts)s AS text[])) AS account ORDER BY account
ON CONFLICT (account) DO UPDATE SET rate_until = excluded.rate_until
WHERE l.rate_until <= (extract(epoch FROM now()) + %(lead)s) * 1000000
RETURNING account

-- name: prune_limits
-- Delete rate limits that are drained and that were not taken from for two days. Counts of a day are among them, and
-- where clocks are set back a day has 25 hours.
DELETE FROM mailglass.rate_limits WHERE key IN (
    SELECT key FROM mailglass.rate_limits
    WHERE stamp + greatest(level, promised, promised_urgent) < extract(epoch FROM now() - interval '2 days') * 1000000
    ORDER BY key LIMIT %(size)s FOR UPDATE SKIP LOCKED)
RETURNING key

-- name: destinations
-- List the recipient domains that an account waits for, with the seconds. The seconds are 0 where one mail at a time
-- may try.
SELECT domain, GREATEST(CAST(extract(epoch FROM until - now()) AS double precision), 0) AS seconds
FROM mailglass.destinations
WHERE account = %(account)s AND until > now() - make_interval(secs => %(tried)s)

-- name: slow_destinations
-- Delay an account's mail to these domains: as long as was asked for, else twice as long each time. A refusal during a
-- wait was sent before it, and changes nothing.
WITH refused AS (
    SELECT * FROM unnest(CAST(%(domains)s AS text[]), CAST(%(asked)s AS double precision[])) AS r (domain, asked)
), forgotten AS (
    DELETE FROM mailglass.destinations
    WHERE account = %(account)s AND until < now() - interval '1 day'
      AND domain <> ALL (CAST(%(domains)s AS text[]))
)
INSERT INTO mailglass.destinations AS d (account, domain, failures, until)
SELECT %(account)s, r.domain, 1, now() + make_interval(secs => LEAST(
           COALESCE(r.asked, CAST(%(first)s AS double precision)), CAST(%(longest)s AS double precision)))
FROM refused r ORDER BY r.domain
ON CONFLICT (account, domain) DO UPDATE SET
    failures = CASE WHEN d.until > now() THEN d.failures
                    WHEN d.until > now() - make_interval(secs => %(tried)s) THEN LEAST(d.failures + 1, 16)
                    ELSE 1 END,
    until = CASE WHEN d.until > now() THEN GREATEST(d.until, excluded.until)
                 WHEN d.until > now() - make_interval(secs => %(tried)s) THEN GREATEST(
                     excluded.until, now() + make_interval(secs => LEAST(
                         CAST(%(longest)s AS double precision), CAST(%(first)s AS double precision)
                         * power(2, d.failures))))
                 ELSE excluded.until END

-- name: free_destinations
-- Delete the waits of an account for these domains, which take its mail again.
DELETE FROM mailglass.destinations
WHERE account = %(account)s AND domain = ANY (CAST(%(domains)s AS text[]))
