"""The suppression list as people and programs query it, and removals that a provider's list does not undo.

Older workers go on: they call the function that adds entries without moments, and their pulls heed no removal.
"""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision: str | None = "0023"
branch_labels: str | None = None
depends_on: str | None = None

INDEX = "CREATE INDEX suppressions_by_tenant ON mailglass.suppressions (tenant_id, id)"

REMOVALS = """
CREATE TABLE mailglass.suppression_removals (
    value text NOT NULL,
    tenant_id text NOT NULL,
    scope text NOT NULL,
    stream text NOT NULL,
    removed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (value, tenant_id, scope, stream)
);
COMMENT ON TABLE mailglass.suppression_removals IS
    'Entries that a person removed: what was known before the removal does not bring them back';
"""

WHERE = """
CREATE FUNCTION mailglass.suppressions_where(
    tenant text, scope text, reason text, source text, stream text, account text, domain text,
    created_after timestamptz, created_before timestamptz, expires_after timestamptz, expires_before timestamptz,
    live boolean)
RETURNS SETOF mailglass.suppressions LANGUAGE sql STABLE AS $$
    SELECT s.* FROM mailglass.suppressions s
    WHERE (suppressions_where.tenant IS NULL OR s.tenant_id = suppressions_where.tenant)
      AND (suppressions_where.scope IS NULL OR s.scope = suppressions_where.scope)
      AND (suppressions_where.reason IS NULL OR s.reason = suppressions_where.reason)
      AND (suppressions_where.source IS NULL OR s.source = suppressions_where.source)
      AND (suppressions_where.stream IS NULL OR s.stream = suppressions_where.stream)
      AND (suppressions_where.account IS NULL OR s.account = suppressions_where.account)
      AND (suppressions_where.domain IS NULL OR substring(s.value FROM '[^@]*$') = suppressions_where.domain)
      AND (suppressions_where.created_after IS NULL OR s.created_at >= suppressions_where.created_after)
      AND (suppressions_where.created_before IS NULL OR s.created_at < suppressions_where.created_before)
      AND (suppressions_where.expires_after IS NULL OR s.expires_at >= suppressions_where.expires_after)
      AND (suppressions_where.expires_before IS NULL OR s.expires_at < suppressions_where.expires_before)
      AND (suppressions_where.live IS NULL
           OR (s.expires_at IS NULL OR s.expires_at > now()) = suppressions_where.live)
$$;
COMMENT ON FUNCTION mailglass.suppressions_where(
    text, text, text, text, text, text, text, timestamptz, timestamptz, timestamptz, timestamptz, boolean) IS
    'The entries that match all conditions; NULL matches everything';
"""

SUPPRESS_AT = """
CREATE FUNCTION mailglass.suppress_at(
    ids uuid[], tenants text[], scopes text[], "values" text[], streams text[], reasons text[], sources text[],
    accounts text[], expires timestamptz[], moments timestamptz[])
RETURNS SETOF uuid LANGUAGE sql VOLATILE ROWS 10 AS $$
    INSERT INTO mailglass.suppressions AS s
        (id, tenant_id, scope, value, stream, reason, source, account, expires_at, created_at)
    SELECT n.id, n.tenant_id, n.scope, n.value, n.stream, n.reason, n.source, n.account, n.expires_at,
           COALESCE(n.moment, now())
    FROM unnest(ids, tenants, scopes, suppress_at."values", streams, reasons, sources, accounts, expires, moments)
        AS n (id, tenant_id, scope, value, stream, reason, source, account, expires_at, moment)
    WHERE NOT EXISTS (
        SELECT FROM mailglass.suppression_removals r
        WHERE r.value = n.value AND r.tenant_id = n.tenant_id AND r.scope = n.scope AND r.stream = n.stream
          AND r.removed_at >= n.moment)
    -- two statements with the same entries wait for each other in one order
    ORDER BY n.value, n.tenant_id
    ON CONFLICT (value, tenant_id, scope, stream) DO UPDATE
    SET id = CASE WHEN s.expires_at IS NULL THEN s.id ELSE excluded.id END,
        reason = excluded.reason, source = excluded.source, account = excluded.account,
        expires_at = excluded.expires_at, created_at = excluded.created_at
    WHERE (s.reason <> 'complaint' AND excluded.reason = 'complaint') OR s.expires_at <= now()
       OR s.expires_at < COALESCE(excluded.expires_at, 'infinity')
    RETURNING s.id
$$;
COMMENT ON FUNCTION mailglass.suppress_at(
    uuid[], text[], text[], text[], text[], text[], text[], text[], timestamptz[], timestamptz[]) IS
    'Add entries as suppress does, each since a moment; one that a person removed after its moment stays removed';
"""

FUNCTIONS = {
    "suppressions_where(text, text, text, text, text, text, text, timestamptz, timestamptz, timestamptz, timestamptz,"
    " boolean)": WHERE,
    "suppress_at(uuid[], text[], text[], text[], text[], text[], text[], text[], timestamptz[], timestamptz[])": (
        SUPPRESS_AT
    ),
}


def upgrade() -> None:
    """Apply this revision."""
    op.execute(INDEX)
    op.execute(REMOVALS)
    for definition in FUNCTIONS.values():
        op.execute(definition)


def downgrade() -> None:
    """Undo this revision."""
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION mailglass.{signature}")
    op.execute("DROP TABLE mailglass.suppression_removals")
    op.execute("DROP INDEX mailglass.suppressions_by_tenant")
