-- Submit: record new deliveries.

-- name: submit
-- Record new deliveries with their content, refuse suppressed recipients, and answer for each whether it is new. A
-- delivery that is already there, by id or by its tenant's idempotency key, is left alone: `existing` finds it. The
-- first delivery of a call decides for its group. Where it is not new, the others are not recorded either. Moments that
-- the caller gave stay as they are. Relative ones count from `waited` seconds before this statement. A delivery that
-- would end before it is due is `late` by this clock, and not recorded. IN ... IS TRUE is looked up in a hash, where a
-- join would compare each with each.
WITH item AS (
    SELECT * FROM unnest(
        CAST(%(ids)s AS uuid[]), CAST(%(tenants)s AS text[]), CAST(%(groups)s AS uuid[]),
        CAST(%(messages)s AS uuid[]), CAST(%(streams)s AS text[]), CAST(%(queues)s AS text[]),
        CAST(%(mailables)s AS text[]), CAST(%(recipients)s AS text[]), CAST(%(names)s AS text[]),
        CAST(%(keys)s AS text[]), CAST(%(domains)s AS text[]), CAST(%(idempotency_keys)s AS text[]),
        CAST(%(digests)s AS text[]), CAST(%(priorities)s AS smallint[]), CAST(%(delays)s AS double precision[]),
        CAST(%(graces)s AS double precision[]), CAST(%(lifetimes)s AS double precision[]),
        CAST(%(start_moments)s AS timestamptz[]), CAST(%(end_moments)s AS timestamptz[]),
        CAST(%(followers)s AS boolean[]), CAST(%(event_ids)s AS uuid[])
    ) WITH ORDINALITY AS i (
        id, tenant_id, group_id, message_id, stream, queue, mailable, recipient, recipient_name, key, domain,
        idempotency_key, digest, priority, delay, grace, lifetime, start_moment, end_moment, follower, event_id,
        position)
), timed AS (
    SELECT i.*,
           GREATEST(i.start_moment, statement_timestamp()
                    + make_interval(secs => GREATEST(i.delay - CAST(%(waited)s AS double precision), 0))) AS starts_at,
           COALESCE(i.end_moment, statement_timestamp()
                    + make_interval(secs => i.lifetime - CAST(%(waited)s AS double precision))) AS ends_at
    FROM item i
), checked AS (
    SELECT i.*, s.scope,
           COALESCE(i.ends_at <= i.starts_at AND COALESCE(i.start_moment, i.end_moment) IS NOT NULL, false) AS late,
           CASE WHEN s.scope IS NULL THEN 'queued' ELSE 'suppressed' END AS status
    FROM timed i CROSS JOIN LATERAL (
        SELECT min(b.scope) AS scope FROM mailglass.suppressions_of(i.tenant_id, i.stream, i.key, i.domain) b) s
), led AS (
    INSERT INTO mailglass.deliveries (
        id, tenant_id, group_id, message_id, stream, queue, mailable, status, recipient, recipient_name,
        recipient_domain, idempotency_key, idempotency_digest, priority, due_at, scheduled_at, expires_at, created_at,
        last_error)
    SELECT id, tenant_id, group_id, message_id, stream, queue, mailable, status, recipient, recipient_name,
           domain, idempotency_key, digest, priority,
           CASE WHEN scope IS NULL THEN starts_at + make_interval(secs => COALESCE(grace, 0)) END, starts_at, ends_at,
           statement_timestamp(), 'suppressed_' || scope
    FROM checked WHERE NOT late AND follower IS NOT TRUE
    -- two statements with the same keys wait for each other in one order
    ORDER BY idempotency_key COLLATE "C", tenant_id COLLATE "C", position
    ON CONFLICT DO NOTHING
    RETURNING id, group_id, message_id, status
), followed AS (
    INSERT INTO mailglass.deliveries (
        id, tenant_id, group_id, message_id, stream, queue, mailable, status, recipient, recipient_name,
        recipient_domain, idempotency_key, idempotency_digest, priority, due_at, scheduled_at, expires_at, created_at,
        last_error)
    SELECT id, tenant_id, group_id, message_id, stream, queue, mailable, status, recipient, recipient_name,
           domain, idempotency_key, digest, priority,
           CASE WHEN scope IS NULL THEN starts_at + make_interval(secs => COALESCE(grace, 0)) END, starts_at, ends_at,
           statement_timestamp(), 'suppressed_' || scope
    FROM checked WHERE follower AND (group_id IN (SELECT l.group_id FROM led l)) IS TRUE
    RETURNING id, group_id, message_id, status
), added AS (
    SELECT * FROM led UNION ALL SELECT * FROM followed
), content AS (
    INSERT INTO mailglass.messages (id, content, frozen)
    SELECT m.id, CAST(m.content AS json), m.frozen
    FROM unnest(CAST(%(content_ids)s AS uuid[]), CAST(%(contents)s AS text[]), CAST(%(frozen)s AS boolean[]))
         AS m (id, content, frozen)
    WHERE (m.id IN (SELECT a.message_id FROM added a WHERE a.status = 'queued')) IS TRUE
    ON CONFLICT DO NOTHING
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason)
    SELECT c.event_id, c.id, c.tenant_id, c.status, 'engine', statement_timestamp(), c.status, 'suppressed_' || c.scope
    FROM checked c WHERE (c.id IN (SELECT a.id FROM added a)) IS TRUE
)
SELECT c.position, c.scope, c.id IN (SELECT a.id FROM added a) AS new, c.late FROM checked c

