-- Claim: what a worker does with the deliveries of one lane, from claim to record.

-- name: claim
-- Lease due deliveries of one lane, most urgent first, with their content and the suppression in the way. It leases up
-- to a number and a size in bytes, but at least one, and answers whether the size left some behind. Content counts
-- twice its size in the table, where text is packed and attachments hardly are. To unpack it only to measure it would
-- cost as much as the claim. Each priority is an index range of its own, so deliveries that are due later are never
-- walked over. Run again after its answer was lost, it answers what it had leased. The commit does not wait for the
-- disk. A claim that is lost with the server leaves its deliveries queued, and its mark finds no lease. Deliveries of a
-- claim that ended without a verdict are claimed apart from the rest: up to eight that were in one such claim, or a
-- single one that was in several. The caller says which kind goes first where both are due, so that neither waits for
-- the other's end. A paused lane gets nothing. Each priority is walked from a mark on, below which nothing was left.
-- While something holds the vacuum horizon, the index keeps an entry of each delivery that was drained. A writer that
-- has ended may have left something below, so then the walk starts at the beginning. The first row tells of the claim,
-- also where nothing is leased: its moment, its snapshot, its transaction, and whether all that was due was seen. See
-- mailglass.ledger.low_water.
WITH unhurried AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), paused AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM mailglass.pauses z WHERE z.tenant_id = %(tenant)s AND z.stream IN ('', %(stream)s)
                                                    AND z.account = '') AS lane
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
    WHERE NOT (SELECT lane FROM paused)
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
      AND NOT (SELECT lane FROM paused)
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
    SELECT w.id, w.position, w.due_at, m.content, m.frozen,
           sum(2 * pg_column_size(m.content)) OVER (ROWS UNBOUNDED PRECEDING) AS bytes
    FROM wanted w LEFT JOIN mailglass.messages m ON m.id = w.message_id
), claimed AS (
    UPDATE mailglass.deliveries d
    SET status = 'claimed', due_at = NULL, lease_token = CAST(%(token)s AS uuid),
        lease_expires_at = now() + make_interval(secs => %(lease)s),
        claimed_alone = NOT EXISTS (SELECT FROM wanted w WHERE w.position > 1)
    FROM measured p WHERE d.id = p.id AND d.status IN ('queued', 'claimed')
      AND (p.position = 1 OR COALESCE(p.bytes, 0) <= %(max_bytes)s)
    RETURNING d.id, d.message_id, d.recipient, d.recipient_name, d.recipient_domain, d.account, d.attempts,
              d.scheduled_at, d.expires_at, d.priority, d.in_doubt, d.ask_again, d.awaits_account, d.deferrals,
              d.refusal, p.due_at, p.content, p.frozen
)
SELECT c.id, c.message_id, c.recipient, c.recipient_name, c.account, c.attempts, c.scheduled_at, c.priority,
       COALESCE(c.expires_at <= now(), false) AS expired,
       date_part('epoch', now() - c.scheduled_at) AS age, date_part('epoch', c.expires_at - now()) AS lifetime,
       CAST(c.content AS text) AS content, COALESCE(c.frozen, false) AS frozen,
       (SELECT min(b.scope) FROM mailglass.suppressions_of(
            %(tenant)s, %(stream)s, lower(c.recipient COLLATE "C"), c.recipient_domain) b) AS scope,
       c.in_doubt, c.ask_again, c.awaits_account, c.deferrals, c.refusal, c.due_at, NULL AS looked_at,
       NULL AS snapshot, NULL AS own_writer, NULL AS from_start, NULL AS left_behind, NULL AS saw_all
FROM claimed c
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, now(), CAST(pg_current_snapshot() AS text), CAST(pg_current_xact_id_if_assigned() AS text),
       (SELECT needed FROM from_start),
       -- others may be due after suspects, and suspects after others
       o.seen > o.leased OR EXISTS (SELECT FROM suspect),
       CAST(%(cap)s AS integer) IS NULL AND NOT EXISTS (SELECT FROM held)
           AND NOT (%(suspects_first)s AND EXISTS (SELECT FROM suspect)) AND NOT (SELECT lane FROM paused)
           AND o.seen < %(size)s AND o.seen <= o.leased
FROM unhurried CROSS JOIN (
    SELECT (SELECT count(*) FROM due) AS seen, count(*) AS leased FROM claimed) o

-- name: claim_these
-- Lease these deliveries whatever their due time, unless another worker has them. It is for sending in the caller's own
-- process. Run again after its answer was lost, it answers what it had leased.
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
-- Note that this worker knows no route for what it has claimed, and answer for how many seconds none has known one.
UPDATE mailglass.deliveries SET unplaced_since = COALESCE(unplaced_since, now())
WHERE id = ANY (CAST(%(ids)s AS uuid[])) AND status = 'claimed'
RETURNING id, CAST(date_part('epoch', now() - unplaced_since) AS double precision) AS seconds

