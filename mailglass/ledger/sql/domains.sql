-- Domains: claim sending domains to check, and save what was seen of them.

-- name: claim_domains
-- Claim sending domains whose check is due, each for one worker, up to a number. Answer what was known of them. Run
-- twice, no other worker checks them within `answer_within`. Domains that nobody has checked for a month are forgotten.
WITH forgotten AS (
    DELETE FROM mailglass.domains
    WHERE due_at < now() - interval '30 days' AND domain <> ALL (CAST(%(domains)s AS text[]))
)
INSERT INTO mailglass.domains AS d (domain, token, due_at)
SELECT n.domain, CAST(%(token)s AS uuid), now() + make_interval(secs => %(answer_within)s)
FROM unnest(CAST(%(domains)s AS text[])) AS n (domain)
LEFT JOIN mailglass.domains k ON k.domain = n.domain
WHERE k.domain IS NULL OR k.due_at <= now()
ORDER BY n.domain LIMIT %(size)s
ON CONFLICT (domain) DO UPDATE SET token = excluded.token, due_at = excluded.due_at
WHERE d.due_at <= now()
RETURNING d.domain, CASE WHEN d.checked_at IS NOT NULL THEN d.statuses END AS statuses

-- name: save_domain
-- Keep what a check saw of a domain, and when it is due again; only for whoever claimed it last. It answers a row if
-- that is so. Run twice, it keeps the same.
UPDATE mailglass.domains
SET since = CASE WHEN status IS DISTINCT FROM %(status)s THEN now() ELSE since END,
    status = %(status)s, statuses = CAST(%(statuses)s AS jsonb), summary = CAST(%(summary)s AS jsonb),
    checked_at = now(), due_at = now() + make_interval(secs => %(again_after)s)
WHERE domain = %(domain)s AND token = CAST(%(token)s AS uuid)
RETURNING domain

-- name: list_domains
-- List what is known of these domains.
SELECT domain, status, statuses, summary, since, checked_at, due_at
FROM mailglass.domains WHERE domain = ANY (CAST(%(domains)s AS text[])) ORDER BY domain
