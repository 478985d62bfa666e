-- The ledger's statements, each with a name and a sentence. Parameters are psycopg's; arrays are aligned by position.
-- Every one is a transaction by itself, and may be run twice without harm.

-- name: submit
-- Record new deliveries with their content, refuse suppressed recipients, and answer for each whether it is new.
-- One that is already there, by id or by its tenant's idempotency key, is left alone: `standing` finds it. The first
-- delivery of a call decides for all of them: where it is not new, the others of its group are not recorded either.
-- Absolute moments stay as they were given, relative ones count from `waited` seconds before this statement was sent.
-- What an absolute moment makes end before it is due is `late`, by this clock, and not recorded.
-- (IN ... IS TRUE: looked up in a hash, where a join would compare each with each.)
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
    SELECT i.*, COALESCE(i.ends_at <= i.starts_at AND COALESCE(i.start_moment, i.end_moment) IS NOT NULL, false) AS late,
           s.scope, CASE WHEN s.scope IS NULL THEN 'queued' ELSE 'suppressed' END AS status
    FROM timed i LEFT JOIN LATERAL (
        SELECT b.scope FROM mailglass.suppressions b
        WHERE b.value IN (i.key, i.domain) AND b.tenant_id IN (i.tenant_id, '*')
          AND (b.scope = 'domain') = (b.value = i.domain) AND b.stream IN ('', i.stream)
          AND (b.expires_at IS NULL OR b.expires_at > now())
        ORDER BY b.scope LIMIT 1) s ON true
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
-- As `submit`, for one delivery: without arrays it takes three quarters of the time.
WITH blocked AS MATERIALIZED (
    SELECT min(b.scope) AS scope,
           GREATEST(CAST(%(start_moment)s AS timestamptz), statement_timestamp() + make_interval(secs => GREATEST(
               CAST(%(delay)s AS double precision) - CAST(%(waited)s AS double precision), 0))) AS starts_at,
           COALESCE(CAST(%(end_moment)s AS timestamptz), statement_timestamp() + make_interval(secs =>
               CAST(%(lifetime)s AS double precision) - CAST(%(waited)s AS double precision))) AS ends_at,
           COALESCE(CAST(%(start_moment)s AS timestamptz), CAST(%(end_moment)s AS timestamptz)) IS NOT NULL AS absolute
    FROM mailglass.suppressions b
    WHERE b.value IN (CAST(%(key)s AS text), CAST(%(domain)s AS text))
      AND b.tenant_id IN (CAST(%(tenant)s AS text), '*')
      AND (b.scope = 'domain') = (b.value = CAST(%(domain)s AS text))
      AND b.stream IN ('', CAST(%(stream)s AS text)) AND (b.expires_at IS NULL OR b.expires_at > now())
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
    SELECT CAST(%(event_id)s AS uuid), id, tenant_id, status, 'engine', statement_timestamp(), status, last_error FROM added
)
SELECT 1 AS position, scope, EXISTS (SELECT FROM added) AS new, COALESCE(absolute AND ends_at <= starts_at, false) AS late
FROM blocked

-- name: standing
-- The deliveries that stand where new ones were not recorded: under the tenant's idempotency key, else by the id.
SELECT w.position, d.id, d.status, d.idempotency_digest AS digest
FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(tenants)s AS text[]), CAST(%(idempotency_keys)s AS text[]))
     WITH ORDINALITY AS w (id, tenant_id, idempotency_key, position)
CROSS JOIN LATERAL (
    SELECT k.id, k.status, k.idempotency_digest FROM mailglass.deliveries k
    WHERE k.tenant_id = w.tenant_id AND k.idempotency_key = w.idempotency_key
    UNION ALL
    SELECT k.id, k.status, k.idempotency_digest FROM mailglass.deliveries k WHERE k.id = w.id
    LIMIT 1) d

-- name: has_ledger
-- Whether there is a ledger in the database of this connection, and the database's name.
SELECT to_regclass('mailglass.ledger_identity') IS NOT NULL AS there, current_database() AS database

-- name: ledger_identity
-- Which ledger it is. A copy of the database on the same server has another name.
SELECT id, current_database() AS database FROM mailglass.ledger_identity

-- name: claim
-- Lease due deliveries of one lane, most urgent first, with their content and a second look at the suppressions: up to
-- a number and a size, at least one; answer also whether the size left some behind. Content counts twice what it takes
-- in the table, where text is packed and attachments hardly are: unpacked only to be measured, it would cost as much as
-- it does to claim. Each priority is its own index range, so deliveries that are not due yet are never walked over. Run
-- again after its answer was lost, it answers what it had leased. The commit waits for no disk: a claim that gets lost
-- with the server leaves its deliveries queued, and its mark then finds no lease.
-- What was in a claim that ended without a verdict is claimed apart from the rest: at most eight that were in one, and
-- alone what was in several. Whose turn it is where both are due is given, so that neither waits for the other's end.
-- Of a paused lane nothing is leased.
-- Each priority is walked from a mark on, below which nothing was left: while something holds the vacuum horizon, what
-- was drained before it stays in the index. Not so where one of these writers has ended, which may have left something
-- below. Answers in its first row, also where nothing is leased, its moment, its snapshot, and whether all that was due
-- was seen; see mailglass.ledger.low_water.
WITH unhurried AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), from_start AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM unnest(CAST(%(writers)s AS xid8[])) AS w (id)
                   WHERE pg_visible_in_snapshot(w.id, pg_current_snapshot())) AS needed
), held AS MATERIALIZED (
    SELECT d.id, d.message_id, row_number() OVER () AS position FROM mailglass.deliveries d
    WHERE %(again)s AND d.lease_expires_at IS NOT NULL AND d.lease_token = CAST(%(token)s AS uuid)
      AND d.status = 'claimed'
), suspect AS MATERIALIZED (
    SELECT q.id, q.message_id, q.crashes > 1 AS lone, row_number() OVER () AS position
    FROM (
        SELECT d.id, d.message_id, d.crashes FROM mailglass.deliveries d
        WHERE d.queue = %(queue)s AND d.tenant_id = %(tenant)s AND d.stream = %(stream)s
          AND d.crashes > 0 AND d.due_at <= now()
        ORDER BY (d.crashes > 1), d.priority DESC, d.due_at LIMIT LEAST(8, %(size)s) FOR UPDATE SKIP LOCKED) q
    WHERE NOT EXISTS (SELECT FROM mailglass.pauses z
                      WHERE z.tenant_id = %(tenant)s AND z.stream IN ('', %(stream)s) AND z.account = '')
    LIMIT CASE WHEN CAST(%(cap)s AS integer) IS NULL THEN 8
               ELSE LEAST(8, mailglass.room_for(%(tenant)s, CAST(%(cap)s AS integer))) END
), due AS MATERIALIZED (
    SELECT q.id, q.message_id, q.due_at, row_number() OVER () AS position
    FROM unnest(CAST(%(marks)s AS timestamptz[]), CAST(%(mark_ids)s AS uuid[])) WITH ORDINALITY
         AS p (due_at, id, place) CROSS JOIN LATERAL (
        SELECT d.id, d.message_id, d.due_at FROM mailglass.deliveries d
        WHERE d.queue = %(queue)s AND d.tenant_id = %(tenant)s AND d.stream = %(stream)s
          AND d.priority = CAST(10 - p.place AS smallint) AND d.due_at <= now() AND d.crashes = 0
          AND (d.due_at, d.id) > (CASE WHEN (SELECT needed FROM from_start) THEN '-infinity' ELSE p.due_at END, p.id)
        ORDER BY d.due_at, d.id LIMIT %(size)s FOR UPDATE SKIP LOCKED) q
    WHERE NOT EXISTS (SELECT FROM held) AND NOT (%(suspects_first)s AND EXISTS (SELECT FROM suspect))
      AND NOT EXISTS (SELECT FROM mailglass.pauses z
                      WHERE z.tenant_id = %(tenant)s AND z.stream IN ('', %(stream)s) AND z.account = '')
    LIMIT CASE WHEN CAST(%(cap)s AS integer) IS NULL THEN %(size)s
               ELSE LEAST(%(size)s, mailglass.room_for(%(tenant)s, CAST(%(cap)s AS integer))) END
), wanted AS (
    SELECT h.id, h.message_id, CAST(NULL AS timestamptz) AS due_at, h.position FROM held h
    UNION ALL
    SELECT d.id, d.message_id, d.due_at, d.position FROM due d
    UNION ALL
    SELECT s.id, s.message_id, NULL, s.position FROM suspect s
    WHERE NOT EXISTS (SELECT FROM held) AND NOT EXISTS (SELECT FROM due) AND (s.position = 1 OR NOT s.lone)
), measured AS (
    SELECT w.id, w.position, w.due_at, sum(2 * pg_column_size(m.content)) OVER up_to_here AS bytes
    FROM wanted w LEFT JOIN mailglass.messages m ON m.id = w.message_id
    WINDOW up_to_here AS (ORDER BY w.position ROWS UNBOUNDED PRECEDING)
), claimed AS (
    UPDATE mailglass.deliveries d
    SET status = 'claimed', due_at = NULL, lease_token = CAST(%(token)s AS uuid),
        lease_expires_at = now() + make_interval(secs => %(lease)s),
        claimed_alone = NOT EXISTS (SELECT FROM wanted w WHERE w.position > 1)
    FROM measured p WHERE d.id = p.id AND d.status IN ('queued', 'claimed')
      AND (p.position = 1 OR COALESCE(p.bytes, 0) <= %(max_bytes)s)
    RETURNING d.id, d.message_id, d.recipient, d.recipient_name, d.recipient_domain, d.account, d.attempts,
              d.scheduled_at, d.expires_at, d.priority, d.in_doubt, d.ask_again, d.awaits_account, d.deferrals,
              d.refusal, p.due_at
)
SELECT c.id, c.message_id, c.recipient, c.recipient_name, c.account, c.attempts, c.scheduled_at, c.priority,
       COALESCE(c.expires_at <= now(), false) AS expired,
       date_part('epoch', now() - c.scheduled_at) AS age, date_part('epoch', c.expires_at - now()) AS lifetime,
       CAST(m.content AS text) AS content, COALESCE(m.frozen, false) AS frozen, s.scope, c.in_doubt, c.ask_again,
       c.awaits_account, c.deferrals, c.refusal,
       -- others may be due after suspects, and suspects after others
       (SELECT count(*) FROM due) > (SELECT count(*) FROM claimed) OR EXISTS (SELECT FROM suspect) AS left_behind,
       c.due_at, now() AS looked_at, CAST(pg_current_snapshot() AS text) AS snapshot,
       CAST(pg_current_xact_id_if_assigned() AS text) AS own_writer,
       (SELECT needed FROM from_start) AS from_start,
       CAST(%(cap)s AS integer) IS NULL AND NOT EXISTS (SELECT FROM held)
           AND NOT (%(suspects_first)s AND EXISTS (SELECT FROM suspect))
           AND NOT EXISTS (SELECT FROM mailglass.pauses z
                           WHERE z.tenant_id = %(tenant)s AND z.stream IN ('', %(stream)s) AND z.account = '')
           AND (SELECT count(*) FROM due) < %(size)s
           AND (SELECT count(*) FROM due) <= (SELECT count(*) FROM claimed) AS saw_all
