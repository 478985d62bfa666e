-- Suppressions: add, remove and look up entries, and keep them in step with providers' lists.

-- name: suppress
-- Add suppressions by the rule of the function, and answer which were written. An entry that had an end gets a new id:
-- as it was it has not been offered to providers.
SELECT n.id
FROM mailglass.suppress_at(
    CAST(%(ids)s AS uuid[]), CAST(%(tenants)s AS text[]), CAST(%(scopes)s AS text[]), CAST(%(values)s AS text[]),
    CAST(%(streams)s AS text[]), CAST(%(reasons)s AS text[]), CAST(%(sources)s AS text[]),
    CAST(%(accounts)s AS text[]), CAST(%(expires)s AS timestamptz[]), CAST(%(moments)s AS timestamptz[])) AS n (id)

-- name: count_suppressed
-- Count the addresses that `suppress` would leave as they are: by an entry that stands, or because a person removed
-- them since. Of several entries for one, all must be left.
SELECT count(*) AS count
FROM (
    SELECT FROM unnest(CAST(%(tenants)s AS text[]), CAST(%(scopes)s AS text[]), CAST(%(values)s AS text[]),
                       CAST(%(streams)s AS text[]), CAST(%(reasons)s AS text[]), CAST(%(expires)s AS timestamptz[]),
                       CAST(%(moments)s AS timestamptz[]))
        AS n (tenant_id, scope, value, stream, reason, expires_at, moment)
    GROUP BY n.tenant_id, n.scope, n.value, n.stream
    HAVING bool_and(EXISTS (
        SELECT FROM mailglass.suppressions s
        WHERE s.value = n.value AND s.tenant_id = n.tenant_id AND s.scope = n.scope AND s.stream = n.stream
          AND NOT (s.reason <> 'complaint' AND n.reason = 'complaint')
          AND COALESCE(s.expires_at, 'infinity') > now()
          AND COALESCE(s.expires_at, 'infinity') >= COALESCE(n.expires_at, 'infinity'))
       OR EXISTS (
        SELECT FROM mailglass.suppression_removals r
        WHERE r.value = n.value AND r.tenant_id = n.tenant_id AND r.scope = n.scope AND r.stream = n.stream
          AND r.removed_at >= n.moment))) c

-- name: unsuppress
-- Remove a suppression, and remember that it was removed. A complaint stays unless it is forced.
WITH removed AS (
    DELETE FROM mailglass.suppressions
    WHERE value = %(value)s AND tenant_id = %(tenant)s AND scope = %(scope)s AND stream = %(stream)s
      AND (CAST(%(force)s AS boolean) OR reason <> 'complaint')
    RETURNING id, value, tenant_id, scope, stream
), remembered AS (
    INSERT INTO mailglass.suppression_removals (value, tenant_id, scope, stream)
    SELECT value, tenant_id, scope, stream FROM removed
    ON CONFLICT (value, tenant_id, scope, stream) DO UPDATE SET removed_at = excluded.removed_at
)
SELECT id FROM removed

-- name: unsuppress_these
-- Remove suppressions by their ids, and remember that they were removed. One that was replaced since has another id.
WITH picked AS MATERIALIZED (
    -- locked in the order in which entries are added, so that two statements wait for each other in one order
    SELECT id FROM mailglass.suppressions
    WHERE id = ANY (CAST(%(ids)s AS uuid[])) AND (CAST(%(force)s AS boolean) OR reason <> 'complaint')
    ORDER BY value, tenant_id, scope, stream FOR UPDATE
), removed AS (
    DELETE FROM mailglass.suppressions s USING picked p WHERE s.id = p.id
    RETURNING s.id, s.value, s.tenant_id, s.scope, s.stream
), remembered AS (
    INSERT INTO mailglass.suppression_removals (value, tenant_id, scope, stream)
    SELECT value, tenant_id, scope, stream FROM removed ORDER BY value, tenant_id, scope, stream
    ON CONFLICT (value, tenant_id, scope, stream) DO UPDATE SET removed_at = excluded.removed_at
)
SELECT id FROM removed

-- name: suppressions_after
-- List entries in the order in which they were made, after one of them.
SELECT s.id, s.tenant_id, s.scope, s.value, s.stream, s.reason, s.source, s.account, s.created_at, s.expires_at
FROM mailglass.suppressions_where(
    CAST(%(tenant)s AS text), CAST(%(scope)s AS text), CAST(%(reason)s AS text), CAST(%(source)s AS text),
    CAST(%(stream)s AS text), CAST(%(account)s AS text), CAST(%(domain)s AS text),
    CAST(%(created_after)s AS timestamptz), CAST(%(created_before)s AS timestamptz),
    CAST(%(expires_after)s AS timestamptz), CAST(%(expires_before)s AS timestamptz), CAST(%(live)s AS boolean)) s
