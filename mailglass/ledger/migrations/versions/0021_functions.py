"""Rules that several statements share, each as one function of the schema.

Older workers go on: their statements have the same rules in themselves.

What is inlined into a hot statement is LANGUAGE sql, neither STRICT nor SECURITY DEFINER, and sets nothing.
"""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision: str | None = "0020"
branch_labels: str | None = None
depends_on: str | None = None

# Compared by the columns' own collation, whatever the caller's: the index of the entries has no other.
SUPPRESSIONS_OF = """
CREATE FUNCTION mailglass.suppressions_of(tenant text, stream text, key text, domain text)
RETURNS SETOF mailglass.suppressions LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT s.* FROM mailglass.suppressions s
    WHERE s.value IN (suppressions_of.key COLLATE "default", suppressions_of.domain COLLATE "default")
      AND s.tenant_id IN (suppressions_of.tenant COLLATE "default", '*')
      AND (s.scope = 'domain') = (s.value = suppressions_of.domain COLLATE "default")
      AND (suppressions_of.stream IS NULL OR s.stream IN ('', suppressions_of.stream COLLATE "default"))
      AND (s.expires_at IS NULL OR s.expires_at > now())
$$;
COMMENT ON FUNCTION mailglass.suppressions_of(text, text, text, text) IS
    'The live entries that stop mail of a tenant and stream (NULL for any) to an address, by its key and its domain';
"""

SUPPRESS = """
CREATE FUNCTION mailglass.suppress(
    ids uuid[], tenants text[], scopes text[], "values" text[], streams text[], reasons text[], sources text[],
    accounts text[], expires timestamptz[])
RETURNS SETOF uuid LANGUAGE sql VOLATILE ROWS 10 AS $$
    INSERT INTO mailglass.suppressions AS s (id, tenant_id, scope, value, stream, reason, source, account, expires_at)
    SELECT n.id, n.tenant_id, n.scope, n.value, n.stream, n.reason, n.source, n.account, n.expires_at
    FROM unnest(ids, tenants, scopes, suppress."values", streams, reasons, sources, accounts, expires)
        AS n (id, tenant_id, scope, value, stream, reason, source, account, expires_at)
    -- two statements with the same entries wait for each other in one order
    ORDER BY n.value, n.tenant_id
    ON CONFLICT (value, tenant_id, scope, stream) DO UPDATE
    SET id = CASE WHEN s.expires_at IS NULL THEN s.id ELSE excluded.id END,
        reason = excluded.reason, source = excluded.source, account = excluded.account,
        expires_at = excluded.expires_at
    WHERE (s.reason <> 'complaint' AND excluded.reason = 'complaint') OR s.expires_at <= now()
       OR s.expires_at < COALESCE(excluded.expires_at, 'infinity')
    RETURNING s.id
$$;
COMMENT ON FUNCTION mailglass.suppress(
    uuid[], text[], text[], text[], text[], text[], text[], text[], timestamptz[]) IS
    'Add entries: a complaint replaces any other reason, and what lasts longer replaces what ends sooner';
"""

REASON_RANK = """
CREATE FUNCTION mailglass.reason_rank(reason text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT COALESCE(array_position(ARRAY['provider', 'manual', 'unsubscribe', 'hard_bounce', 'complaint'], reason), 0)
$$;
COMMENT ON FUNCTION mailglass.reason_rank(text) IS
    'The strength of a reason to suppress, 5 for a complaint; 0 for one that is not known';
"""

# no EXISTS, which may be looked up in a hash of all events
HAS_EVIDENCE = """
CREATE FUNCTION mailglass.has_evidence(delivery uuid, kinds text[]) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT COALESCE((
        SELECT true FROM mailglass.events e
        WHERE e.delivery_id = has_evidence.delivery AND e.source = 'provider' AND e.kind = ANY (has_evidence.kinds)
        LIMIT 1), false)
$$;
COMMENT ON FUNCTION mailglass.has_evidence(uuid, text[]) IS
    'Whether a provider has stated an event of these kinds, which prove that it accepted the delivery';
"""

MOVED_BY = """
CREATE FUNCTION mailglass.moved_by(event_ids uuid[])
RETURNS TABLE (id uuid, queue text, tenant_id text, stream text) LANGUAGE sql STABLE AS $$
    SELECT d.id, d.queue, d.tenant_id, d.stream
    FROM unnest(moved_by.event_ids) AS w (event_id)
    JOIN mailglass.events e ON e.id = w.event_id JOIN mailglass.deliveries d ON d.id = e.delivery_id
$$;
COMMENT ON FUNCTION mailglass.moved_by(uuid[]) IS
    'The deliveries of these events: what an earlier run of a statement moved, whose answer was lost';
"""

AUDIT_ENTRY = """
CREATE FUNCTION mailglass.audit_entry(
    entry uuid, who text, what text, tenants text[], subject jsonb, more jsonb DEFAULT '{}')
RETURNS TABLE (id uuid, actor text, action text, tenant_id text, detail json) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT entry, who, what, CASE WHEN tenants[1] = ALL (tenants) THEN tenants[1] END,
           CAST(jsonb_strip_nulls(subject || jsonb_build_object('count', cardinality(tenants)) || more) AS json)
    WHERE who IS NOT NULL AND cardinality(tenants) > 0
$$;
COMMENT ON FUNCTION mailglass.audit_entry(uuid, text, text, text[], jsonb, jsonb) IS
    'The entry for what an actor has moved, given the tenant of each delivery; none without an actor or a delivery';
"""

FUNCTIONS = {
    "suppressions_of(text, text, text, text)": SUPPRESSIONS_OF,
    "suppress(uuid[], text[], text[], text[], text[], text[], text[], text[], timestamptz[])": SUPPRESS,
    "reason_rank(text)": REASON_RANK,
    "has_evidence(uuid, text[])": HAS_EVIDENCE,
    "moved_by(uuid[])": MOVED_BY,
    "audit_entry(uuid, text, text, text[], jsonb, jsonb)": AUDIT_ENTRY,
}


def upgrade() -> None:
    """Apply this revision."""
    for definition in FUNCTIONS.values():
        op.execute(definition)


def downgrade() -> None:
    """Undo this revision."""
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION mailglass.{signature}")