FROM unhurried
LEFT JOIN claimed c ON true
LEFT JOIN mailglass.messages m ON m.id = c.message_id
LEFT JOIN LATERAL (
    SELECT b.scope FROM mailglass.suppressions b
    WHERE b.value IN (lower(c.recipient COLLATE "C"), c.recipient_domain) AND b.tenant_id IN (%(tenant)s, '*')
      AND (b.scope = 'domain') = (b.value = c.recipient_domain) AND b.stream IN ('', %(stream)s)
      AND (b.expires_at IS NULL OR b.expires_at > now())
    ORDER BY b.scope LIMIT 1) s ON true

-- name: claim_these
-- Lease these deliveries whatever their due time, if nobody else has: for sending in the caller's own process.
-- Run again after its answer was lost, it answers what it had leased.
WITH picked AS MATERIALIZED (
    SELECT d.id FROM mailglass.deliveries d
    WHERE d.id = ANY (CAST(%(ids)s AS uuid[]))
      AND (d.status = 'queued' OR (d.status = 'claimed' AND d.lease_token = CAST(%(token)s AS uuid)))
      AND NOT EXISTS (SELECT FROM mailglass.pauses z
                      WHERE z.tenant_id = d.tenant_id AND z.stream IN ('', d.stream) AND z.account = '')
    FOR UPDATE OF d SKIP LOCKED
), claimed AS (
    UPDATE mailglass.deliveries d
    SET status = 'claimed', due_at = NULL, lease_token = CAST(%(token)s AS uuid),
        lease_expires_at = now() + make_interval(secs => %(lease)s),
        claimed_alone = (SELECT count(*) = 1 FROM picked)
    FROM picked p WHERE d.id = p.id
    RETURNING d.id, d.message_id, d.recipient, d.recipient_name, d.account, d.attempts, d.scheduled_at, d.expires_at,
              d.priority, d.in_doubt, d.ask_again, d.awaits_account, d.deferrals, d.refusal
)
SELECT c.id, c.message_id, c.recipient, c.recipient_name, c.account, c.attempts, c.scheduled_at, c.priority,
       COALESCE(c.expires_at <= now(), false) AS expired,
       date_part('epoch', now() - c.scheduled_at) AS age, date_part('epoch', c.expires_at - now()) AS lifetime,
       CAST(m.content AS text) AS content, COALESCE(m.frozen, false) AS frozen, CAST(NULL AS text) AS scope,
       c.in_doubt, c.ask_again, c.awaits_account, c.deferrals, c.refusal
FROM claimed c LEFT JOIN mailglass.messages m ON m.id = c.message_id

-- name: note_unplaced
-- Note that a worker knows no route for what it has claimed; answer for how many seconds no worker has known one.
UPDATE mailglass.deliveries SET unplaced_since = COALESCE(unplaced_since, now())
WHERE id = ANY (CAST(%(ids)s AS uuid[])) AND status = 'claimed'
RETURNING id, CAST(date_part('epoch', now() - unplaced_since) AS double precision) AS seconds

-- name: freeze
-- Keep rendered content before the first attempt, so that every attempt says the same. The first writer wins; one that
-- has waited for the first still sees the message as it was, which the answer tells: run again, it sees what stands.
WITH rendered AS (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(contents)s AS text[])) AS r (id, content)
), kept AS (
    UPDATE mailglass.messages m SET content = CAST(r.content AS json), frozen = true
    FROM rendered r WHERE m.id = r.id AND NOT m.frozen
    RETURNING m.id, m.content
)
SELECT r.id, CAST(COALESCE(k.content, m.content) AS text) AS content, k.id IS NOT NULL OR m.frozen AS frozen
FROM rendered r LEFT JOIN kept k ON k.id = r.id LEFT JOIN mailglass.messages m ON m.id = r.id

-- name: blocked_copies
-- Which of these cc and bcc addresses are suppressed.
SELECT a.key FROM unnest(CAST(%(keys)s AS text[]), CAST(%(domains)s AS text[])) AS a (key, domain)
WHERE EXISTS (
    SELECT 1 FROM mailglass.suppressions b
    WHERE b.value IN (a.key, a.domain) AND b.tenant_id IN (%(tenant)s, '*')
      AND (b.scope = 'domain') = (b.value = a.domain) AND b.stream IN ('', %(stream)s)
      AND (b.expires_at IS NULL OR b.expires_at > now()))

-- name: mark
-- Commit that the provider call for these is about to begin. Only a live lease of this token marks anything, and
-- nothing is marked that has expired by now: `expire` says so of it. (IS TRUE: found by their keys, and not by walking
-- over every lease that lives.)
UPDATE mailglass.deliveries d
SET status = 'sending', attempts = attempts + CASE status WHEN 'claimed' THEN 1 ELSE 0 END,
    account = %(account)s, provider = %(provider)s
FROM unnest(CAST(%(ids)s AS uuid[])) WITH ORDINALITY AS i (id, position)
WHERE d.id = i.id AND d.lease_token = CAST(%(token)s AS uuid)
  AND d.status IN ('claimed', 'sending') AND (d.lease_expires_at > now()) IS TRUE
  AND (d.status = 'sending' OR (d.expires_at <= now()) IS NOT TRUE)
RETURNING i.position, d.attempts

-- name: expire
-- Fail claimed deliveries that expired before their mark, with an event each. One that is to be asked about again may
-- have been sent: it is queued, for its next claim to decide as for any that is in doubt.
WITH expired AS MATERIALIZED (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(event_ids)s AS uuid[])) AS e (id, event_id)
), moved AS (
    UPDATE mailglass.deliveries d
    SET status = CASE WHEN d.ask_again THEN 'queued' ELSE 'failed' END, due_at = CASE WHEN d.ask_again THEN now() END,
        lease_token = NULL, lease_expires_at = NULL, crashes = 0, crashes_alone = 0, last_error = 'expired',
        awaits_account = CASE WHEN d.ask_again THEN d.awaits_account END
    FROM expired e
    WHERE d.id = e.id AND d.lease_token = CAST(%(token)s AS uuid) AND d.status = 'claimed' AND d.expires_at <= now()
    RETURNING d.id, d.tenant_id, d.status, d.account, d.attempts, e.event_id
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason, account, attempt)
    SELECT event_id, id, tenant_id, 'failed', 'engine', now(), 'failed', 'expired', account, attempts
    FROM moved WHERE status = 'failed'
)
SELECT id FROM moved WHERE status = 'failed'