-- name: freeze
-- Keep rendered content before the first attempt, so that every attempt sends the same. The first writer wins. One that
-- waited for it still sees the message as it was, and the answer says so: run again, it sees what stands.
WITH rendered AS (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(contents)s AS text[])) AS r (id, content)
), kept AS (
    UPDATE mailglass.messages m SET content = CAST(r.content AS json), frozen = true
    FROM rendered r WHERE m.id = r.id AND NOT m.frozen
    RETURNING m.id, m.content
)
SELECT r.id, CAST(COALESCE(k.content, m.content) AS text) AS content, k.id IS NOT NULL OR m.frozen AS frozen
FROM rendered r LEFT JOIN kept k ON k.id = r.id LEFT JOIN mailglass.messages m ON m.id = r.id

-- name: drop_copies
-- Keep content without its suppressed copies, with an event for each delivery, so that every later attempt sends the
-- same.
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

-- name: note
-- Note how an account's requests differ from the deliveries, once for each delivery, account and reason.
INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, reason, account)
SELECT l.event_id, l.id, %(tenant)s, %(kind)s, 'engine', now(), l.reason, %(account)s
FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(event_ids)s AS uuid[]), CAST(%(reasons)s AS text[]))
    AS l (id, event_id, reason)
ON CONFLICT DO NOTHING

-- name: mark
-- Commit that the provider call for these deliveries is about to begin. Only a live lease of this token marks anything.
-- What has expired is not marked, and `expire` ends it. IS TRUE lets the plan find deliveries by their keys, and not by
-- walking over all live leases.
UPDATE mailglass.deliveries d
SET status = 'sending', attempts = attempts + CASE status WHEN 'claimed' THEN 1 ELSE 0 END,
    account = %(account)s, provider = %(provider)s
FROM unnest(CAST(%(ids)s AS uuid[])) WITH ORDINALITY AS i (id, position)
WHERE d.id = i.id AND d.lease_token = CAST(%(token)s AS uuid)
  AND d.status IN ('claimed', 'sending') AND (d.lease_expires_at > now()) IS TRUE
  AND (d.status = 'sending' OR (d.expires_at <= now()) IS NOT TRUE)
RETURNING i.position, d.attempts

-- name: expire
-- Fail claimed deliveries that expired before their mark, with an event for each. One that is to be asked about again
-- may have been sent. It is queued, and its next claim decides.
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
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason, account,
                                  attempt)
    SELECT event_id, id, tenant_id, 'failed', 'engine', now(), 'failed', 'expired', account, attempts
    FROM moved WHERE status = 'failed'
)
SELECT id FROM moved WHERE status = 'failed'

-- name: record
-- Record the verdicts on leased deliveries, with one event for each. Only the holder of the lease writes. What verdicts
-- have in common is given once, and each refers to it by number. A provider's event may prove acceptance before the
-- answer was given up or while another attempt failed. Then the delivery is uncertain with no wait, and the sweep
-- settles it as sent. A delivery that may have been sent stays in doubt until it is sent or its account answers the
-- question. Where another account's answer is missing too, it is held. One that is to be asked about again stays so
-- while it is queued, whatever it waits for in between. Recipients that the provider refuses are suppressed in the same
-- transaction, whoever holds the lease. Refused copies are events of their mail.
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
    SELECT *, (v.status = 'uncertain' OR (v.kind IN ('attempted', 'failed') AND v.status <> 'sent'))
              AND mailglass.has_evidence(o.id, CAST(%(evidence)s AS text[])) AS accepted,
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
           now() + make_interval(secs => COALESCE(delay, 0)) AS later,
           -- waiting or given back unsent, it may end the next worker as well
           NOT (status = 'queued' AND kind IS DISTINCT FROM 'attempted') AS tells,
           CASE WHEN accepted THEN 'uncertain'
                WHEN in_other_doubt AND starts_with(refusal, 'recipient_') THEN 'failed'
                WHEN in_other_doubt THEN 'held'
                ELSE status END AS status
    FROM outcome
), moved AS (
    UPDATE mailglass.deliveries d
    SET status = o.status,
        due_at = CASE WHEN o.status = 'queued' THEN o.later END,
        waiting = o.status = 'queued' AND o.later > statement_timestamp(),
        lease_token = NULL,
        lease_expires_at = CASE
            WHEN o.status <> 'uncertain' THEN NULL
            WHEN o.accepted THEN now()
            ELSE o.later END,
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
    SELECT n.id
    FROM mailglass.suppress(
        CAST(%(refused_ids)s AS uuid[]), CAST(%(refused_tenants)s AS text[]), CAST(%(refused_scopes)s AS text[]),
        CAST(%(refused_values)s AS text[]), CAST(%(refused_streams)s AS text[]),
        CAST(%(refused_reasons)s AS text[]), CAST(%(refused_sources)s AS text[]),
        CAST(%(refused_accounts)s AS text[]), CAST(%(refused_expires)s AS timestamptz[])) AS n (id)
    WHERE CAST(%(refused_ids)s AS uuid[]) <> '{}'
)
SELECT position, false AS suppressed FROM moved
UNION ALL
SELECT NULL, true FROM suppressed
