"""The ledger: deliveries, messages, events, suppressions, webhooks, doorbells."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

TABLES = """
CREATE TABLE mailglass.messages (
    id uuid PRIMARY KEY,
    content json,
    frozen boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    scrubbed_at timestamptz
);

-- each row is rewritten three times on its way: with room for that on its own page, the mark touches no index
CREATE TABLE mailglass.deliveries (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    group_id uuid,
    message_id uuid NOT NULL,
    stream text NOT NULL,
    queue text NOT NULL,
    mailable text,
    status text NOT NULL,
    recipient text NOT NULL,
    recipient_name text NOT NULL DEFAULT '',
    recipient_domain text NOT NULL,
    account text,
    provider text,
    provider_message_id text,
    idempotency_key text,
    idempotency_digest text,
    priority smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),
    due_at timestamptz,
    scheduled_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    lease_token uuid,
    lease_expires_at timestamptz,
    attempts smallint NOT NULL DEFAULT 0,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    deferred_at timestamptz,
    delivered_at timestamptz,
    rejected_at timestamptz,
    failed_at timestamptz,
    bounced_at timestamptz,
    complained_at timestamptz,
    opened_at timestamptz,
    clicked_at timestamptz,
    unsubscribed_at timestamptz,
    bounce_class text,
    last_event text,
    last_event_at timestamptz,
    last_event_id uuid
) WITH (fillfactor = 50);

-- only due work stands in these two; a row leaves them when it is claimed and when it is final
CREATE INDEX deliveries_due ON mailglass.deliveries (queue, tenant_id, stream, priority, due_at)
    WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_lease ON mailglass.deliveries (lease_expires_at) WHERE lease_expires_at IS NOT NULL;
CREATE INDEX deliveries_provider_message ON mailglass.deliveries (provider_message_id)
    WHERE provider_message_id IS NOT NULL;
CREATE UNIQUE INDEX deliveries_idempotency ON mailglass.deliveries (tenant_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX deliveries_group ON mailglass.deliveries (group_id) WHERE group_id IS NOT NULL;

CREATE TABLE mailglass.events (
    id uuid PRIMARY KEY,
    delivery_id uuid NOT NULL,
    tenant_id text NOT NULL,
    kind text NOT NULL,
    source text NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    status text,
    outcome text,
    reason text,
    account text,
    attempt smallint,
    status_code integer,
    enhanced_status text,
    duration_ms integer,
    bounce_class text,
    reject_reason text,
    machine boolean,
    click_hash text,
    webhook_event_id uuid
);
CREATE INDEX events_delivery ON mailglass.events (delivery_id);

CREATE TABLE mailglass.suppressions (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('address', 'domain', 'address_stream')),
    value text NOT NULL,
    stream text NOT NULL DEFAULT '',
    reason text NOT NULL,
    source text NOT NULL,
    account text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    CHECK ((scope = 'address_stream') = (stream <> '')),
    CHECK (reason <> 'complaint' OR expires_at IS NULL)
);
CREATE UNIQUE INDEX suppressions_entry ON mailglass.suppressions (value, tenant_id, scope, stream);

CREATE TABLE mailglass.webhook_events (
    id uuid PRIMARY KEY,
    account text NOT NULL,
    provider text NOT NULL,
    tenant_id text,
    dedupe_key text NOT NULL,
    body bytea,
    headers json NOT NULL,
    status text NOT NULL DEFAULT 'received',
    reason text,
    attempts smallint NOT NULL DEFAULT 0,
    received_at timestamptz NOT NULL DEFAULT now(),
    lease_expires_at timestamptz,
    processed_at timestamptz
);
CREATE UNIQUE INDEX webhook_events_dedupe ON mailglass.webhook_events (account, dedupe_key);
CREATE INDEX webhook_events_received ON mailglass.webhook_events (id) WHERE status = 'received';

CREATE TABLE mailglass.orphans (
    event_id uuid PRIMARY KEY,
    account text NOT NULL,
    delivery_id uuid,
    provider_message_id text,
    event json NOT NULL,
    webhook_event_id uuid,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orphans_provider_message ON mailglass.orphans (provider_message_id)
    WHERE provider_message_id IS NOT NULL;

CREATE TABLE mailglass.suppression_sync (
    account text PRIMARY KEY,
    cursor text,
    synced_at timestamptz,
    last_error text
);

CREATE TABLE mailglass.doorbells (
    name text PRIMARY KEY,
    rung_at timestamptz NOT NULL
);

CREATE TABLE mailglass.breakers (
    account text PRIMARY KEY,
    reason text NOT NULL,
    failures integer NOT NULL,
    open_until timestamptz NOT NULL,
    probe_until timestamptz
);

CREATE TABLE mailglass.audit (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    tenant_id text,
    subject text,
    detail json
);
"""

APPEND_ONLY = """
CREATE FUNCTION mailglass.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'mailglass.% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = '45A01', HINT = 'record a new event instead';
END $$;
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON mailglass.events
    FOR EACH STATEMENT EXECUTE FUNCTION mailglass.refuse_change();
"""

# A function's statements see what was committed while it waited for the lock, which one statement's snapshot does not.
ROOM = """
CREATE FUNCTION mailglass.room_for(tenant text, cap integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('mailglass.room_for.' || tenant, 0));
    RETURN GREATEST(0, cap - (SELECT count(*) FROM mailglass.deliveries d
                              WHERE d.lease_expires_at > now() AND d.lease_token IS NOT NULL
                                AND d.tenant_id = tenant));
END $$;
"""

# the pairs of mailglass.ledger.lifecycle.MOVES as of this revision
MOVES = (
    "queued>claimed",
    "queued>canceled",
    "queued>failed",
    "queued>sent",
    "claimed>queued",
    "claimed>suppressed",
    "claimed>failed",
    "claimed>held",
    "claimed>sending",
    "sending>sent",
    "sending>queued",
    "sending>failed",
    "sending>suppressed",
    "sending>held",
    "sending>uncertain",
    "uncertain>sent",
    "uncertain>queued",
    "uncertain>held",
    "uncertain>failed",
    "held>queued",
    "held>canceled",
    "held>sent",
)

LIFECYCLE = f"""
CREATE FUNCTION mailglass.refuse_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a delivery may not move from % to %', OLD.status, NEW.status USING ERRCODE = '45A02';
END $$;
CREATE TRIGGER deliveries_lifecycle BEFORE UPDATE OF status ON mailglass.deliveries FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status
          AND (OLD.status || '>' || NEW.status) <> ALL (ARRAY[{", ".join(f"'{move}'" for move in MOVES)}]))
    EXECUTE FUNCTION mailglass.refuse_move();
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(TABLES)
    op.execute(APPEND_ONLY)
    op.execute(LIFECYCLE)
    op.execute(ROOM)


def downgrade() -> None:
    """Undo this revision."""
    for table in (
        "audit",
        "breakers",
        "doorbells",
        "suppression_sync",
        "orphans",
        "webhook_events",
        "suppressions",
        "events",
        "deliveries",
        "messages",
    ):
        op.execute(f"DROP TABLE mailglass.{table}")
    op.execute("DROP FUNCTION mailglass.room_for(text, integer)")
    op.execute("DROP FUNCTION mailglass.refuse_change()")
    op.execute("DROP FUNCTION mailglass.refuse_move()")