-- name: record
-- Write down what became of leased deliveries, with one event each. Only the holder of the lease writes anything. Where
-- the provider has spoken of one before its answer was given up, or while another attempt failed, it is uncertain and
-- nothing is waited for: the sweep settles it as sent. (No EXISTS, which may be looked up in a hash of all events.)
-- What verdicts have in common is given once, and each says by its number which is its own. What may have been sent
-- stays in doubt until an answer ends that: by being sent, or by the answer to the very question; where another
-- account's answer is missing too, it is held. One that is to be asked about again stays so while it is queued,
-- whatever it waits for in between. Recipients that the provider refuses are suppressed in the same breath, as by
-- `suppress`; copies that it refused are events of the mail they are copies of.
WITH verdict AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(%(statuses)s AS text[]), CAST(%(kinds)s AS text[]), CAST(%(reasons)s AS text[]),
        CAST(%(outcomes)s AS text[]), CAST(%(doubts)s AS text[]), CAST(%(counted)s AS boolean[]),
        CAST(%(status_codes)s AS integer[]), CAST(%(enhanced)s AS text[]), CAST(%(durations)s AS integer[]),
        CAST(%(awaited)s AS text[]), CAST(%(refusals)s AS text[]), CAST(%(deferred)s AS boolean[])
    ) WITH ORDINALITY
        AS v (status, kind, reason, outcome, doubt, counted, status_code, enhanced, duration_ms, awaits, refusal,
              deferred, number)
), outcome AS MATERIALIZED (
    SELECT *, (v.status = 'uncertain' OR (
               v.kind IN ('attempted', 'failed') AND v.status <> 'sent')) AND COALESCE((
        SELECT true FROM mailglass.events e WHERE e.delivery_id = o.id AND e.source = 'provider'
          AND e.kind = ANY (CAST(%(evidence)s AS text[])) LIMIT 1), false) AS accepted,
        CASE WHEN v.doubt = 'answered' THEN COALESCE((
            SELECT mailglass.in_other_doubt(d.id, d.account, d.scheduled_at) FROM mailglass.deliveries d
            WHERE d.id = o.id AND d.in_doubt), false) ELSE false END AS in_other_doubt
    FROM unnest(
        CAST(%(ids)s AS uuid[]), CAST(%(event_ids)s AS uuid[]), CAST(%(delays)s AS double precision[]),
        CAST(%(provider_message_ids)s AS text[]), CAST(%(verdicts)s AS integer[])
    ) WITH ORDINALITY AS o (id, event_id, delay, provider_message_id, number, position)
    JOIN verdict v USING (number)
), told AS (
    SELECT id, position, event_id, delay, provider_message_id, kind, reason, outcome, doubt, counted, status_code,
           enhanced, duration_ms, awaits, refusal, deferred, accepted, in_other_doubt,
           -- waiting or given back unsent, it may end the next worker as well
           NOT (status = 'queued' AND kind IS DISTINCT FROM 'attempted') AS tells,
           CASE WHEN accepted THEN 'uncertain' WHEN in_other_doubt THEN 'held' ELSE status END AS status
    FROM outcome
), moved AS (
    UPDATE mailglass.deliveries d
    SET status = o.status,
        due_at = CASE WHEN o.status = 'queued' THEN now() + make_interval(secs => COALESCE(o.delay, 0)) END,
        lease_token = NULL,
        lease_expires_at = CASE
            WHEN o.status <> 'uncertain' THEN NULL
            WHEN o.accepted THEN now()
            ELSE now() + make_interval(secs => COALESCE(o.delay, 0)) END,
        search_at = CASE WHEN o.status = 'uncertain' THEN now() END,
        search_account = CASE WHEN o.status = 'uncertain' THEN d.account END,
        attempts = d.attempts - CASE WHEN d.status = 'sending' AND NOT o.counted THEN 1 ELSE 0 END,
        in_doubt = CASE
            WHEN o.status = 'sent' THEN false
            WHEN o.status = 'uncertain' OR o.doubt IN ('asked', 'open') THEN true
            WHEN o.doubt = 'answered' THEN o.in_other_doubt
            ELSE d.in_doubt END,
        ask_again = o.status = 'queued' AND CASE WHEN o.doubt IS NULL THEN d.ask_again ELSE o.doubt = 'asked' END,
        deferrals = d.deferrals + CASE WHEN o.deferred THEN 1 ELSE 0 END,
        refusal = CASE WHEN o.kind = 'attempted' THEN o.refusal ELSE d.refusal END,
        awaits_account = CASE WHEN o.status = 'queued' THEN o.awaits END,
        crashes = CASE WHEN o.tells THEN 0 ELSE d.crashes END,
        crashes_alone = CASE WHEN o.tells THEN 0 ELSE d.crashes_alone END,
        last_error = o.reason,
        unplaced_since = CASE WHEN o.status = 'queued' AND o.reason = %(unplaced)s THEN d.unplaced_since END,
        provider_message_id = COALESCE(o.provider_message_id, d.provider_message_id),
        sent_at = CASE WHEN o.status = 'sent' THEN LEAST(d.sent_at, now()) ELSE d.sent_at END
    FROM told o
    WHERE d.id = o.id AND d.lease_token = CAST(%(token)s AS uuid)
    RETURNING o.position, d.id, d.tenant_id, d.account, d.attempts, o.event_id, o.kind, o.status, o.outcome, o.reason,
              o.status_code, o.enhanced, o.duration_ms, o.refusal
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, outcome, reason,
                                  account, attempt, status_code, enhanced_status, duration_ms, refusal)
    SELECT event_id, id, tenant_id, kind, 'engine', now(), status, outcome, reason, account, attempts, status_code,
           enhanced, duration_ms, refusal
    FROM moved WHERE kind IS NOT NULL
), copied AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, reason, account, attempt,
                                  status_code, enhanced_status, bounce_class, refusal)
    SELECT c.event_id, m.id, m.tenant_id, 'copy_refused', 'engine', now(), 'copy', m.account, m.attempts,
           c.status_code, c.enhanced, c.bounce_class, c.refusal
    FROM unnest(CAST(%(copy_event_ids)s AS uuid[]), CAST(%(copy_ids)s AS uuid[]),
                CAST(%(copy_status_codes)s AS integer[]), CAST(%(copy_enhanced)s AS text[]),
                CAST(%(copy_classes)s AS text[]), CAST(%(copy_refusals)s AS text[]))
        AS c (event_id, id, status_code, enhanced, bounce_class, refusal)
    JOIN moved m ON m.id = c.id
), suppressed AS (
    INSERT INTO mailglass.suppressions AS s (id, tenant_id, scope, value, stream, reason, source, account, expires_at)
    SELECT n.id, n.tenant_id, n.scope, n.value, n.stream, n.reason, n.source, n.account, n.expires_at
    FROM unnest(CAST(%(refused_ids)s AS uuid[]), CAST(%(refused_tenants)s AS text[]),
                CAST(%(refused_scopes)s AS text[]), CAST(%(refused_values)s AS text[]),
                CAST(%(refused_streams)s AS text[]), CAST(%(refused_reasons)s AS text[]),
                CAST(%(refused_sources)s AS text[]), CAST(%(refused_accounts)s AS text[]),
                CAST(%(refused_expires)s AS timestamptz[]))
        AS n (id, tenant_id, scope, value, stream, reason, source, account, expires_at)
    ORDER BY n.value, n.tenant_id
    ON CONFLICT (value, tenant_id, scope, stream) DO UPDATE
    SET id = CASE WHEN s.expires_at IS NULL THEN s.id ELSE excluded.id END,
        reason = excluded.reason, source = excluded.source, account = excluded.account,
        expires_at = excluded.expires_at
    WHERE s.expires_at <= now() OR s.expires_at < COALESCE(excluded.expires_at, 'infinity')
)
SELECT position FROM moved

-- name: drop_copies
-- Keep content from which suppressed copies were taken, with an event for each: every later attempt says the same.
WITH dropped AS (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(event_ids)s AS uuid[]), CAST(%(messages)s AS uuid[]),
                         CAST(%(contents)s AS text[])) AS d (id, event_id, message_id, content)
), kept AS (
    UPDATE mailglass.messages m SET content = CAST(d.content AS json)
    FROM dropped d WHERE m.id = d.message_id AND m.content IS NOT NULL
)
INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, reason)
SELECT event_id, id, %(tenant)s, %(kind)s, 'engine', now(), 'suppressed_copy' FROM dropped
ON CONFLICT DO NOTHING

-- name: left_out
-- Note what of tags and metadata an account's requests do not carry, once for each delivery and account.
INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, reason, account)
SELECT l.event_id, l.id, %(tenant)s, %(kind)s, 'engine', now(), l.reason, %(account)s
FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(event_ids)s AS uuid[]), CAST(%(reasons)s AS text[]))
    AS l (id, event_id, reason)
ON CONFLICT DO NOTHING

-- name: orphans_waiting
-- Whether the webhook of a just learnt provider id came before the id.
SELECT EXISTS (SELECT 1 FROM mailglass.orphans)
   AND EXISTS (SELECT 1 FROM mailglass.orphans
               WHERE provider_message_id = ANY (CAST(%(provider_message_ids)s AS text[]))) AS waiting

