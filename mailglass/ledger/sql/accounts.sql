-- Accounts: breakers and pauses.

-- name: breakers
-- List the breakers of these accounts that are not closed, and accounts that are paused. A breaker is open with the
-- seconds left, or half-open for so many seconds, below zero.
SELECT b.account, b.reason, CAST(extract(epoch FROM b.open_until - now()) AS double precision) AS seconds,
       b.failed_delivery
FROM mailglass.breakers b
WHERE b.account = ANY (CAST(%(accounts)s AS text[]))
  AND NOT EXISTS (SELECT FROM mailglass.pauses z WHERE z.tenant_id = '' AND z.stream = '' AND z.account = b.account)
UNION ALL
SELECT z.account, 'paused', NULL, NULL
FROM mailglass.pauses z
WHERE z.tenant_id = '' AND z.stream = '' AND z.account = ANY (CAST(%(accounts)s AS text[]))

-- name: trip
-- Open an account's breaker, twice as long at each failure in a row. A reset that the provider tells counts as it is.
-- The mail that failed is remembered, so that another one tries the account next.
INSERT INTO mailglass.breakers AS b (account, reason, failures, open_until, failed_delivery, last_error)
VALUES (%(account)s, %(reason)s, 1,
        now() + make_interval(secs => COALESCE(
            CAST(%(reset)s AS double precision), CAST(%(base)s AS double precision))),
        CAST(%(delivery)s AS uuid), CAST(%(error)s AS text))
ON CONFLICT (account) DO UPDATE SET
    reason = excluded.reason, failed_delivery = excluded.failed_delivery, last_error = excluded.last_error,
    failures = b.failures + CASE WHEN b.open_until <= now() THEN 1 ELSE 0 END,
    open_until = GREATEST(b.open_until, now() + make_interval(secs => COALESCE(
        CAST(%(reset)s AS double precision),
        LEAST(%(longest)s, CAST(%(base)s AS double precision)
              * power(2, b.failures - CASE WHEN b.open_until <= now() THEN 0 ELSE 1 END))))),
    probe_until = NULL
RETURNING CAST(extract(epoch FROM open_until - now()) AS double precision) AS seconds

-- name: probe
-- Claim the one try of a half-open breaker, for a time.
UPDATE mailglass.breakers SET probe_until = now() + make_interval(secs => %(seconds)s)
WHERE account = %(account)s AND open_until <= now() AND (probe_until IS NULL OR probe_until <= now())
RETURNING account

-- name: end_probe
-- End a try that told nothing of the account, so that the next mail may try at once.
UPDATE mailglass.breakers SET probe_until = NULL WHERE account = %(account)s

-- name: reset_breaker
-- Close a half-open breaker: the account works again.
DELETE FROM mailglass.breakers WHERE account = %(account)s AND open_until <= now() RETURNING account

-- name: close_breaker
-- Close a breaker by hand, whatever its state.
DELETE FROM mailglass.breakers WHERE account = %(account)s RETURNING account

-- name: wake_awaiting
-- Make mail due now that waits for an account, or for any, because it can be used again.
WITH awaiting AS MATERIALIZED (
    SELECT d.id FROM mailglass.deliveries d
    WHERE d.awaits_account IS NOT NULL
      AND (CAST(%(account)s AS text) IS NULL OR d.awaits_account = CAST(%(account)s AS text))
      AND d.status = 'queued' AND d.due_at > now()
    LIMIT %(size)s FOR UPDATE SKIP LOCKED
)
UPDATE mailglass.deliveries d SET due_at = now() FROM awaiting a WHERE d.id = a.id
RETURNING d.queue, d.tenant_id, d.stream

-- name: account_states
-- List what stands against accounts: breakers, pauses, rate feedback, and how much mail waits for each.
SELECT a.account, b.reason, b.failures, b.open_until, b.last_error, z.paused_at, z.actor AS paused_by,
       CASE WHEN l.pause_until > e.now THEN to_timestamp(l.pause_until / 1000000.0) END AS throttled_until,
       CASE WHEN l.slow_until > e.now THEN l.factor END AS slowed,
       (SELECT count(*) FROM mailglass.deliveries d WHERE d.awaits_account = a.account) AS waiting
FROM unnest(CAST(%(accounts)s AS text[])) AS a (account)
CROSS JOIN (SELECT extract(epoch FROM now()) * 1000000 AS now) e
LEFT JOIN mailglass.breakers b ON b.account = a.account
LEFT JOIN mailglass.pauses z ON z.account = a.account AND z.tenant_id = '' AND z.stream = ''
LEFT JOIN mailglass.rate_lessons l ON l.account = a.account
ORDER BY a.account

-- name: pause
-- Pause an account, a tenant's mail, or one stream of it, with an entry in the audit.
WITH paused AS (
    INSERT INTO mailglass.pauses (account, tenant_id, stream, actor)
    VALUES (%(account)s, %(tenant)s, %(stream)s, %(actor)s)
    ON CONFLICT DO NOTHING RETURNING account
), audited AS (
    INSERT INTO mailglass.audit (id, actor, action, tenant_id, detail)
    SELECT CAST(%(audit_id)s AS uuid), %(actor)s, %(action)s, NULLIF(%(tenant)s, ''), CAST(%(detail)s AS json)
    FROM paused
    ON CONFLICT DO NOTHING
)
SELECT account FROM paused

-- name: unpause
-- End a pause, with an entry in the audit, and answer when it began.
WITH ended AS (
    DELETE FROM mailglass.pauses
    WHERE account = %(account)s AND tenant_id = %(tenant)s AND stream = %(stream)s RETURNING paused_at
), audited AS (
    INSERT INTO mailglass.audit (id, actor, action, tenant_id, detail)
    SELECT CAST(%(audit_id)s AS uuid), %(actor)s, %(action)s, NULLIF(%(tenant)s, ''), CAST(%(detail)s AS json)
    FROM ended
    ON CONFLICT DO NOTHING
)
SELECT paused_at FROM ended

-- name: pauses
-- List all pauses.
SELECT account, tenant_id, stream, paused_at, actor FROM mailglass.pauses ORDER BY tenant_id, stream, account

-- name: keep_paused_age
-- Count the time that a pause lasted in no mail's age: it counts as if it was to leave later by that long.
-- Mail in doubt keeps its age, by which its account remembers it.
UPDATE mailglass.deliveries d
SET scheduled_at = CAST(%(until)s AS timestamptz)
                   - (GREATEST(CAST(%(since)s AS timestamptz), d.scheduled_at) - d.scheduled_at)
WHERE d.tenant_id = %(tenant)s AND CAST(%(stream)s AS text) IN ('', d.stream) AND d.due_at IS NOT NULL
  AND NOT d.in_doubt AND d.scheduled_at < CAST(%(until)s AS timestamptz)
