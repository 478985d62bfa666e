-- Secrets: note when each was used, and list it.

-- name: note_secrets
-- Note that secrets are known, were used or were refused. A use is written at most once in fifty minutes, whichever
-- process saw it. Run twice, it notes the same.
INSERT INTO mailglass.secret_uses AS s (account, fingerprint, used_at, refused_at)
SELECT n.account, n.fingerprint, CASE WHEN n.used THEN now() END, CASE WHEN n.refused THEN now() END
FROM unnest(CAST(%(accounts)s AS text[]), CAST(%(fingerprints)s AS bytea[]), CAST(%(used)s AS boolean[]),
            CAST(%(refused)s AS boolean[])) AS n (account, fingerprint, used, refused)
ORDER BY n.account, n.fingerprint
ON CONFLICT (account, fingerprint) DO UPDATE
SET used_at = coalesce(excluded.used_at, s.used_at), refused_at = coalesce(excluded.refused_at, s.refused_at)
WHERE excluded.refused_at IS NOT NULL
   OR (excluded.used_at IS NOT NULL
       AND (s.used_at IS NULL OR s.used_at < now() - interval '50 minutes' OR s.refused_at > s.used_at))

-- name: list_secrets
-- List what is known of the secrets of these accounts.
SELECT account, fingerprint, seen_at, used_at, refused_at
FROM mailglass.secret_uses WHERE account = ANY (CAST(%(accounts)s AS text[]))