-- name: sweep
-- Take expired leases back: a claim to queued, a sending to uncertain; settle the uncertain whose hold is over.
-- Evidence may have come while the delivery was still being sent: it settles as sent, whatever the policy. Nothing is
-- resent once the stream's attempts are used up: an account that loses every answer would mail for ever. A sending at
-- an account that takes the same delivery twice as once, and still remembers it, is queued to be asked about again
-- there. Claims that ended without a verdict are counted, and apart those of one delivery: after three of these it is
-- held, unless it looks as if whatever is claimed ends so. A crash may take along what its process had claimed beside;
-- so that these do not meet again, those that are claimed alone are due at moments that differ. Run again after its
-- answer was lost, it moves others, under ids that the first run has not used. Leases that ended before a mark are not
-- walked over again, see mailglass.ledger.low_water; answers its moment in any case.
WITH expired AS MATERIALIZED (
    SELECT d.id, d.status, d.stream, d.account, d.scheduled_at, d.expires_at, d.attempts,
           d.crashes_alone + 1 AS crashes_alone, d.claimed_alone, row_number() OVER () AS position
    FROM (
        SELECT id, status, stream, account, scheduled_at, expires_at, attempts, crashes_alone, claimed_alone
        FROM mailglass.deliveries
        WHERE lease_expires_at <= now() AND lease_expires_at >= CAST(%(after)s AS timestamptz)
        ORDER BY lease_expires_at LIMIT %(size)s FOR UPDATE SKIP LOCKED) d
), policy AS MATERIALIZED (
    SELECT * FROM unnest(CAST(%(streams)s AS text[]), CAST(%(policies)s AS text[]),
                         CAST(%(holds)s AS double precision[]), CAST(%(most)s AS integer[]))
        AS p (stream, policy, hold, most)
), remembering AS MATERIALIZED (
    SELECT * FROM unnest(CAST(%(accounts)s AS text[]), CAST(%(memories)s AS double precision[])) AS r (account, memory)
), known AS MATERIALIZED (
    SELECT e.id, e.position, e.status AS before, e.account, p.hold,
           p.policy = 'resend' AND e.attempts < p.most AS resends, e.attempts < p.most AS more,
           COALESCE(e.expires_at <= now(), false) AS expired,
           date_part('epoch', now() - e.scheduled_at) AS age, e.claimed_alone, e.crashes_alone,
           e.status <> 'claimed' AND COALESCE((
               SELECT true FROM mailglass.events v WHERE v.delivery_id = e.id AND v.source = 'provider'
                 AND v.kind = ANY (CAST(%(evidence)s AS text[])) LIMIT 1), false) AS accepted
    FROM expired e LEFT JOIN policy p ON p.stream = e.stream
), situation AS (
    SELECT k.id, k.position, k.before, CASE WHEN k.accepted THEN 0 ELSE k.hold END AS hold,
           CASE WHEN k.before = 'claimed' THEN
                    CASE WHEN k.claimed_alone AND k.crashes_alone >= 3 AND mailglass.crashes_by_itself(k.id)
                         THEN 'crashed_alone' ELSE 'claim_lost' END
                WHEN k.before = 'sending' THEN
                    CASE WHEN k.more AND NOT k.accepted AND NOT k.expired AND EXISTS (
                             SELECT FROM remembering r
                             WHERE r.account = k.account AND COALESCE(k.age < r.memory, true))
                         THEN 'answer_askable' ELSE 'answer_lost' END
                WHEN k.accepted THEN 'proved'
                WHEN k.expired THEN 'hold_over_expired'
                WHEN k.resends THEN 'hold_over_resend'
                ELSE 'hold_over' END AS name
    FROM known k
), rule (situation, after, kind, reason) AS (VALUES
    ('claim_lost', 'queued', 'released', 'lease_expired'),
    ('crashed_alone', 'held', 'held', 'crashed_worker'),
    ('answer_askable', 'queued', 'uncertain', 'asked_again'),
    ('answer_lost', 'uncertain', 'uncertain', 'worker_lost'),
    ('proved', 'sent', 'settled', 'webhook_evidence'),
    ('hold_over_expired', 'failed', 'failed', 'expired'),
    ('hold_over_resend', 'queued', 'resent', 'no_evidence'),
    ('hold_over', 'held', 'held', 'no_evidence')
), decided AS (
    SELECT s.id, s.position, s.before, s.hold, s.name = 'answer_askable' AS ask_again, r.after, r.kind, r.reason
    FROM situation s JOIN rule r ON r.situation = s.name
), moved AS (
    UPDATE mailglass.deliveries d
    SET status = c.after, lease_token = NULL,
        due_at = CASE WHEN c.after = 'queued' THEN now() + make_interval(secs => CASE
            WHEN c.before IN ('claimed', 'sending') AND d.crashes > 0 THEN random() * %(spread)s ELSE 0 END) END,
        crashes = CASE WHEN c.after IN ('held', 'sent', 'failed') THEN 0
                       WHEN c.before IN ('claimed', 'sending') THEN LEAST(d.crashes + 1, 1000) ELSE d.crashes END,
        crashes_alone = CASE WHEN c.after IN ('held', 'sent', 'failed') THEN 0
                             WHEN c.before = 'claimed' AND d.claimed_alone THEN LEAST(d.crashes_alone + 1, 1000)
                             ELSE d.crashes_alone END,
        lease_expires_at = CASE WHEN c.after = 'uncertain' THEN now() + make_interval(secs => c.hold) END,
        search_at = CASE WHEN c.after = 'uncertain' THEN now() END,
        search_account = CASE WHEN c.after = 'uncertain' THEN d.account END,
        in_doubt = c.after <> 'sent' AND (c.before <> 'claimed' OR d.in_doubt),
        awaits_account = CASE WHEN c.after = 'queued' THEN d.awaits_account END,
        ask_again = c.after = 'queued' AND (c.ask_again OR (c.before = 'claimed' AND d.ask_again)),
        last_error = CASE WHEN c.after = 'sent' THEN d.last_error ELSE c.reason END,
        sent_at = CASE WHEN c.after = 'sent' THEN LEAST(d.sent_at, now()) ELSE d.sent_at END
    FROM decided c WHERE d.id = c.id
    RETURNING d.id, d.tenant_id, d.queue, d.stream, d.account, d.attempts, c.position, c.after, c.kind, c.reason
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason, account, attempt)
    SELECT (CAST(%(event_ids)s AS uuid[]))[m.position + CASE WHEN %(again)s THEN %(size)s ELSE 0 END],
           m.id, m.tenant_id, m.kind, 'engine', now(), m.after, m.reason, m.account, m.attempts
    FROM moved m
)
SELECT m.id, m.queue, m.tenant_id, m.stream, m.kind, n.looked_at
FROM (SELECT now() AS looked_at) n LEFT JOIN moved m ON true

-- name: searches_due
-- The accounts that have uncertain deliveries to be searched for; each account's provider knows of a mail after a lag.
SELECT s.account
FROM unnest(CAST(%(accounts)s AS text[]), CAST(%(lags)s AS double precision[])) AS s (account, lag)
WHERE EXISTS (SELECT 1 FROM mailglass.deliveries d
              WHERE d.search_account = s.account AND d.search_at <= now() - make_interval(secs => s.lag))

-- name: claim_searches
-- Take uncertain deliveries of one account to search for them, those that have waited longest first. Nobody else looks
-- for them until their next turn, which comes after twice as long each time, and once more just before the hold ends.
-- While they are looked for the hold does not end, so that nothing is resent that is about to be found.
WITH picked AS MATERIALIZED (
    SELECT d.id FROM mailglass.deliveries d
    WHERE d.search_account = %(account)s AND d.search_at <= now() - make_interval(secs => %(lag)s)
      AND d.status = 'uncertain' AND d.lease_expires_at > now()
    ORDER BY d.search_at LIMIT %(size)s FOR UPDATE SKIP LOCKED
), told AS MATERIALIZED (
    SELECT p.id, COALESCE(e.since, now()) AS since, COALESCE(e.first, now()) AS first
    FROM picked p CROSS JOIN LATERAL (
        SELECT max(v.recorded_at) FILTER (WHERE v.status = 'uncertain') AS since, min(v.recorded_at) AS first
        FROM mailglass.events v
        WHERE v.delivery_id = p.id AND 'uncertain' IN (v.kind, v.status, v.outcome)) e
)
UPDATE mailglass.deliveries d
SET search_at = LEAST(
        now() + GREATEST(now() - t.since, interval '10 seconds'),
        GREATEST(d.lease_expires_at - make_interval(secs => %(lag)s + 2 * %(budget)s),
                 now() + make_interval(secs => %(budget)s))),
    lease_expires_at = GREATEST(d.lease_expires_at, now() + make_interval(secs => %(budget)s))
FROM told t WHERE d.id = t.id
RETURNING d.id, d.stream, d.recipient, d.provider_message_id, d.attempts, d.scheduled_at, t.first,
          date_part('epoch', now() - t.since) AS age, now() AS taken_at

-- name: resume
-- Queue uncertain deliveries again whose provider says that it never took them; not one that is more than it was when
-- the provider was asked, nor one whose stream's attempts are used up. Another account's answer may still be missing.
WITH absent AS MATERIALIZED (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(attempts)s AS integer[]), CAST(%(most)s AS integer[]),
                         CAST(%(event_ids)s AS uuid[])) AS a (id, attempts, most, event_id)
), picked AS MATERIALIZED (
    SELECT d.id, a.event_id FROM absent a JOIN mailglass.deliveries d ON d.id = a.id
    WHERE d.status = 'uncertain' AND d.attempts = a.attempts AND a.attempts < a.most
      AND NOT EXISTS (SELECT 1 FROM mailglass.events e WHERE e.delivery_id = d.id AND e.source = 'provider'
                      AND e.kind = ANY (CAST(%(evidence)s AS text[])))
    ORDER BY d.id FOR UPDATE OF d
), moved AS (
    UPDATE mailglass.deliveries d
    SET status = 'queued', due_at = now(), lease_expires_at = NULL, search_at = NULL, search_account = NULL,
        in_doubt = mailglass.in_other_doubt(d.id, d.search_account, '-infinity'), last_error = 'not_found'
    FROM picked p WHERE d.id = p.id
    RETURNING d.id, d.tenant_id, d.queue, d.stream, d.account, d.attempts, p.event_id
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason, account, attempt)
    SELECT event_id, id, tenant_id, 'released', 'engine', now(), 'queued', 'not_found', account, attempts FROM moved
)
SELECT id, queue, tenant_id, stream FROM moved

-- name: settle
-- Say by hand what became of deliveries that are in doubt and that no worker has: they were sent, are to be sent again,
-- or are given up. Only the first ends the doubt. Where an actor is given, with an entry in the audit. Run again after
-- its answer was lost, it finds its own events.
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(event_ids)s AS uuid[]),
                         CAST(%(provider_message_ids)s AS text[])) AS w (id, event_id, provider_message_id)
), picked AS MATERIALIZED (
    SELECT d.id, w.event_id, w.provider_message_id,
           CASE CAST(%(how)s AS text) WHEN 'sent' THEN 'sent' WHEN 'resend' THEN 'queued' ELSE 'failed' END AS after,
           CASE CAST(%(how)s AS text) WHEN 'sent' THEN 'settled' WHEN 'resend' THEN 'resent' ELSE 'failed' END AS kind
    FROM wanted w JOIN mailglass.deliveries d ON d.id = w.id
    WHERE d.in_doubt AND d.status IN ('uncertain', 'queued', 'held')
      AND NOT EXISTS (SELECT FROM mailglass.events e WHERE e.id = w.event_id)
    ORDER BY d.id FOR UPDATE OF d
), moved AS (
    UPDATE mailglass.deliveries d
    SET status = p.after, due_at = CASE WHEN p.after = 'queued' THEN now() END, lease_expires_at = NULL,
        search_at = NULL, search_account = NULL, in_doubt = p.after <> 'sent', ask_again = false,
        awaits_account = NULL,
        scheduled_at = CASE WHEN p.after = 'queued' THEN now() ELSE d.scheduled_at END,
        attempts = CASE WHEN p.after = 'queued' THEN 0 ELSE d.attempts END,
        last_error = CASE WHEN p.after = 'sent' THEN d.last_error ELSE CAST(%(reason)s AS text) END,
        account = COALESCE(CAST(%(account)s AS text), d.account),
        provider_message_id = COALESCE(p.provider_message_id, d.provider_message_id),
        sent_at = CASE WHEN p.after = 'sent' THEN LEAST(d.sent_at, now()) ELSE d.sent_at END
    FROM picked p WHERE d.id = p.id
    RETURNING d.id, d.tenant_id, d.queue, d.stream, d.account, p.after, p.kind, p.event_id
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason, account)
    SELECT event_id, id, tenant_id, kind, 'operator', now(), after, CAST(%(reason)s AS text), account FROM moved
), audited AS (
    INSERT INTO mailglass.audit (id, actor, action, tenant_id, detail)
    SELECT CAST(%(audit_id)s AS uuid), CAST(%(actor)s AS text), 'deliveries.settle.' || CAST(%(how)s AS text),
           m.tenant_id, CAST(CAST(%(detail)s AS jsonb) || jsonb_build_object('count', m.count) AS json)
    FROM (SELECT CASE WHEN count(DISTINCT tenant_id) = 1 THEN min(tenant_id) END AS tenant_id, count(*) AS count
          FROM moved) m
    WHERE CAST(%(actor)s AS text) IS NOT NULL AND m.count > 0
)
SELECT id, queue, tenant_id, stream FROM moved
UNION ALL
SELECT d.id, d.queue, d.tenant_id, d.stream
FROM wanted w JOIN mailglass.events e ON e.id = w.event_id JOIN mailglass.deliveries d ON d.id = e.delivery_id