WHERE s.id > CAST(%(after)s AS uuid)
ORDER BY s.id LIMIT CAST(%(size)s AS integer)

-- name: suppressions_before
-- List entries from the newest to the oldest, before one of them.
SELECT s.id, s.tenant_id, s.scope, s.value, s.stream, s.reason, s.source, s.account, s.created_at, s.expires_at
FROM mailglass.suppressions_where(
    CAST(%(tenant)s AS text), CAST(%(scope)s AS text), CAST(%(reason)s AS text), CAST(%(source)s AS text),
    CAST(%(stream)s AS text), CAST(%(account)s AS text), CAST(%(domain)s AS text),
    CAST(%(created_after)s AS timestamptz), CAST(%(created_before)s AS timestamptz),
    CAST(%(expires_after)s AS timestamptz), CAST(%(expires_before)s AS timestamptz), CAST(%(live)s AS boolean)) s
WHERE s.id < CAST(%(before)s AS uuid)
ORDER BY s.id DESC LIMIT CAST(%(size)s AS integer)

-- name: count_suppressions
-- Count entries by a filter.
SELECT count(*) AS count
FROM mailglass.suppressions_where(
    CAST(%(tenant)s AS text), CAST(%(scope)s AS text), CAST(%(reason)s AS text), CAST(%(source)s AS text),
    CAST(%(stream)s AS text), CAST(%(account)s AS text), CAST(%(domain)s AS text),
    CAST(%(created_after)s AS timestamptz), CAST(%(created_before)s AS timestamptz),
    CAST(%(expires_after)s AS timestamptz), CAST(%(expires_before)s AS timestamptz), CAST(%(live)s AS boolean)) s

-- name: suppression
-- Read one entry by its id.
SELECT id, tenant_id, scope, value, stream, reason, source, account, created_at, expires_at
FROM mailglass.suppressions WHERE id = CAST(%(id)s AS uuid)

-- name: suppressions_of
-- List the live entries that stop a tenant's mail to an address.
SELECT * FROM mailglass.suppressions_of(%(tenant)s, NULL, %(key)s, %(domain)s) ORDER BY scope, stream

-- name: suppressions_of_value
-- List all entries of an address or domain, ended ones too.
SELECT id, tenant_id, scope, value, stream, reason, source, account, created_at, expires_at
FROM mailglass.suppressions
WHERE value = %(value)s AND (CAST(%(tenant)s AS text) IS NULL OR tenant_id IN (CAST(%(tenant)s AS text), '*'))
ORDER BY tenant_id, scope, stream

-- name: blocked_copies
-- List those of these cc and bcc addresses that are suppressed.
SELECT a.key FROM unnest(CAST(%(keys)s AS text[]), CAST(%(domains)s AS text[])) AS a (key, domain)
WHERE EXISTS (SELECT FROM mailglass.suppressions_of(%(tenant)s, %(stream)s, a.key, a.domain))

-- name: doubt_addresses
-- Note refusals that leave open whether an address is gone for good, in any order. It answers which addresses were
-- refused so a day or more apart. What is older than thirty days does not count.
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
-- Record that people left a stream, at the latest of the times by the provider's clock. An entry of another reason that
-- ends is replaced, so that the person gets no mail after its end.
INSERT INTO mailglass.suppressions AS s (id, tenant_id, scope, value, stream, reason, source, account, created_at)
SELECT u.id, u.tenant_id, 'address_stream', u.value, u.stream, 'unsubscribe', 'webhook', u.account, u.moment
FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(tenants)s AS text[]), CAST(%(values)s AS text[]),
            CAST(%(streams)s AS text[]), CAST(%(accounts)s AS text[]), CAST(%(moments)s AS timestamptz[]))
    AS u (id, tenant_id, value, stream, account, moment)
WHERE NOT EXISTS (
    SELECT FROM mailglass.suppression_removals r
    WHERE r.value = u.value AND r.tenant_id = u.tenant_id AND r.scope = 'address_stream' AND r.stream = u.stream
      AND r.removed_at >= u.moment)
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
-- Remove unsubscriptions that an account told of, where it says that the person has subscribed again since.
DELETE FROM mailglass.suppressions s
USING unnest(CAST(%(tenants)s AS text[]), CAST(%(values)s AS text[]), CAST(%(streams)s AS text[]),
             CAST(%(accounts)s AS text[]), CAST(%(moments)s AS timestamptz[]))
    AS r (tenant_id, value, stream, account, moment)
WHERE s.value = r.value AND s.tenant_id = r.tenant_id AND s.scope = 'address_stream' AND s.stream = r.stream
  AND s.reason = 'unsubscribe' AND s.source IN ('webhook', 'sync') AND s.account = r.account
  AND s.created_at <= r.moment
