-- Checklist: what is read before going live. Each looks at the newest rows alone, however large the ledger is.

-- name: recent_attempts
-- Measure the newest provider calls of each account: their number, the 95th percentile of their duration, and how many
-- mails the provider throttled.
SELECT e.account, CAST(count(*) AS integer) AS attempts,
       CAST(percentile_disc(0.95) WITHIN GROUP (ORDER BY e.duration_ms) AS integer) AS duration_ms,
       CAST(count(*) FILTER (WHERE e.outcome = 'throttled') AS integer) AS throttled
FROM (SELECT v.account, v.duration_ms, v.outcome FROM mailglass.events v
      ORDER BY v.id DESC LIMIT CAST(%(size)s AS integer)) e
WHERE e.account IS NOT NULL AND e.duration_ms IS NOT NULL
GROUP BY e.account

-- name: recent_webhooks
-- Read when each account's newest webhook came.
SELECT w.account, max(w.received_at) AS received_at
FROM (SELECT e.account, e.received_at FROM mailglass.webhook_events e
      ORDER BY e.id DESC LIMIT CAST(%(size)s AS integer)) w
GROUP BY w.account

-- name: recent_tenants
-- List the tenants of the newest deliveries, and which streams they used.
SELECT DISTINCT d.tenant_id, d.stream
FROM (SELECT n.tenant_id, n.stream FROM mailglass.deliveries n
      ORDER BY n.created_at DESC, n.id DESC LIMIT CAST(%(size)s AS integer)) d
ORDER BY d.tenant_id, d.stream

-- name: live_suppressions
-- Count the entries that are in force, up to a number.
SELECT CAST(count(*) AS integer) AS entries
FROM (SELECT FROM mailglass.suppressions s WHERE (s.expires_at <= now()) IS NOT TRUE
      LIMIT CAST(%(size)s AS integer)) n
