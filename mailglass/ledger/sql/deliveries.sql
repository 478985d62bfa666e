-- Deliveries: read them and move them by hand, with the audit of who did so.

-- name: delivery
-- Read one delivery.
SELECT * FROM mailglass.deliveries WHERE id = CAST(%(id)s AS uuid)

-- name: delivery_states
-- Read the states of these deliveries, of one tenant or of all.
SELECT id, status, last_error, in_doubt FROM mailglass.deliveries WHERE id = ANY (CAST(%(ids)s AS uuid[]))
  AND (CAST(%(tenant)s AS text) IS NULL OR tenant_id = CAST(%(tenant)s AS text))

-- name: timeline
-- Read the events of one delivery, in the order they were recorded.
SELECT * FROM mailglass.events WHERE delivery_id = CAST(%(id)s AS uuid) ORDER BY recorded_at, id

-- name: counts
-- Count deliveries by tenant and status.
SELECT tenant_id, status, count(*) AS count FROM mailglass.deliveries GROUP BY tenant_id, status

-- name: cancel
-- Cancel queued and held deliveries. Those that may have been sent are left, and answered as such. An actor gets an
-- entry in the audit. Rows are locked in the order of their keys, so that two statements never wait for each other in a
-- circle. Run again after its answer was lost, it finds its own events.
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
-- Queue held deliveries again, due now. Their age counts from here, and an actor gets an entry in the audit. A delivery
-- in doubt stays so, and its event says that it is sent again. The accounts that attempted them last are tried at once.
-- Where one was never attempted, that is every account. Run again after its answer was lost, it finds its own events.
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
-- Hold deliveries that are owed, because the ledger was restored and they may have been sent. Live leases are left to
-- their workers. An actor gets an entry in the audit. Run again after its answer was lost, it finds its own events.
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
-- Make queued deliveries due at another moment, from which their age counts. It leaves those that would expire before,
-- and those that their account is to be asked about again. An actor gets an entry in the audit. An account that works
-- again does not wake them before their moment. Run again after its answer was lost, it finds its own events.
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
-- Record an action of a person, before it with no count or after it with one.
INSERT INTO mailglass.audit (id, actor, action, tenant_id, detail)
VALUES (CAST(%(audit_id)s AS uuid), %(actor)s, %(action)s, CAST(%(tenant)s AS text),
        CAST(CAST(%(detail)s AS jsonb) || CASE WHEN CAST(%(count)s AS bigint) IS NULL THEN CAST('{}' AS jsonb)
                                           ELSE jsonb_build_object('count', CAST(%(count)s AS bigint)) END AS json))
ON CONFLICT DO NOTHING

-- name: audit_entries
-- List the latest entries of the audit.
SELECT id, at, actor, action, tenant_id, CAST(detail AS text) AS detail FROM mailglass.audit ORDER BY id DESC
LIMIT %(size)s
