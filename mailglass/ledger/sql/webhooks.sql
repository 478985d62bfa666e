-- Webhooks: keep them, claim them, find their deliveries, and apply what they say.

-- name: store_webhooks
-- Store verified webhooks, and answer which were new or refused. A webhook that is already there, or twice among these,
-- is left alone. Rows are written in the order of their keys, so that two statements never wait for each other in a
-- circle. A proof that does not cover its body is bound to the first body it comes with. With another body it is
-- refused.
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
-- Delete proofs that have expired: none is valid for longer than a day before or after its own time.
DELETE FROM mailglass.webhook_proofs WHERE proof IN (
    SELECT proof FROM mailglass.webhook_proofs WHERE used_at < now() - interval '3 days'
    ORDER BY used_at LIMIT %(size)s FOR UPDATE SKIP LOCKED)
RETURNING proof

-- name: claim_webhooks
-- Lease stored webhooks, oldest first, up to a number and a size in bytes, and answer whether more wait. A webhook that
-- was claimed before may have ended its worker. It is claimed alone, so that it spends no other's attempts. Webhooks
-- before a mark are not walked over again. See mailglass.ledger.low_water.
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
-- Record the results of claimed webhooks: processed, dead with its reason, or received again for a later try.
UPDATE mailglass.webhook_events w
SET status = f.status, reason = f.reason,
    processed_at = CASE WHEN f.status <> 'received' THEN now() END,
    lease_expires_at = CASE WHEN f.status = 'received' THEN now() + make_interval(secs => %(retry_after)s) END
FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(statuses)s AS text[]), CAST(%(reasons)s AS text[]))
    AS f (id, status, reason)
WHERE w.id = f.id AND w.status = 'received'

-- name: webhooks_waiting
-- Check for stored webhooks that wait to be processed.
SELECT EXISTS (
    SELECT 1 FROM mailglass.webhook_events
    WHERE status = 'received' AND (lease_expires_at IS NULL OR lease_expires_at <= now())
      AND id >= CAST(%(after)s AS uuid)) AS waiting

-- name: replay_webhooks
-- Queue dead webhooks again.
UPDATE mailglass.webhook_events SET status = 'received', reason = NULL, attempts = 0, lease_expires_at = NULL
WHERE id = ANY (CAST(%(ids)s AS uuid[])) AND status = 'dead'
RETURNING id

-- name: match
-- Find the deliveries that events name, by our id or by the account's own message id. Our id counts only from an
-- account that attempted the delivery: one account's webhook says nothing about another's mail. Where the webhook's
-- tenant is known, it says nothing about another tenant's mail either. Several deliveries of one call may share a
-- provider's id. Two of them are answered, the event's recipient first.
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
-- Append providers' events, and answer which were new. An event that is already there is left alone.
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
-- Read events as the ledger has them. They stand where a second arrival was left alone.
SELECT * FROM mailglass.events WHERE id = ANY (CAST(%(ids)s AS uuid[]))

-- name: project
-- Join projections into their deliveries. It is the same join as `mailglass.ledger.events.join`, so order does not
-- matter. Evidence of acceptance settles a delivery as sent that waits for evidence, or that is queued or claimed to be
-- sent again. A mark that comes later finds no lease.
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
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, status, reason, account,
                                  attempt)
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

-- name: orphans_waiting
-- Check for webhooks that came before the provider id that they name was recorded.
SELECT EXISTS (SELECT 1 FROM mailglass.orphans)
   AND EXISTS (SELECT 1 FROM mailglass.orphans
               WHERE provider_message_id = ANY (CAST(%(provider_message_ids)s AS text[]))) AS waiting

-- name: linkable_orphans
-- List orphans whose delivery is known by now, by the rule of `match`: a page after an id.
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
-- Delete orphans that are linked.
DELETE FROM mailglass.orphans WHERE event_id = ANY (CAST(%(event_ids)s AS uuid[]))