-- name: submit_one
-- Record one delivery, as `submit` does for many. Without arrays it takes three quarters of the time.
WITH blocked AS MATERIALIZED (
    SELECT min(b.scope) AS scope,
           GREATEST(CAST(%(start_moment)s AS timestamptz), statement_timestamp() + make_interval(secs => GREATEST(
               CAST(%(delay)s AS double precision) - CAST(%(waited)s AS double precision), 0))) AS starts_at,
           COALESCE(CAST(%(end_moment)s AS timestamptz), statement_timestamp() + make_interval(secs =>
               CAST(%(lifetime)s AS double precision) - CAST(%(waited)s AS double precision))) AS ends_at,
           COALESCE(CAST(%(start_moment)s AS timestamptz), CAST(%(end_moment)s AS timestamptz)) IS NOT NULL AS absolute
    FROM mailglass.suppressions_of(
        CAST(%(tenant)s AS text), CAST(%(stream)s AS text), CAST(%(key)s AS text), CAST(%(domain)s AS text)) b
), added AS (
    INSERT INTO mailglass.deliveries (
        id, tenant_id, group_id, message_id, stream, queue, mailable, status, recipient, recipient_name,
        recipient_domain, idempotency_key, idempotency_digest, priority, due_at, scheduled_at, expires_at, created_at,
        last_error)
    SELECT CAST(%(id)s AS uuid), CAST(%(tenant)s AS text), CAST(%(group)s AS uuid), CAST(%(message)s AS uuid),
           CAST(%(stream)s AS text), CAST(%(queue)s AS text), CAST(%(mailable)s AS text),
           CASE WHEN scope IS NULL THEN 'queued' ELSE 'suppressed' END,
           CAST(%(recipient)s AS text), CAST(%(name)s AS text), CAST(%(domain)s AS text),
           CAST(%(idempotency_key)s AS text), CAST(%(digest)s AS text), CAST(%(priority)s AS smallint),
           CASE WHEN scope IS NULL THEN starts_at + make_interval(secs => CAST(%(grace)s AS double precision)) END,
           starts_at, ends_at,
           statement_timestamp() - make_interval(secs => CAST(%(waited)s AS double precision)), 'suppressed_' || scope
    FROM blocked WHERE (absolute AND ends_at <= starts_at) IS NOT TRUE
    ON CONFLICT DO NOTHING
    RETURNING id, tenant_id, message_id, status, last_error
), content AS (
    INSERT INTO mailglass.messages (id, content, frozen)
    SELECT message_id, CAST(%(content)s AS json), CAST(%(frozen)s AS boolean) FROM added WHERE status = 'queued'
    ON CONFLICT DO NOTHING
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason)
    SELECT CAST(%(event_id)s AS uuid), id, tenant_id, status, 'engine', statement_timestamp(), status, last_error
    FROM added
)
SELECT 1 AS position, scope, EXISTS (SELECT FROM added) AS new,
       COALESCE(absolute AND ends_at <= starts_at, false) AS late
FROM blocked

-- name: existing
-- Find the deliveries that stand where new ones were not recorded. The tenant's idempotency key counts first, then the
-- id.
SELECT w.position, d.id, d.status, d.idempotency_digest AS digest
FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(tenants)s AS text[]), CAST(%(idempotency_keys)s AS text[]))
     WITH ORDINALITY AS w (id, tenant_id, idempotency_key, position)
CROSS JOIN LATERAL (
    SELECT k.id, k.status, k.idempotency_digest FROM mailglass.deliveries k
    WHERE k.tenant_id = w.tenant_id AND k.idempotency_key = w.idempotency_key
    UNION ALL
    SELECT k.id, k.status, k.idempotency_digest FROM mailglass.deliveries k WHERE k.id = w.id
    LIMIT 1) d