-- name: lanes_ready
-- The lanes that have due work, a page after a lane: one index probe for each, however long its backlog is, and none for
-- lanes whose mail is due later.
WITH RECURSIVE lane AS (
    (SELECT d.tenant_id, d.queue, d.stream FROM mailglass.deliveries d
     WHERE d.due_at IS NOT NULL AND NOT d.waiting
       AND (d.tenant_id, d.queue, d.stream)
           > (CAST(%(tenant)s AS text), CAST(%(queue)s AS text), CAST(%(stream)s AS text))
     ORDER BY d.tenant_id, d.queue, d.stream LIMIT 1)
    UNION ALL
    SELECT n.tenant_id, n.queue, n.stream FROM lane l CROSS JOIN LATERAL (
        SELECT d.tenant_id, d.queue, d.stream FROM mailglass.deliveries d
        WHERE d.due_at IS NOT NULL AND NOT d.waiting AND (d.tenant_id, d.queue, d.stream) > (l.tenant_id, l.queue, l.stream)
        ORDER BY d.tenant_id, d.queue, d.stream LIMIT 1) n
)
SELECT queue, tenant_id, stream FROM lane LIMIT %(size)s

-- name: lanes_woken
-- The lanes of mail that was put off and is due by now: one index probe for each moment of each lane, up to a number.
-- Moments before a mark are not walked over again; answers its own moment in any case.
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
-- Let mail that was put off and is due by now count as due: the longest due first. Nothing else of it changes.
WITH woken AS MATERIALIZED (
    SELECT d.id FROM mailglass.deliveries d WHERE d.due_at <= now() AND d.waiting
    ORDER BY d.due_at LIMIT %(size)s FOR UPDATE SKIP LOCKED
)
UPDATE mailglass.deliveries d SET waiting = false FROM woken w WHERE d.id = w.id

-- name: take_turn
-- Take the turn at a name, or keep it, for a time; answer whether it was got, and the seconds until it may be. It is free
-- once its time is over, whatever became of its holder; and where that is minutes away, since nobody takes it for as long:
-- then the clock was set back, as by a failover. An eager one takes it also where its holder has given it up but nobody
-- should have it yet. One that is not free is only read.
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
-- Give a turn up that is still held; nobody but the eager has it before a rest is over.
UPDATE mailglass.turns SET holder = NULL, until = clock_timestamp() + make_interval(secs => %(rest)s)
WHERE name = %(name)s AND holder = CAST(%(holder)s AS uuid)

-- name: ring
-- Doorbells without Redis: set the marks that are free, or older than the ring timeout, or set by a clock that went ahead of
-- this one, as before a failover; answer which were set.
-- A mark that is there is only read: to lock it would line up all producers of a lane behind each other's commits.
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
-- For how many seconds marks have been set: for an hour those of a clock that went ahead.
SELECT d.name, CASE WHEN d.rung_at >= clock_timestamp() + interval '1 minute' THEN CAST(3600 AS double precision)
    ELSE CAST(extract(epoch FROM clock_timestamp() - d.rung_at) AS double precision) END AS age
FROM mailglass.doorbells d WHERE d.name = ANY (CAST(%(names)s AS text[]))

-- name: clear_bells
-- Clear marks, before the claim.
DELETE FROM mailglass.doorbells WHERE name = ANY (CAST(%(names)s AS text[]))

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
    SELECT CAST(%(audit_id)s AS uuid), CAST(%(actor)s AS text), 'deliveries.cancel', %(tenant)s,
           CAST(CAST(%(detail)s AS jsonb) || jsonb_build_object('count', m.count)
                || CASE WHEN m.doubtful > 0 THEN jsonb_build_object('left_in_doubt', m.doubtful)
                        ELSE CAST('{}' AS jsonb) END AS json)
    FROM (SELECT count(*) AS count, (SELECT count(*) FROM doubtful) AS doubtful FROM moved) m
    WHERE CAST(%(actor)s AS text) IS NOT NULL AND m.count > 0
)
SELECT id, false AS in_doubt FROM moved
UNION ALL
SELECT e.delivery_id, false FROM wanted w JOIN mailglass.events e ON e.id = w.event_id
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
    SELECT CAST(%(audit_id)s AS uuid), CAST(%(actor)s AS text), 'deliveries.release', m.tenant_id,
           CAST(CAST(%(detail)s AS jsonb) || jsonb_build_object('count', m.count)
                || CASE WHEN m.doubtful > 0 THEN jsonb_build_object('in_doubt', m.doubtful)
                        ELSE CAST('{}' AS jsonb) END AS json)
    FROM (SELECT CASE WHEN count(DISTINCT tenant_id) = 1 THEN min(tenant_id) END AS tenant_id, count(*) AS count,
                 count(*) FILTER (WHERE in_doubt) AS doubtful
          FROM moved) m
    WHERE CAST(%(actor)s AS text) IS NOT NULL AND m.count > 0
)
SELECT id, queue, tenant_id, stream FROM moved
UNION ALL
SELECT d.id, d.queue, d.tenant_id, d.stream
FROM wanted w JOIN mailglass.events e ON e.id = w.event_id JOIN mailglass.deliveries d ON d.id = e.delivery_id

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
    SELECT CAST(%(audit_id)s AS uuid), CAST(%(actor)s AS text), 'deliveries.hold', m.tenant_id,
           CAST(CAST(%(detail)s AS jsonb) || jsonb_build_object('count', m.count) AS json)
    FROM (SELECT CASE WHEN count(DISTINCT tenant_id) = 1 THEN min(tenant_id) END AS tenant_id, count(*) AS count
          FROM moved) m
    WHERE CAST(%(actor)s AS text) IS NOT NULL AND m.count > 0
)
SELECT id FROM moved
UNION ALL
SELECT e.delivery_id FROM wanted w JOIN mailglass.events e ON e.id = w.event_id

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
    SELECT CAST(%(audit_id)s AS uuid), CAST(%(actor)s AS text), 'deliveries.reschedule', %(tenant)s,
           CAST(CAST(%(detail)s AS jsonb) || jsonb_build_object('count', m.count) AS json)
    FROM (SELECT count(*) AS count FROM moved) m WHERE CAST(%(actor)s AS text) IS NOT NULL AND m.count > 0
)
SELECT id, queue, tenant_id, stream FROM moved
UNION ALL
SELECT d.id, d.queue, d.tenant_id, d.stream
FROM wanted w JOIN mailglass.events e ON e.id = w.event_id JOIN mailglass.deliveries d ON d.id = e.delivery_id

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

-- name: store_webhooks
-- Keep verified webhooks; one that is already there, or twice among these, is left alone. In the order of their keys, so
-- that two statements never wait for each other in a circle. A proof that does not cover its body is bound to the first
-- body it comes with; a webhook whose proof is bound to another one is refused. Answers which were new or refused.
WITH shown AS (
    SELECT s.id, s.proof, s.digest, first_value(s.digest) OVER (PARTITION BY s.proof ORDER BY s.id) AS first
    FROM unnest(CAST(%(proof_ids)s AS uuid[]), CAST(%(proofs)s AS bytea[]), CAST(%(digests)s AS bytea[]))
        AS s (id, proof, digest)
), bound AS (
    -- where it is bound already the row is locked and answered only if it is bound to this body
    INSERT INTO mailglass.webhook_proofs AS p (proof, digest)
    SELECT DISTINCT proof, first FROM shown ORDER BY proof
    ON CONFLICT (proof) DO UPDATE SET digest = excluded.digest WHERE p.digest = excluded.digest
    RETURNING proof
), refused AS (
    SELECT DISTINCT s.id FROM shown s LEFT JOIN bound b USING (proof) WHERE b.proof IS NULL OR s.digest <> s.first
), stored AS (
    INSERT INTO mailglass.webhook_events (id, account, provider, tenant_id, dedupe_key, body, headers)
    SELECT w.id, w.account, w.provider, w.tenant, w.dedupe_key, w.body, CAST(w.headers AS json)
    FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(accounts)s AS text[]), CAST(%(providers)s AS text[]),
                CAST(%(tenants)s AS text[]), CAST(%(dedupe_keys)s AS text[]), CAST(%(bodies)s AS bytea[]),
                CAST(%(headers)s AS text[])) AS w (id, account, provider, tenant, dedupe_key, body, headers)
    WHERE w.id NOT IN (SELECT id FROM refused)
    ORDER BY w.account, w.dedupe_key, w.id
    ON CONFLICT (account, dedupe_key) DO NOTHING
    RETURNING id
)
SELECT id, 'new' AS became FROM stored UNION ALL SELECT id, 'refused' FROM refused

-- name: prune_proofs
-- Forget proofs that have long since expired: none is valid for longer than a day before or after its own time.
DELETE FROM mailglass.webhook_proofs WHERE proof IN (
    SELECT proof FROM mailglass.webhook_proofs WHERE used_at < now() - interval '3 days'
    ORDER BY used_at LIMIT %(size)s FOR UPDATE SKIP LOCKED)
RETURNING proof