RETURNING s.id

-- name: mirror_suppressions
-- Add what a provider lists, and answer what was written. The strongest reason and the latest time stay, so neither
-- order nor repetition matters. What an operator entered gives way to a stronger reason only. What a person removed
-- comes back only with a later moment. Where the provider says none, it stays away for a week.
INSERT INTO mailglass.suppressions AS s (id, tenant_id, scope, value, stream, reason, source, account, created_at)
SELECT n.id, n.tenant_id, n.scope, n.value, n.stream, n.reason, 'sync', n.account,
       COALESCE(n.moment, k.created_at, now())
FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(tenants)s AS text[]), CAST(%(scopes)s AS text[]),
            CAST(%(values)s AS text[]), CAST(%(streams)s AS text[]), CAST(%(reasons)s AS text[]),
            CAST(%(accounts)s AS text[]), CAST(%(moments)s AS timestamptz[]))
    AS n (id, tenant_id, scope, value, stream, reason, account, moment)
LEFT JOIN mailglass.suppressions k
    ON k.value = n.value AND k.tenant_id = n.tenant_id AND k.scope = n.scope AND k.stream = n.stream
WHERE NOT EXISTS (
    SELECT FROM mailglass.suppression_removals r
    WHERE r.value = n.value AND r.tenant_id = n.tenant_id AND r.scope = n.scope AND r.stream = n.stream
      AND r.removed_at >= COALESCE(n.moment, now() - interval '7 days'))
ORDER BY n.value, n.tenant_id, n.scope, n.stream
ON CONFLICT (value, tenant_id, scope, stream) DO UPDATE
SET id = CASE WHEN s.expires_at IS NULL THEN s.id ELSE excluded.id END,
    reason = excluded.reason, source = excluded.source, account = excluded.account, expires_at = NULL,
    created_at = excluded.created_at
WHERE s.expires_at <= now()
   OR mailglass.reason_rank(excluded.reason) > mailglass.reason_rank(s.reason)
   OR (s.reason = excluded.reason AND s.source NOT IN ('manual', 'import')
       AND (s.created_at < excluded.created_at OR s.expires_at IS NOT NULL))
RETURNING id

-- name: count_unmirrored
-- Count the addresses of these that no live entry with the same or a stronger reason covers.
SELECT count(DISTINCT (n.tenant_id, n.scope, n.value, n.stream)) AS count
FROM unnest(CAST(%(tenants)s AS text[]), CAST(%(scopes)s AS text[]), CAST(%(values)s AS text[]),
            CAST(%(streams)s AS text[]), CAST(%(reasons)s AS text[]), CAST(%(accounts)s AS text[]),
            CAST(%(moments)s AS timestamptz[]))
    AS n (tenant_id, scope, value, stream, reason, account, moment)
WHERE NOT EXISTS (
    SELECT 1 FROM mailglass.suppressions s
    WHERE s.value = n.value AND s.tenant_id = n.tenant_id AND s.scope = n.scope AND s.stream = n.stream
      AND (s.expires_at IS NULL OR s.expires_at > now())
      AND mailglass.reason_rank(s.reason) >= mailglass.reason_rank(n.reason))
  AND NOT EXISTS (
    SELECT FROM mailglass.suppression_removals r
    WHERE r.value = n.value AND r.tenant_id = n.tenant_id AND r.scope = n.scope AND r.stream = n.stream
      AND r.removed_at >= COALESCE(n.moment, now() - interval '7 days'))

-- name: pushable_suppressions
-- List lasting entries on whole addresses that bind a tenant and did not come from this account's provider, by id.
SELECT id, value, reason, created_at FROM mailglass.suppressions
WHERE id > CAST(%(after)s AS uuid) AND id < CAST(%(before)s AS uuid) AND tenant_id IN (%(tenant)s, '*')
  AND scope = 'address' AND expires_at IS NULL AND account IS DISTINCT FROM %(account)s
ORDER BY id LIMIT %(size)s

-- name: sync_state
-- Read how far an account's suppression list is read and written.
SELECT cursor, synced_at, last_error FROM mailglass.suppression_sync WHERE account = %(account)s

-- name: save_sync
-- Save how far an account's suppression list is read and written.
INSERT INTO mailglass.suppression_sync AS s (account, cursor, synced_at, last_error)
VALUES (%(account)s, %(cursor)s, CASE WHEN %(complete)s THEN now() END, %(last_error)s)
ON CONFLICT (account) DO UPDATE
SET cursor = excluded.cursor, synced_at = COALESCE(excluded.synced_at, s.synced_at), last_error = excluded.last_error
