-- Preflight: what the checks of a deployment read.

-- name: server_facts
-- Read the database server's room for connections, those in use, those of this role, and its clock.
SELECT CAST(current_setting('max_connections') AS integer)
           - CAST(current_setting('superuser_reserved_connections') AS integer) AS room,
       CAST(count(*) AS integer) AS used,
       CAST(count(*) FILTER (WHERE a.usename = current_user AND a.datname = current_database()) AS integer) AS ours,
       clock_timestamp() AS now
FROM pg_stat_activity a WHERE a.datid IS NOT NULL

-- name: ledger_triggers
-- List the enabled triggers that hold the ledger's promises, by name.
SELECT t.tgname AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'mailglass' AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')

-- name: turn_ends
-- Read the seconds until a held turn ends. There is no row where no process holds it.
SELECT CAST(extract(epoch FROM t.until - clock_timestamp()) AS double precision) AS seconds FROM mailglass.turns t
WHERE t.name = %(name)s AND t.holder IS NOT NULL AND t.until > clock_timestamp()

-- name: overdue_lanes
-- List the lanes whose oldest due delivery has waited for longer than a time, the oldest first. It takes one index
-- probe for each priority, however long a backlog is.
SELECT l.queue, l.tenant_id, l.stream,
       CAST(extract(epoch FROM now() - o.due_at) AS double precision) AS seconds
FROM unnest(CAST(%(queues)s AS text[]), CAST(%(tenants)s AS text[]), CAST(%(streams)s AS text[]))
     AS l (queue, tenant_id, stream)
CROSS JOIN LATERAL (
    SELECT min(f.due_at) AS due_at FROM generate_series(0, 9) AS p (priority) CROSS JOIN LATERAL (
        SELECT d.due_at FROM mailglass.deliveries d
        WHERE d.queue = l.queue AND d.tenant_id = l.tenant_id AND d.stream = l.stream
          AND d.priority = p.priority AND d.due_at IS NOT NULL
        ORDER BY d.due_at LIMIT 1) f) o
WHERE o.due_at < now() - make_interval(secs => %(age)s)
ORDER BY o.due_at

-- name: stuck_work
-- Count work that should have moved by itself: leases that ended and were not swept, webhooks that wait or are dead.
SELECT (SELECT count(*) FROM (
            SELECT FROM mailglass.deliveries d
            WHERE d.lease_expires_at < now() - make_interval(secs => %(age)s) LIMIT 1000) s) AS leases,
       (SELECT CAST(extract(epoch FROM now() - w.received_at) AS double precision) FROM mailglass.webhook_events w
        WHERE w.status = 'received' ORDER BY w.id LIMIT 1) AS oldest_webhook