-- name: claim_webhooks
-- Lease stored webhooks, oldest first, up to a number and a size in bytes; answer also whether more are waiting.
-- One that was claimed before may have brought its worker down: it is claimed alone, so that it spends nobody else's
-- attempts. Those before a mark are not walked over again, see mailglass.ledger.low_water.
WITH picked AS MATERIALIZED (
    SELECT id, attempts, COALESCE(octet_length(body), 0) AS size FROM mailglass.webhook_events
    WHERE status = 'received' AND (lease_expires_at IS NULL OR lease_expires_at <= now())
      AND id >= CAST(%(after)s AS uuid)
    ORDER BY id LIMIT %(size)s + 1 FOR UPDATE SKIP LOCKED
), measured AS (
    SELECT id, attempts, row_number() OVER up_to_here AS position, sum(size) OVER up_to_here AS size,
           max(attempts) OVER up_to_here AS tried, count(*) OVER () AS waiting
    FROM picked WINDOW up_to_here AS (ORDER BY id ROWS UNBOUNDED PRECEDING)
), taken AS MATERIALIZED (
    SELECT id, waiting FROM measured
    WHERE position = 1 OR (position <= %(size)s AND size <= %(max_bytes)s AND tried = 0)
)
UPDATE mailglass.webhook_events w
SET attempts = w.attempts + 1, lease_expires_at = now() + make_interval(secs => %(lease)s)
FROM taken t WHERE w.id = t.id
RETURNING w.id, w.account, w.provider, w.tenant_id, w.body, CAST(w.headers AS text) AS headers, w.attempts,
          w.received_at, t.waiting > (SELECT count(*) FROM taken) AS more

-- name: finish_webhooks
-- Say what became of stored webhooks: processed, dead with its reason, or received again for a later try.
UPDATE mailglass.webhook_events w
SET status = f.status, reason = f.reason,
    processed_at = CASE WHEN f.status <> 'received' THEN now() END,
    lease_expires_at = CASE WHEN f.status = 'received' THEN now() + make_interval(secs => %(retry_after)s) END
FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(statuses)s AS text[]), CAST(%(reasons)s AS text[]))
    AS f (id, status, reason)
WHERE w.id = f.id AND w.status = 'received'

-- name: webhooks_waiting
-- Whether stored webhooks wait to be processed.
SELECT EXISTS (
    SELECT 1 FROM mailglass.webhook_events
    WHERE status = 'received' AND (lease_expires_at IS NULL OR lease_expires_at <= now())
      AND id >= CAST(%(after)s AS uuid)) AS waiting

-- name: replay_webhooks
-- Give dead webhooks another life.
UPDATE mailglass.webhook_events SET status = 'received', reason = NULL, attempts = 0, lease_expires_at = NULL
WHERE id = ANY (CAST(%(ids)s AS uuid[])) AND status = 'dead'
RETURNING id

-- name: match
-- The deliveries that events speak of: by our id, then by the account's own message id. Our id counts only from an
-- account that attempted the delivery: one account's webhook says nothing about another's mail. Where the webhook's
-- tenant is known it says nothing about another tenant's mail either.
-- Several deliveries may share a provider's id (one call for a batch): two are answered, the event's recipient first.
SELECT w.position, d.id, d.tenant_id, d.stream, d.recipient, d.account, d.named
FROM unnest(CAST(%(delivery_ids)s AS uuid[]), CAST(%(provider_message_ids)s AS text[]), CAST(%(accounts)s AS text[]),
            CAST(%(recipients)s AS text[]), CAST(%(tenants)s AS text[]))
     WITH ORDINALITY AS w (delivery_id, provider_message_id, account, recipient, tenant, position)
CROSS JOIN LATERAL (
    SELECT d.id, d.tenant_id, d.stream, d.recipient, d.account, true AS named FROM mailglass.deliveries d
    WHERE d.id = w.delivery_id
      AND d.tenant_id = COALESCE(w.tenant, d.tenant_id)
      AND (d.account = w.account
           OR EXISTS (SELECT 1 FROM mailglass.events e WHERE e.delivery_id = d.id AND e.account = w.account))
    UNION ALL
    SELECT d.id, d.tenant_id, d.stream, d.recipient, d.account,
           COALESCE(w.recipient IN (lower(d.recipient COLLATE "C"), lower(d.recipient)), false)
    FROM mailglass.deliveries d
    WHERE w.delivery_id IS NULL AND d.provider_message_id = w.provider_message_id AND d.account = w.account
      AND d.tenant_id = COALESCE(w.tenant, d.tenant_id)
    ORDER BY named DESC LIMIT 2) d

-- name: append
-- Append providers' events; one that is already there is left alone. Answers which were new.
INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, reason, account, enhanced_status,
                              bounce_class, reject_reason, machine, click_hash, webhook_event_id, refusal)
SELECT e.id, e.delivery_id, e.tenant_id, e.kind, 'provider', e.occurred_at, e.reason, e.account, e.enhanced,
       e.bounce_class, e.reject_reason, e.machine, e.click_hash, e.webhook_event_id, e.refusal
FROM unnest(
    CAST(%(ids)s AS uuid[]), CAST(%(delivery_ids)s AS uuid[]), CAST(%(tenants)s AS text[]), CAST(%(kinds)s AS text[]),
    CAST(%(occurred)s AS timestamptz[]), CAST(%(reasons)s AS text[]), CAST(%(accounts)s AS text[]),
    CAST(%(enhanced)s AS text[]), CAST(%(bounce_classes)s AS text[]), CAST(%(reject_reasons)s AS text[]),
    CAST(%(machines)s AS boolean[]), CAST(%(click_hashes)s AS text[]), CAST(%(webhook_event_ids)s AS uuid[]),
    CAST(%(refusals)s AS text[])
) AS e (id, delivery_id, tenant_id, kind, occurred_at, reason, account, enhanced, bounce_class, reject_reason, machine,
        click_hash, webhook_event_id, refusal)
ORDER BY e.id
ON CONFLICT DO NOTHING
RETURNING id

-- name: recorded_events
-- Events as the ledger keeps them: what stands where a second arrival was left alone.
SELECT * FROM mailglass.events WHERE id = ANY (CAST(%(ids)s AS uuid[]))

-- name: project
-- Join projections into their deliveries; the same join as mailglass.ledger.events.join, so order does not matter.
-- Where a provider's fact proves acceptance, a delivery that waits for evidence is settled as sent; also one that is
-- about to be sent again, up to its mark, which then finds no lease.
WITH fact AS (
    SELECT * FROM unnest(
        CAST(%(ids)s AS uuid[]), CAST(%(deferred)s AS timestamptz[]), CAST(%(delivered)s AS timestamptz[]),
        CAST(%(rejected)s AS timestamptz[]), CAST(%(failed)s AS timestamptz[]), CAST(%(bounced)s AS timestamptz[]),
        CAST(%(complained)s AS timestamptz[]), CAST(%(opened)s AS timestamptz[]), CAST(%(clicked)s AS timestamptz[]),
        CAST(%(unsubscribed)s AS timestamptz[]), CAST(%(bounce_classes)s AS text[]), CAST(%(last_events)s AS text[]),
        CAST(%(last_at)s AS timestamptz[]), CAST(%(last_ids)s AS uuid[]), CAST(%(evidence)s AS boolean[]),
        CAST(%(provider_message_ids)s AS text[]), CAST(%(proofs)s AS text[]), CAST(%(event_ids)s AS uuid[])
    ) AS f (id, deferred_at, delivered_at, rejected_at, failed_at, bounced_at, complained_at, opened_at, clicked_at,
            unsubscribed_at, bounce_class, last_event, last_event_at, last_event_id, evidence, provider_message_id,
            proof, event_id)
), told AS MATERIALIZED (
    SELECT f.*, f.evidence AND (d.status IN ('uncertain', 'held')
                                OR (d.status IN ('queued', 'claimed') AND d.account IS NOT NULL)) AS settles
    FROM fact f JOIN mailglass.deliveries d ON d.id = f.id
    ORDER BY d.id FOR UPDATE OF d
), moved AS (
    UPDATE mailglass.deliveries d SET
        deferred_at = LEAST(d.deferred_at, f.deferred_at),
        delivered_at = LEAST(d.delivered_at, f.delivered_at),
        rejected_at = LEAST(d.rejected_at, f.rejected_at),
        failed_at = LEAST(d.failed_at, f.failed_at),
        bounced_at = LEAST(d.bounced_at, f.bounced_at),
        complained_at = LEAST(d.complained_at, f.complained_at),
        opened_at = LEAST(d.opened_at, f.opened_at),
        clicked_at = LEAST(d.clicked_at, f.clicked_at),
        unsubscribed_at = LEAST(d.unsubscribed_at, f.unsubscribed_at),
        bounce_class = CASE
            WHEN 'hard' IN (d.bounce_class, f.bounce_class) THEN 'hard'
            WHEN 'soft' IN (d.bounce_class, f.bounce_class) THEN 'soft'
            ELSE COALESCE(d.bounce_class, f.bounce_class) END,
        last_event = CASE
            WHEN d.last_event_at IS NULL OR (f.last_event_at, f.last_event_id) > (d.last_event_at, d.last_event_id)
            THEN f.last_event ELSE d.last_event END,
        last_event_id = CASE
            WHEN d.last_event_at IS NULL OR (f.last_event_at, f.last_event_id) > (d.last_event_at, d.last_event_id)
            THEN f.last_event_id ELSE d.last_event_id END,
        last_event_at = GREATEST(d.last_event_at, f.last_event_at),
        provider_message_id = COALESCE(d.provider_message_id, f.provider_message_id),
        status = CASE WHEN f.settles THEN 'sent' ELSE d.status END,
        in_doubt = d.in_doubt AND NOT f.settles, ask_again = d.ask_again AND NOT f.settles,
        sent_at = CASE WHEN f.settles THEN LEAST(d.sent_at, now()) ELSE d.sent_at END,
        due_at = CASE WHEN f.settles THEN NULL ELSE d.due_at END,
        lease_token = CASE WHEN f.settles THEN NULL ELSE d.lease_token END,
        lease_expires_at = CASE WHEN f.settles THEN NULL ELSE d.lease_expires_at END,
        search_at = CASE WHEN f.settles THEN NULL ELSE d.search_at END,
        search_account = CASE WHEN f.settles THEN NULL ELSE d.search_account END,
        awaits_account = CASE WHEN f.settles THEN NULL ELSE d.awaits_account END
    FROM told f WHERE d.id = f.id
    RETURNING d.id, d.tenant_id, d.account, d.attempts, f.event_id, f.proof, f.settles
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason, account, attempt)
    SELECT event_id, id, tenant_id, 'settled', 'engine', now(), 'sent', proof, account, attempts
    FROM moved WHERE settles
)
SELECT id, settles FROM moved

