-- Settle: take expired leases back, and end doubts by evidence, by search or by hand.

-- name: sweep
-- Take back expired leases, and settle uncertain deliveries whose hold is over: the table below says how. Evidence that
-- came while a delivery was being sent settles it as sent, whatever the policy. Nothing is resent once the stream's
-- attempts are used up. An account that loses every answer would mail for ever. A delivery that was being sent is
-- queued to be asked about again, where its account takes the same delivery twice as once and still remembers it.
-- Claims that end without a verdict are counted, and claims of a single delivery apart. After three of these the
-- delivery is held, unless other deliveries end their claims in the same way. A crash may take other claims of its
-- process along. Deliveries to be claimed alone are due at different moments, so that they do not meet again. Run again
-- after its answer was lost, it moves others, under event ids that the first run did not use. Leases that ended before
-- a mark are not walked over again. Its moment is answered in any case. See mailglass.ledger.low_water.
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
           e.status <> 'claimed' AND mailglass.has_evidence(e.id, CAST(%(evidence)s AS text[])) AS accepted
    FROM expired e LEFT JOIN policy p ON p.stream = e.stream
), situation AS (
    SELECT k.id, k.position, k.before, CASE WHEN k.accepted THEN 0 ELSE k.hold END AS hold,
           CASE k.before
               WHEN 'claimed' THEN
                   CASE WHEN k.claimed_alone AND k.crashes_alone >= 3 AND mailglass.crashes_by_itself(k.id)
                        THEN 'crashed_alone' ELSE 'claim_lost' END
               WHEN 'sending' THEN
                   CASE WHEN k.more AND NOT k.accepted AND NOT k.expired AND EXISTS (
                            SELECT FROM remembering r
                            WHERE r.account = k.account AND COALESCE(k.age < r.memory, true))
                        THEN 'answer_askable' ELSE 'answer_lost' END
               ELSE
                   CASE WHEN k.accepted THEN 'proved' WHEN k.expired THEN 'hold_over_expired'
                        WHEN k.resends THEN 'hold_over_resend' ELSE 'hold_over' END
               END AS name
    FROM known k
), rule (situation, after, kind, reason, crashes, in_doubt, ask_again) AS (VALUES
    -- the event and its reason, the crash counts, and both marks of doubt, NULL where they stay as they are
    ('claim_lost', 'queued', 'released', 'lease_expired', 'count', NULL, NULL),
    ('crashed_alone', 'held', 'held', 'crashed_worker', 'clear', NULL, false),
    ('answer_askable', 'queued', 'uncertain', 'asked_again', 'count', true, true),
    ('answer_lost', 'uncertain', 'uncertain', 'worker_lost', 'count', true, false),
    ('proved', 'sent', 'settled', 'webhook_evidence', 'clear', false, false),
    ('hold_over_expired', 'failed', 'failed', 'expired', 'clear', true, false),
    ('hold_over_resend', 'queued', 'resent', 'no_evidence', 'keep', true, false),
    ('hold_over', 'held', 'held', 'no_evidence', 'clear', true, false)
), decided AS (
    SELECT s.id, s.position, s.before, s.hold, r.after, r.kind, r.reason, r.crashes, r.in_doubt, r.ask_again
    FROM situation s JOIN rule r ON r.situation = s.name
), moved AS (
    UPDATE mailglass.deliveries d
    SET status = c.after, lease_token = NULL,
        due_at = CASE WHEN c.after = 'queued' THEN now() + make_interval(secs => CASE
            WHEN c.crashes = 'count' AND d.crashes > 0 THEN random() * %(spread)s ELSE 0 END) END,
        crashes = CASE c.crashes WHEN 'clear' THEN 0 WHEN 'count' THEN LEAST(d.crashes + 1, 1000) ELSE d.crashes END,
        crashes_alone = CASE
            WHEN c.crashes = 'clear' THEN 0
            WHEN c.before = 'claimed' AND d.claimed_alone THEN LEAST(d.crashes_alone + 1, 1000)
            ELSE d.crashes_alone END,
        lease_expires_at = CASE WHEN c.after = 'uncertain' THEN now() + make_interval(secs => c.hold) END,
        search_at = CASE WHEN c.after = 'uncertain' THEN now() END,
        search_account = CASE WHEN c.after = 'uncertain' THEN d.account END,
        in_doubt = COALESCE(c.in_doubt, d.in_doubt),
        awaits_account = CASE WHEN c.after = 'queued' THEN d.awaits_account END,
        ask_again = COALESCE(c.ask_again, d.ask_again),
        last_error = CASE WHEN c.after = 'sent' THEN d.last_error ELSE c.reason END,
        sent_at = CASE WHEN c.after = 'sent' THEN LEAST(d.sent_at, now()) ELSE d.sent_at END
    FROM decided c WHERE d.id = c.id
    RETURNING d.id, d.tenant_id, d.queue, d.stream, d.account, d.attempts, c.position, c.after, c.kind, c.reason
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason, account,
                                  attempt)
    SELECT (CAST(%(event_ids)s AS uuid[]))[m.position + CASE WHEN %(again)s THEN %(size)s ELSE 0 END],
           m.id, m.tenant_id, m.kind, 'engine', now(), m.after, m.reason, m.account, m.attempts
    FROM moved m
)
SELECT m.id, m.queue, m.tenant_id, m.stream, m.kind, n.looked_at
FROM (SELECT now() AS looked_at) n LEFT JOIN moved m ON true

