-- Deliveries: read them and move them by hand, with the audit of who did so.

-- name: delivery
-- One delivery, for the application's eyes.
SELECT * FROM mailglass.deliveries WHERE id = CAST(%(id)s AS uuid)

-- name: delivery_states
-- Where these deliveries stand, of one tenant or of all.
SELECT id, status, last_error, in_doubt FROM mailglass.deliveries WHERE id = ANY (CAST(%(ids)s AS uuid[]))
  AND (CAST(%(tenant)s AS text) IS NULL OR tenant_id = CAST(%(tenant)s AS text))

-- name: timeline
-- What happened to one delivery, in the order it was recorded.
SELECT * FROM mailglass.events WHERE delivery_id = CAST(%(id)s AS uuid) ORDER BY recorded_at, id

-- name: counts
-- Deliveries by tenant and status.
SELECT tenant_id, status, count(*) AS count FROM mailglass.deliveries GROUP BY tenant_id, status

-- name: cancel
-- Take deliveries back that nobody has claimed, or that are held for a person; where an actor is given, with an entry
-- in the audit. What may have been sent is left, and answered as such. In the order of their keys, so that two
-- statements never wait for each other in a circle. Run again after its answer was lost, it finds its own events.
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(event_ids)s AS uuid[])) AS w (id, event_id)
), doubtful AS MATERIALIZED (
    SELECT d.id FROM wanted w JOIN mailglass.deliveries d ON d.id = w.id
    WHERE d.tenant_id = %(tenant)s AND d.in_doubt
), picked AS MATERIALIZED (
    SELECT d.id, w.event_id FROM wanted w JOIN mailglass.deliveries d ON d.id = w.id
    WHERE d.tenant_id = %(tenant)s AND d.status IN ('queued', 'held') AND NOT d.in_doubt
    ORDER BY d.id FOR UPDATE OF d
), moved AS (
    UPDATE mailglass.deliveries d
    SET status = 'canceled', due_at = NULL, lease_expires_at = NULL, awaits_account = NULL
    FROM picked p WHERE d.id = p.id
    RETURNING d.id, d.tenant_id, p.event_id
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status)
    SELECT event_id, id, tenant_id, 'canceled', 'operator', now(), 'canceled' FROM moved
), audited AS (
    INSERT INTO mailglass.audit (id, actor, action, tenant_id, detail)
    SELECT a.*
    FROM (SELECT array_agg(tenant_id) AS tenants FROM moved) m
    CROSS JOIN LATERAL mailglass.audit_entry(
        CAST(%(audit_id)s AS uuid), CAST(%(actor)s AS text), 'deliveries.cancel', m.tenants, CAST(%(detail)s AS jsonb),
        jsonb_build_object('left_in_doubt', NULLIF((SELECT count(*) FROM doubtful), 0))) a
)
SELECT id, false AS in_doubt FROM moved
UNION ALL
SELECT id, false FROM mailglass.moved_by(CAST(%(event_ids)s AS uuid[]))
UNION ALL
SELECT id, true FROM doubtful

-- name: release
-- Let held deliveries go again, now; where an actor is given, with an entry in the audit. Somebody wants them sent, so
-- their age counts from here. What is in doubt stays so, and its event says that it is sent again. The accounts that
-- attempted them last are tried at once, and where one was never attempted, all that could be its own. Run again after
-- its answer was lost, it finds its own events.
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(event_ids)s AS uuid[])) AS w (id, event_id)
), picked AS MATERIALIZED (
    SELECT d.id, w.event_id FROM wanted w JOIN mailglass.deliveries d ON d.id = w.id
    WHERE d.status = 'held' ORDER BY d.id FOR UPDATE OF d
), moved AS (
    UPDATE mailglass.deliveries d
    SET status = 'queued', due_at = now(), scheduled_at = now(), attempts = 0, ask_again = false,
        awaits_account = NULL
    FROM picked p WHERE d.id = p.id
    RETURNING d.id, d.tenant_id, d.queue, d.stream, d.account, d.in_doubt, p.event_id
), tried AS (
    UPDATE mailglass.breakers b SET open_until = LEAST(b.open_until, now()), probe_until = NULL, failed_delivery = NULL
    WHERE b.account IN (SELECT m.account FROM moved m) OR EXISTS (SELECT FROM moved m WHERE m.account IS NULL)
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status)
    SELECT event_id, id, tenant_id, CASE WHEN in_doubt THEN 'resent' ELSE 'released' END, 'operator', now(), 'queued'
    FROM moved
), audited AS (
    INSERT INTO mailglass.audit (id, actor, action, tenant_id, detail)
    SELECT a.*
    FROM (SELECT array_agg(tenant_id) AS tenants, count(*) FILTER (WHERE in_doubt) AS doubtful FROM moved) m
    CROSS JOIN LATERAL mailglass.audit_entry(
        CAST(%(audit_id)s AS uuid), CAST(%(actor)s AS text), 'deliveries.release', m.tenants, CAST(%(detail)s AS jsonb),
        jsonb_build_object('in_doubt', NULLIF(m.doubtful, 0))) a
)
SELECT id, queue, tenant_id, stream FROM moved
UNION ALL
SELECT id, queue, tenant_id, stream FROM mailglass.moved_by(CAST(%(event_ids)s AS uuid[]))