-- name: keep_orphans
-- Keep events whose delivery is not known yet.
INSERT INTO mailglass.orphans (event_id, account, delivery_id, provider_message_id, event, webhook_event_id)
SELECT o.event_id, o.account, o.delivery_id, o.provider_message_id, CAST(o.event AS json), o.webhook_event_id
FROM unnest(CAST(%(event_ids)s AS uuid[]), CAST(%(accounts)s AS text[]), CAST(%(delivery_ids)s AS uuid[]),
            CAST(%(provider_message_ids)s AS text[]), CAST(%(events)s AS text[]), CAST(%(webhook_event_ids)s AS uuid[]))
    AS o (event_id, account, delivery_id, provider_message_id, event, webhook_event_id)
ON CONFLICT DO NOTHING

-- name: linkable_orphans
-- Orphans whose delivery is known by now, by the rule of `match`; a page after an id.
SELECT o.event_id, o.account, CAST(o.event AS text) AS event, o.webhook_event_id
FROM mailglass.orphans o
WHERE o.event_id > CAST(%(after)s AS uuid)
  AND (EXISTS (SELECT 1 FROM mailglass.deliveries d
               WHERE d.id = o.delivery_id
                 AND d.tenant_id = COALESCE(o.event ->> 'tenant', d.tenant_id)
                 AND (d.account = o.account
                      OR EXISTS (SELECT 1 FROM mailglass.events e
                                 WHERE e.delivery_id = d.id AND e.account = o.account)))
    OR EXISTS (SELECT 1 FROM mailglass.deliveries d
               WHERE o.delivery_id IS NULL AND d.provider_message_id = o.provider_message_id
                 AND d.account = o.account AND d.tenant_id = COALESCE(o.event ->> 'tenant', d.tenant_id)))
ORDER BY o.event_id LIMIT %(size)s

-- name: drop_orphans
-- Forget orphans that are linked.
DELETE FROM mailglass.orphans WHERE event_id = ANY (CAST(%(event_ids)s AS uuid[]))

-- name: suppress
-- Add suppressions; a complaint takes over from a lesser reason, and never expires; what lasts takes over from what ends,
-- what ends later from what ends sooner. What had an end gets a new id: as it was it has not been offered to providers.
INSERT INTO mailglass.suppressions AS s (id, tenant_id, scope, value, stream, reason, source, account, expires_at)
SELECT n.id, n.tenant_id, n.scope, n.value, n.stream, n.reason, n.source, n.account, n.expires_at
FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(tenants)s AS text[]), CAST(%(scopes)s AS text[]),
            CAST(%(values)s AS text[]), CAST(%(streams)s AS text[]), CAST(%(reasons)s AS text[]),
            CAST(%(sources)s AS text[]), CAST(%(accounts)s AS text[]), CAST(%(expires)s AS timestamptz[]))
    AS n (id, tenant_id, scope, value, stream, reason, source, account, expires_at)
ORDER BY n.value, n.tenant_id
ON CONFLICT (value, tenant_id, scope, stream) DO UPDATE
SET id = CASE WHEN s.expires_at IS NULL THEN s.id ELSE excluded.id END,
    reason = excluded.reason, source = excluded.source, account = excluded.account, expires_at = excluded.expires_at
WHERE (s.reason <> 'complaint' AND excluded.reason = 'complaint') OR s.expires_at <= now()
   OR s.expires_at < COALESCE(excluded.expires_at, 'infinity')
RETURNING id

-- name: doubt_addresses
-- Note refusals that leave open whether an address is gone for good, whatever their order. Answers those addresses that
-- were refused so a day or more apart. What is older than thirty days counts no more.
WITH told AS (
    SELECT tenant_id, value, min(at) AS first, max(at) AS last
    FROM unnest(CAST(%(tenants)s AS text[]), CAST(%(values)s AS text[]), CAST(%(moments)s AS timestamptz[]))
        AS t (tenant_id, value, at)
    GROUP BY tenant_id, value
)
INSERT INTO mailglass.address_doubts AS a (tenant_id, value, since, latest)
SELECT tenant_id, value, first, last FROM told ORDER BY value, tenant_id
ON CONFLICT (value, tenant_id) DO UPDATE
SET since = CASE WHEN a.latest < excluded.since - interval '30 days' THEN excluded.since
                 ELSE LEAST(a.since, excluded.since) END,
    latest = GREATEST(a.latest, excluded.latest)
RETURNING tenant_id, value, latest >= since + interval '1 day' AS again

-- name: unsubscribe
-- Note that people left a stream, and when: of several times the latest, by the provider's own clock. An entry of another
-- reason that ends gives way, so that who has left is not written to once it has ended.
INSERT INTO mailglass.suppressions AS s (id, tenant_id, scope, value, stream, reason, source, account, created_at)
SELECT u.id, u.tenant_id, 'address_stream', u.value, u.stream, 'unsubscribe', 'webhook', u.account, u.moment
FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(tenants)s AS text[]), CAST(%(values)s AS text[]),
            CAST(%(streams)s AS text[]), CAST(%(accounts)s AS text[]), CAST(%(moments)s AS timestamptz[]))
    AS u (id, tenant_id, value, stream, account, moment)
ORDER BY u.value, u.tenant_id, u.stream
ON CONFLICT (value, tenant_id, scope, stream) DO UPDATE
SET reason = 'unsubscribe', expires_at = NULL,
    source = CASE s.reason WHEN 'unsubscribe' THEN s.source ELSE excluded.source END,
    account = CASE s.reason WHEN 'unsubscribe' THEN s.account ELSE excluded.account END,
    created_at = CASE s.reason WHEN 'unsubscribe' THEN GREATEST(s.created_at, excluded.created_at)
                               ELSE excluded.created_at END
WHERE s.expires_at IS NOT NULL OR (s.reason = 'unsubscribe' AND s.created_at < excluded.created_at)
RETURNING id

-- name: resubscribe
-- End unsubscriptions that an account had told us of, where it says that the person has subscribed again since then.
DELETE FROM mailglass.suppressions s
USING unnest(CAST(%(tenants)s AS text[]), CAST(%(values)s AS text[]), CAST(%(streams)s AS text[]),
             CAST(%(accounts)s AS text[]), CAST(%(moments)s AS timestamptz[]))
    AS r (tenant_id, value, stream, account, moment)
WHERE s.value = r.value AND s.tenant_id = r.tenant_id AND s.scope = 'address_stream' AND s.stream = r.stream
  AND s.reason = 'unsubscribe' AND s.source IN ('webhook', 'sync') AND s.account = r.account
  AND s.created_at <= r.moment
RETURNING s.id

-- name: unsuppress
-- Remove a suppression; a complaint stays unless it is forced.
DELETE FROM mailglass.suppressions
WHERE value = %(value)s AND tenant_id = %(tenant)s AND scope = %(scope)s AND stream = %(stream)s
  AND (%(force)s OR reason <> 'complaint')
RETURNING id

-- name: mirror_suppressions
-- Bring what a provider lists into our list: the most telling reason and the latest time stay, so neither order nor
-- repetition matters. What an operator entered gives way to a stronger reason only. Answers what was written.
INSERT INTO mailglass.suppressions AS s (id, tenant_id, scope, value, stream, reason, source, account, created_at)
SELECT n.id, n.tenant_id, n.scope, n.value, n.stream, n.reason, 'sync', n.account,
       COALESCE(n.moment, k.created_at, now())
FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(tenants)s AS text[]), CAST(%(scopes)s AS text[]),
            CAST(%(values)s AS text[]), CAST(%(streams)s AS text[]), CAST(%(reasons)s AS text[]),
            CAST(%(accounts)s AS text[]), CAST(%(moments)s AS timestamptz[]))
    AS n (id, tenant_id, scope, value, stream, reason, account, moment)
LEFT JOIN mailglass.suppressions k
    ON k.value = n.value AND k.tenant_id = n.tenant_id AND k.scope = n.scope AND k.stream = n.stream
ORDER BY n.value, n.tenant_id, n.scope, n.stream
ON CONFLICT (value, tenant_id, scope, stream) DO UPDATE
SET id = CASE WHEN s.expires_at IS NULL THEN s.id ELSE excluded.id END,
    reason = excluded.reason, source = excluded.source, account = excluded.account, expires_at = NULL,
    created_at = excluded.created_at
WHERE s.expires_at <= now()
   OR COALESCE(array_position(ARRAY['provider', 'manual', 'unsubscribe', 'hard_bounce', 'complaint'], excluded.reason), 0)
      > COALESCE(array_position(ARRAY['provider', 'manual', 'unsubscribe', 'hard_bounce', 'complaint'], s.reason), 0)
   OR (s.reason = excluded.reason AND s.source NOT IN ('manual', 'import')
       AND (s.created_at < excluded.created_at OR s.expires_at IS NOT NULL))
RETURNING id

-- name: count_unmirrored
-- How many of these a live entry with the same or a stronger reason does not cover yet.
SELECT count(*) AS count
FROM unnest(CAST(%(tenants)s AS text[]), CAST(%(scopes)s AS text[]), CAST(%(values)s AS text[]),
            CAST(%(streams)s AS text[]), CAST(%(reasons)s AS text[]), CAST(%(accounts)s AS text[]),
            CAST(%(moments)s AS timestamptz[]))
    AS n (tenant_id, scope, value, stream, reason, account, moment)