-- name: accounts_in_doubt
-- List accounts, up to a hundred or so, of deliveries whose lease has ended while they were being sent, and of those
-- that are searched for.
(SELECT DISTINCT e.account FROM (
    SELECT account FROM mailglass.deliveries WHERE lease_expires_at <= now() AND status = 'sending' LIMIT 1000) e
 LIMIT 100)
UNION
(SELECT DISTINCT d.search_account FROM (
    SELECT search_account FROM mailglass.deliveries WHERE search_at IS NOT NULL LIMIT 1000) d
 LIMIT 100)

-- name: searches_due
-- List the accounts that have uncertain deliveries to search for. Each account's provider knows of a mail after a lag.
SELECT s.account
FROM unnest(CAST(%(accounts)s AS text[]), CAST(%(lags)s AS double precision[])) AS s (account, lag)
WHERE EXISTS (SELECT 1 FROM mailglass.deliveries d
              WHERE d.search_account = s.account AND d.search_at <= now() - make_interval(secs => s.lag))

-- name: claim_searches
-- Take uncertain deliveries of one account to search for them, the longest waiting first. No other worker searches for
-- them until their next turn. It comes after twice as long each time, and once more just before the hold ends. The hold
-- does not end during a search, so nothing is resent that is about to be found.
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
-- Queue uncertain deliveries again whose provider says that it never took them. It leaves those that were attempted
-- since the provider was asked, and those whose stream's attempts are used up. Another account's answer may still be
-- missing.
WITH absent AS MATERIALIZED (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(attempts)s AS integer[]), CAST(%(most)s AS integer[]),
                         CAST(%(event_ids)s AS uuid[])) AS a (id, attempts, most, event_id)
), picked AS MATERIALIZED (
    SELECT d.id, a.event_id FROM absent a JOIN mailglass.deliveries d ON d.id = a.id
    WHERE d.status = 'uncertain' AND d.attempts = a.attempts AND a.attempts < a.most
      AND NOT mailglass.has_evidence(d.id, CAST(%(evidence)s AS text[]))
    ORDER BY d.id FOR UPDATE OF d
), moved AS (
    UPDATE mailglass.deliveries d
    SET status = 'queued', due_at = now(), lease_expires_at = NULL, search_at = NULL, search_account = NULL,
        in_doubt = mailglass.in_other_doubt(d.id, d.search_account, '-infinity'), last_error = 'not_found'
    FROM picked p WHERE d.id = p.id
    RETURNING d.id, d.tenant_id, d.queue, d.stream, d.account, d.attempts, p.event_id
), noted AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason, account,
                                  attempt)
    SELECT event_id, id, tenant_id, 'released', 'engine', now(), 'queued', 'not_found', account, attempts FROM moved
)
SELECT id, queue, tenant_id, stream FROM moved

-- name: settle
-- Settle deliveries that are in doubt and that no worker has: as sent, to be sent again, or given up. Only the first
-- ends the doubt. An actor gets an entry in the audit. Run again after its answer was lost, it finds its own events.
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(event_ids)s AS uuid[]),
                         CAST(%(provider_message_ids)s AS text[])) AS w (id, event_id, provider_message_id)
), rule (how, after, kind) AS (VALUES
    ('sent', 'sent', 'settled'),
    ('resend', 'queued', 'resent'),
    ('give_up', 'failed', 'failed')
), picked AS MATERIALIZED (
    SELECT d.id, w.event_id, w.provider_message_id, r.after, r.kind
    FROM wanted w JOIN mailglass.deliveries d ON d.id = w.id JOIN rule r ON r.how = CAST(%(how)s AS text)
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
    SELECT a.*
    FROM (SELECT array_agg(tenant_id) AS tenants FROM moved) m
    CROSS JOIN LATERAL mailglass.audit_entry(
        CAST(%(audit_id)s AS uuid), CAST(%(actor)s AS text), 'deliveries.settle.' || CAST(%(how)s AS text), m.tenants,
        CAST(%(detail)s AS jsonb)) a
)
SELECT id, queue, tenant_id, stream FROM moved
UNION ALL
SELECT id, queue, tenant_id, stream FROM mailglass.moved_by(CAST(%(event_ids)s AS uuid[]))
