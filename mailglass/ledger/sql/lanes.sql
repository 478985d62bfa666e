-- Lanes: find those with due work, ring for it, and share out the turns of looking.

-- name: lanes_ready
-- List the lanes that have due work, a page after a lane. It takes one index probe for each, however long its backlog
-- is, and none for lanes whose mail is due later.
WITH RECURSIVE lane AS (
    (SELECT d.tenant_id, d.queue, d.stream FROM mailglass.deliveries d
     WHERE d.due_at IS NOT NULL AND NOT d.waiting
       AND (d.tenant_id, d.queue, d.stream)
           > (CAST(%(tenant)s AS text), CAST(%(queue)s AS text), CAST(%(stream)s AS text))
     ORDER BY d.tenant_id, d.queue, d.stream LIMIT 1)
    UNION ALL
    SELECT n.tenant_id, n.queue, n.stream FROM lane l CROSS JOIN LATERAL (
        SELECT d.tenant_id, d.queue, d.stream FROM mailglass.deliveries d
        WHERE d.due_at IS NOT NULL AND NOT d.waiting
          AND (d.tenant_id, d.queue, d.stream) > (l.tenant_id, l.queue, l.stream)
        ORDER BY d.tenant_id, d.queue, d.stream LIMIT 1) n
)
SELECT queue, tenant_id, stream FROM lane LIMIT %(size)s

-- name: lanes_woken
-- List the lanes of mail that was put off and is due by now. It takes one index probe for each moment of each lane, up
-- to a number. Moments before a mark are not walked over again. Its own moment is answered in any case. See
-- mailglass.ledger.low_water.
WITH RECURSIVE woken AS (
    (SELECT d.due_at, d.tenant_id, d.queue, d.stream FROM mailglass.deliveries d
     WHERE d.due_at <= now() AND d.due_at >= CAST(%(after)s AS timestamptz) AND d.waiting
     ORDER BY d.due_at, d.tenant_id, d.queue, d.stream LIMIT 1)
    UNION ALL
    SELECT n.due_at, n.tenant_id, n.queue, n.stream FROM woken w CROSS JOIN LATERAL (
        SELECT d.due_at, d.tenant_id, d.queue, d.stream FROM mailglass.deliveries d
        WHERE d.due_at <= now() AND d.waiting
          AND (d.due_at, d.tenant_id, d.queue, d.stream) > (w.due_at, w.tenant_id, w.queue, w.stream)
        ORDER BY d.due_at, d.tenant_id, d.queue, d.stream LIMIT 1) n
)
SELECT f.queue, f.tenant_id, f.stream, count(f.due_at) AS moments, min(f.due_at) AS first, n.looked_at
FROM (SELECT now() AS looked_at) n LEFT JOIN (SELECT * FROM woken LIMIT %(size)s) f ON true
GROUP BY f.queue, f.tenant_id, f.stream, n.looked_at

-- name: ready
-- Count mail that was put off and is due by now as due, the longest due first, and list its lanes. Nothing else of it
-- changes.
WITH woken AS MATERIALIZED (
    SELECT d.id FROM mailglass.deliveries d
    WHERE d.due_at <= now() AND d.due_at >= CAST(%(after)s AS timestamptz) AND d.waiting
    ORDER BY d.due_at LIMIT %(size)s FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE mailglass.deliveries d SET waiting = false FROM woken w WHERE d.id = w.id
    RETURNING d.queue, d.tenant_id, d.stream
)
SELECT DISTINCT queue, tenant_id, stream FROM moved

-- name: take_turn
-- Take the turn at a name, or keep it, for a time. It answers whether it was taken, and the seconds until it may be. A
-- turn is free once its time is over, whatever became of its holder. One whose time ends minutes from now is free too,
-- since no process takes it for that long: the clock was set back, as by a failover. An eager process also takes a turn
-- that was given up and rests. One that is not free is only read.
WITH taken AS (
    INSERT INTO mailglass.turns AS t (name, holder, until)
    SELECT %(name)s, CAST(%(holder)s AS uuid), clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE NOT EXISTS (
        SELECT FROM mailglass.turns k
        WHERE k.name = %(name)s AND k.until > clock_timestamp() AND k.until < clock_timestamp() + interval '2 minutes'
          AND k.holder IS DISTINCT FROM CAST(%(holder)s AS uuid)
          AND NOT (%(eager)s AND k.holder IS NULL))
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE t.until <= clock_timestamp() OR t.until >= clock_timestamp() + interval '2 minutes'
       OR t.holder = excluded.holder OR (%(eager)s AND t.holder IS NULL)
    RETURNING 1
)
SELECT EXISTS (SELECT FROM taken) AS taken, GREATEST(0, COALESCE((
    SELECT CAST(extract(epoch FROM k.until - clock_timestamp()) AS double precision)
    FROM mailglass.turns k WHERE k.name = %(name)s), 0)) AS seconds

-- name: end_turn
-- End a turn that this process holds. Only an eager process takes it before its rest is over.
UPDATE mailglass.turns SET holder = NULL, until = clock_timestamp() + make_interval(secs => %(rest)s)
WHERE name = %(name)s AND holder = CAST(%(holder)s AS uuid)

-- name: ring
-- Set the doorbell marks that are free, where there is no Redis, and answer which were set. Free are marks older than
-- the ring timeout, and those of a clock that went ahead of this one, as before a failover. A mark that is set is only
-- read: to lock it would line up all producers of a lane behind each other's commits.
INSERT INTO mailglass.doorbells AS b (name, rung_at)
SELECT n, clock_timestamp() FROM unnest(CAST(%(names)s AS text[])) AS n
WHERE NOT EXISTS (
    SELECT FROM mailglass.doorbells d
    WHERE d.name = n AND d.rung_at >= clock_timestamp() - make_interval(secs => %(ring_timeout)s)
      AND d.rung_at < clock_timestamp() + interval '1 minute')
ORDER BY n
ON CONFLICT (name) DO UPDATE SET rung_at = excluded.rung_at
WHERE b.rung_at < clock_timestamp() - make_interval(secs => %(ring_timeout)s)
   OR b.rung_at >= clock_timestamp() + interval '1 minute'
RETURNING name

-- name: bell_ages
-- Read for how many seconds marks have been set. A mark of a clock that went ahead counts an hour.
SELECT d.name, CASE WHEN d.rung_at >= clock_timestamp() + interval '1 minute' THEN CAST(3600 AS double precision)
    ELSE CAST(extract(epoch FROM clock_timestamp() - d.rung_at) AS double precision) END AS age
FROM mailglass.doorbells d WHERE d.name = ANY (CAST(%(names)s AS text[])) AND d.rung_at > '-infinity'

-- name: clear_bells
-- Clear marks, before the claim. Their rows stay: while something holds the vacuum horizon, each row that is deleted
-- and inserted again leaves an index entry more to walk over, and an update in its place leaves none.
UPDATE mailglass.doorbells SET rung_at = '-infinity' WHERE name = ANY (CAST(%(names)s AS text[]))