WHERE NOT EXISTS (
    SELECT 1 FROM mailglass.suppressions s
    WHERE s.value = n.value AND s.tenant_id = n.tenant_id AND s.scope = n.scope AND s.stream = n.stream
      AND (s.expires_at IS NULL OR s.expires_at > now())
      AND COALESCE(array_position(ARRAY['provider', 'manual', 'unsubscribe', 'hard_bounce', 'complaint'], s.reason), 0)
          >= COALESCE(array_position(ARRAY['provider', 'manual', 'unsubscribe', 'hard_bounce', 'complaint'], n.reason), 0))

-- name: pushable_suppressions
-- Lasting entries on whole addresses that bind a tenant and that an account's provider has not told us of, by id.
SELECT id, value, reason, created_at FROM mailglass.suppressions
WHERE id > CAST(%(after)s AS uuid) AND id < CAST(%(before)s AS uuid) AND tenant_id IN (%(tenant)s, '*')
  AND scope = 'address' AND expires_at IS NULL AND account IS DISTINCT FROM %(account)s
ORDER BY id LIMIT %(size)s

-- name: sync_state
-- How far an account's suppression list is read and written.
SELECT cursor, synced_at, last_error FROM mailglass.suppression_sync WHERE account = %(account)s

-- name: save_sync
-- Keep how far an account's suppression list is read and written.
INSERT INTO mailglass.suppression_sync AS s (account, cursor, synced_at, last_error)
VALUES (%(account)s, %(cursor)s, CASE WHEN %(complete)s THEN now() END, %(last_error)s)
ON CONFLICT (account) DO UPDATE
SET cursor = excluded.cursor, synced_at = COALESCE(excluded.synced_at, s.synced_at), last_error = excluded.last_error

-- name: try_lock
-- Take a lock that this session holds until it lets go or ends.
SELECT pg_try_advisory_lock(hashtextextended(%(name)s, 0)) AS locked

-- name: try_lock_in_transaction
-- Take the same lock until the transaction ends.
SELECT pg_try_advisory_xact_lock(hashtextextended(%(name)s, 0)) AS locked

-- name: session_settings
-- What the session has of these settings.
SELECT array_agg(name ORDER BY name) AS names, array_agg(current_setting(name) ORDER BY name) AS settings
FROM unnest(CAST(%(names)s AS text[])) AS name

-- name: unlock
-- Let go of it.
SELECT pg_advisory_unlock(hashtextextended(%(name)s, 0))

-- name: suppressions_of
-- The live entries that stand in the way of an address.
SELECT * FROM mailglass.suppressions
WHERE value IN (%(key)s, %(domain)s) AND tenant_id IN (%(tenant)s, '*')
  AND (scope = 'domain') = (value = %(domain)s) AND (expires_at IS NULL OR expires_at > now())
ORDER BY scope, stream

-- name: schema_version
-- The schema's revision, and the oldest revision of the code that may work on it.
SELECT v.version_num, s.oldest_code FROM mailglass.schema_version v CROSS JOIN mailglass.schema_support s

-- name: take_limits
-- Take places for a batch of mails from rate limits where there is no Redis. Run twice it takes twice: too little is
-- sent for a moment, never too much.
SELECT granted, delays, blockers FROM mailglass.take_limits(
    CAST(%(keys)s AS text[]), CAST(%(intervals)s AS double precision[]), CAST(%(tolerances)s AS double precision[]),
    CAST(%(fulls)s AS double precision[]), CAST(%(counted)s AS integer[]), CAST(%(accounts)s AS text[]),
    CAST(%(members)s AS integer[]), CAST(%(starts)s AS integer[]), CAST(%(runs)s AS integer[]), CAST(%(urgent)s AS boolean),
    CAST(%(horizon)s AS double precision), CAST(%(seed)s AS double precision), CAST(%(now)s AS bigint))

-- name: give_places
-- Give places of counts back that were not used. Repeated with the same token, from 0 to 1, it does nothing.
UPDATE mailglass.rate_limits r
SET level = greatest(0, r.level - g.mails), promised = %(token)s
FROM (SELECT * FROM unnest(CAST(%(keys)s AS text[]), CAST(%(mails)s AS integer[])) AS u (key, mails)) g
WHERE r.key = g.key AND r.promised <> %(token)s

-- name: teach_limit
-- Keep what a provider has taught about one account: a pause, a slower pace, a rate.
SELECT mailglass.teach_limit(
    %(account)s, CAST(%(pause)s AS double precision), CAST(%(factor)s AS double precision),
    CAST(%(lasting)s AS double precision), CAST(%(rate)s AS double precision),
    CAST(%(rate_lasting)s AS double precision), CAST(%(now)s AS bigint))

-- name: claim_rates
-- Of accounts whose provider tells what rate it grants, those that are due to be asked, each for one worker: until it is
-- told, the rate before holds. Run twice, nobody else asks within `answer_within`.
INSERT INTO mailglass.rate_lessons AS l (account, rate_until)
SELECT account, (extract(epoch FROM now()) + %(lead)s + %(answer_within)s) * 1000000
FROM unnest(CAST(%(accounts)s AS text[])) AS account ORDER BY account
ON CONFLICT (account) DO UPDATE SET rate_until = excluded.rate_until
WHERE l.rate_until <= (extract(epoch FROM now()) + %(lead)s) * 1000000
RETURNING account

-- name: prune_limits
-- Forget rate limits that nobody has taken from for two days and that are drained by now. Counts of a day are among
-- them, and where clocks are set back a day has 25 hours.
DELETE FROM mailglass.rate_limits WHERE key IN (
    SELECT key FROM mailglass.rate_limits
    WHERE stamp + greatest(level, promised, promised_urgent) < extract(epoch FROM now() - interval '2 days') * 1000000
    ORDER BY key LIMIT %(size)s FOR UPDATE SKIP LOCKED)
RETURNING key


-- name: breakers
-- The breakers of these accounts that are not closed: open with the seconds left, or half-open for so many seconds (below
-- zero); and accounts that somebody has paused.
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
-- Open an account's breaker, twice as long at each failure in a row; a reset told by the provider counts as it is. The
-- mail that failed is remembered, so that another one tries the account next.
INSERT INTO mailglass.breakers AS b (account, reason, failures, open_until, failed_delivery, last_error)
VALUES (%(account)s, %(reason)s, 1,
        now() + make_interval(secs => COALESCE(CAST(%(reset)s AS double precision), CAST(%(base)s AS double precision))),
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
-- Half-open: one worker at a time may try one mail.
UPDATE mailglass.breakers SET probe_until = now() + make_interval(secs => %(seconds)s)
WHERE account = %(account)s AND open_until <= now() AND (probe_until IS NULL OR probe_until <= now())
RETURNING account

-- name: end_probe
-- The mail that was to try a half-open breaker has told nothing of the account: the next one may, at once.
UPDATE mailglass.breakers SET probe_until = NULL WHERE account = %(account)s

-- name: reset_breaker
-- The account works again.
DELETE FROM mailglass.breakers WHERE account = %(account)s AND open_until <= now() RETURNING account

-- name: close_breaker
-- Somebody says that the account works again, whatever was seen of it.
DELETE FROM mailglass.breakers WHERE account = %(account)s RETURNING account

-- name: wake_awaiting
-- Let mail that waits for an account, or for any, be due now: an account can be used again.
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
-- What stands against accounts: breakers, pauses, what was learnt of their rate, and how much mail waits for each.
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
-- Pause an account, or a tenant's mail, or one stream of it, with an entry in the audit.
WITH paused AS (
    INSERT INTO mailglass.pauses (account, tenant_id, stream, actor)
    VALUES (%(account)s, %(tenant)s, %(stream)s, %(actor)s)
    ON CONFLICT DO NOTHING RETURNING account
), audited AS (
    INSERT INTO mailglass.audit (id, actor, action, tenant_id, detail)
    SELECT CAST(%(audit_id)s AS uuid), %(actor)s, %(action)s, NULLIF(%(tenant)s, ''), CAST(%(detail)s AS json) FROM paused
    ON CONFLICT DO NOTHING
)
SELECT account FROM paused

-- name: unpause
-- End a pause, with an entry in the audit. Answers when it began.
WITH ended AS (
    DELETE FROM mailglass.pauses
    WHERE account = %(account)s AND tenant_id = %(tenant)s AND stream = %(stream)s RETURNING paused_at
), audited AS (
    INSERT INTO mailglass.audit (id, actor, action, tenant_id, detail)
    SELECT CAST(%(audit_id)s AS uuid), %(actor)s, %(action)s, NULLIF(%(tenant)s, ''), CAST(%(detail)s AS json) FROM ended
    ON CONFLICT DO NOTHING
)
SELECT paused_at FROM ended

-- name: pauses
-- What is paused.
SELECT account, tenant_id, stream, paused_at, actor FROM mailglass.pauses ORDER BY tenant_id, stream, account

-- name: spare_paused
-- The time that a pause lasted makes no mail of its lane too old: it counts as if it was to leave later by that long.
-- Mail in doubt keeps its age, by which its account remembers it.
UPDATE mailglass.deliveries d
SET scheduled_at = CAST(%(until)s AS timestamptz)
                   - (GREATEST(CAST(%(since)s AS timestamptz), d.scheduled_at) - d.scheduled_at)
WHERE d.tenant_id = %(tenant)s AND CAST(%(stream)s AS text) IN ('', d.stream) AND d.due_at IS NOT NULL
  AND NOT d.in_doubt AND d.scheduled_at < CAST(%(until)s AS timestamptz)

-- name: destinations
-- The recipient domains that an account waits for, with the seconds; 0 where one mail at a time may try.
SELECT domain, GREATEST(CAST(extract(epoch FROM until - now()) AS double precision), 0) AS seconds
FROM mailglass.destinations
WHERE account = %(account)s AND until > now() - make_interval(secs => %(tried)s)

-- name: slow_destinations
-- Let an account's mail to these domains wait: as long as was asked for, else twice as long each time. What is refused
-- during a wait was sent before it, and teaches nothing new.
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
-- These domains take an account's mail again.
DELETE FROM mailglass.destinations
WHERE account = %(account)s AND domain = ANY (CAST(%(domains)s AS text[]))