-- name: hold
-- Hold what is owed, because the ledger was restored and it may have been sent; where an actor is given, with an entry
-- in the audit. What a worker has at this moment is left to it. Run again after its answer was lost, it finds its own
-- events.
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(event_ids)s AS uuid[])) AS w (id, event_id)
), picked AS MATERIALIZED (
    SELECT d.id, w.event_id FROM wanted w JOIN mailglass.deliveries d ON d.id = w.id
    WHERE d.status IN ('queued', 'uncertain') OR (d.status IN ('claimed', 'sending') AND d.lease_expires_at <= now())
    ORDER BY d.id FOR UPDATE OF d
), moved AS (
    UPDATE mailglass.deliveries d
    SET status = 'held', in_doubt = true, ask_again = false, last_error = 'restored', due_at = NULL, lease_token = NULL,
        lease_expires_at = NULL, search_at = NULL, search_account = NULL, awaits_account = NULL
    FROM picked p WHERE d.id = p.id
    RETURNING d.id, d.tenant_id, d.account, p.event_id
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason, account)
    SELECT event_id, id, tenant_id, 'held', 'operator', now(), 'held', 'restored', account FROM moved
), audited AS (
    INSERT INTO mailglass.audit (id, actor, action, tenant_id, detail)
    SELECT a.*
    FROM (SELECT array_agg(tenant_id) AS tenants FROM moved) m
    CROSS JOIN LATERAL mailglass.audit_entry(
        CAST(%(audit_id)s AS uuid), CAST(%(actor)s AS text), 'deliveries.hold', m.tenants, CAST(%(detail)s AS jsonb)) a
)
SELECT id FROM moved
UNION ALL
SELECT id FROM mailglass.moved_by(CAST(%(event_ids)s AS uuid[]))

-- name: reschedule
-- Make queued deliveries due at another moment, from which their age counts; where an actor is given, with an entry in
-- the audit. What would expire before, and what its account is to be asked about again, is left. An account that works
-- again wakes none of them before its moment. Run again after its answer was lost, it finds its own events.
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(event_ids)s AS uuid[])) AS w (id, event_id)
), picked AS MATERIALIZED (
    SELECT d.id, w.event_id FROM wanted w JOIN mailglass.deliveries d ON d.id = w.id
    WHERE d.tenant_id = %(tenant)s AND d.status = 'queued' AND NOT d.ask_again
      AND COALESCE(d.expires_at > CAST(%(moment)s AS timestamptz), true)
      AND NOT EXISTS (SELECT FROM mailglass.events e WHERE e.id = w.event_id)
    ORDER BY d.id FOR UPDATE OF d
), moved AS (
    UPDATE mailglass.deliveries d
    SET due_at = GREATEST(CAST(%(moment)s AS timestamptz), now()),
        scheduled_at = GREATEST(CAST(%(moment)s AS timestamptz), now()), awaits_account = NULL
    FROM picked p WHERE d.id = p.id
    RETURNING d.id, d.tenant_id, d.queue, d.stream, p.event_id
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status)
    SELECT event_id, id, tenant_id, 'rescheduled', 'operator', now(), 'queued' FROM moved
), audited AS (
    INSERT INTO mailglass.audit (id, actor, action, tenant_id, detail)
    SELECT a.*
    FROM (SELECT array_agg(tenant_id) AS tenants FROM moved) m
    CROSS JOIN LATERAL mailglass.audit_entry(
        CAST(%(audit_id)s AS uuid), CAST(%(actor)s AS text), 'deliveries.reschedule', m.tenants,
        CAST(%(detail)s AS jsonb)) a
)
SELECT id, queue, tenant_id, stream FROM moved
UNION ALL
SELECT id, queue, tenant_id, stream FROM mailglass.moved_by(CAST(%(event_ids)s AS uuid[]))

-- name: audit
-- Record who did what, or is about to.
INSERT INTO mailglass.audit (id, actor, action, tenant_id, detail)
VALUES (CAST(%(audit_id)s AS uuid), %(actor)s, %(action)s, CAST(%(tenant)s AS text),
        CAST(CAST(%(detail)s AS jsonb) || CASE WHEN CAST(%(count)s AS bigint) IS NULL THEN CAST('{}' AS jsonb)
                                           ELSE jsonb_build_object('count', CAST(%(count)s AS bigint)) END AS json))
ON CONFLICT DO NOTHING

-- name: audit_entries
-- The latest entries of the audit.
SELECT id, at, actor, action, tenant_id, CAST(detail AS text) AS detail FROM mailglass.audit ORDER BY id DESC
LIMIT %(size)s
