-- Session: what the database is, and locks among processes.

-- name: has_ledger
-- Check for a ledger in the database of this connection, and name the database.
SELECT to_regclass('mailglass.ledger_identity') IS NOT NULL AS there, current_database() AS database

-- name: ledger_identity
-- Read the ledger's own id and the database's name. A copy of the database on the same server has another name.
SELECT id, current_database() AS database FROM mailglass.ledger_identity

-- name: schema_version
-- Read the schema's revision, and the oldest revision of the code that may work on it.
SELECT v.version_num, s.oldest_code FROM mailglass.schema_version v CROSS JOIN mailglass.schema_support s

-- name: session_settings
-- Read the session's values of these settings.
SELECT array_agg(name ORDER BY name) AS names, array_agg(current_setting(name) ORDER BY name) AS settings
FROM unnest(CAST(%(names)s AS text[])) AS name

-- name: try_lock
-- Take a lock that this session holds until it releases it or ends, if it is free.
SELECT pg_try_advisory_lock(hashtextextended(%(name)s, 0)) AS locked

-- name: try_lock_in_transaction
-- Take the same lock until the transaction ends, if it is free.
SELECT pg_try_advisory_xact_lock(hashtextextended(%(name)s, 0)) AS locked

-- name: unlock
-- Release the session's lock.
SELECT pg_advisory_unlock(hashtextextended(%(name)s, 0))
