"""A limit whose rule changes keeps what was taken as mails; rules in any order let through what the loosest does.

Older workers call the function that they know, on the same rows. It keeps no rule, so what it writes is taken for work
at the rule of whoever asks next, and is no more than that rule's burst.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None

COLUMNS = """
ALTER TABLE mailglass.rate_limits
    ADD COLUMN rule_interval double precision NOT NULL DEFAULT 0,
    ADD COLUMN rule_full double precision NOT NULL DEFAULT 0,
    ADD COLUMN guard_interval double precision NOT NULL DEFAULT 0,
    ADD COLUMN guard_full double precision NOT NULL DEFAULT 0,
    ADD COLUMN guard_level double precision NOT NULL DEFAULT 0;
COMMENT ON COLUMN mailglass.rate_limits.rule_interval IS 'us a mail of the rule that the level was last taken by';
COMMENT ON COLUMN mailglass.rate_limits.guard_level IS
    'us of work at guard_interval, that of the loosest rule since the first change; 0 where there was none';
"""

# computes what mailglass/limits/take.lua computes, on doubles and in the same order, so that the results are the same
TAKE = """
CREATE FUNCTION mailglass.take_limits(
    keys text[], intervals double precision[], tolerances double precision[], fulls double precision[],
    counted integer[], accounts text[], members integer[], starts integer[], runs integer[],
    urgent boolean, horizon double precision, seed double precision, at bigint,
    OUT granted integer[], OUT delays bigint[], OUT blockers integer[]
) LANGUAGE plpgsql AS $$
DECLARE
    clock_step CONSTANT double precision := 1000000;
    golden CONSTANT double precision := 0.6180339887498949;
    told_tolerance CONSTANT double precision := 2000000;
    mail_parts CONSTANT double precision := 1048576;
    now_us double precision;
    kept integer[];
    kept_keys text[];
    stamps double precision[];
    levels double precision[];
    promises double precision[];
    others double precision[];
    pauses double precision[];
    ceilings double precision[];
    touched boolean[];
    bases double precision[] := intervals;
    bursts double precision[] := fulls;
    guard_intervals double precision[];
    guard_fulls double precision[];
    guards double precision[];
    found_rows mailglass.rate_limits[];
    kept_row mailglass.rate_limits;
    elapsed double precision;
    lesson mailglass.rate_lessons;
    refusing integer[];
    refused integer := 0;
    first integer;
    last integer;
    space double precision;
    total integer := 0;
    wanted integer;
    places integer;
    room double precision;
    spread double precision;
    delay double precision;
    waits double precision;
    free double precision;
    pause double precision;
    promise double precision;
    i integer;
BEGIN
    -- the next batch need not wait for the disk; a crash forgets less than a second of what was taken
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT array_agg(k.position ORDER BY k.position), array_agg(k.key ORDER BY k.position) INTO kept, kept_keys
    FROM unnest(keys, intervals, accounts) WITH ORDINALITY AS k (key, interval_us, account, position)
    WHERE k.interval_us > 0
       OR EXISTS (SELECT 1 FROM mailglass.rate_lessons l WHERE l.account = k.account AND l.rate > 0);
    -- rows are made, and then locked, in the order of their keys: two batches never wait for each other in a circle
    WHILE kept IS NOT NULL LOOP
        IF (SELECT count(*) FROM mailglass.rate_limits r WHERE r.key = ANY (kept_keys)) < cardinality(kept) THEN
            INSERT INTO mailglass.rate_limits (key) SELECT k FROM unnest(kept_keys) AS k ORDER BY k COLLATE "C"
            ON CONFLICT DO NOTHING;
        END IF;
        SELECT array_agg(r.l) INTO found_rows
        FROM (SELECT l FROM mailglass.rate_limits l WHERE l.key = ANY (kept_keys) ORDER BY l.key FOR UPDATE) r;
        EXIT WHEN cardinality(found_rows) = cardinality(kept);
    END LOOP;
    at := COALESCE(at, CAST(floor(extract(epoch FROM clock_timestamp()) * 1000000) AS bigint));
    now_us := at;

    stamps := array_fill(now_us, ARRAY[cardinality(keys)]);
    levels := array_fill(CAST(0 AS double precision), ARRAY[cardinality(keys)]);
    promises := levels;
    others := levels;
    pauses := levels;
    guard_intervals := levels;
    guard_fulls := levels;
    guards := levels;
    touched := array_fill(false, ARRAY[cardinality(keys)]);
    FOR j IN 1 .. COALESCE(cardinality(kept), 0) LOOP
        i := kept[j];
        kept_row := found_rows[j];
        IF counted[i] > 0 THEN
            levels[i] := kept_row.level;
            CONTINUE;
        END IF;
        IF bases[i] = 0 THEN
            kept_row.guard_interval := 0;
        ELSIF kept_row.rule_interval > 0
              AND (kept_row.rule_interval <> bases[i] OR kept_row.rule_full <> bursts[i]) THEN
            IF kept_row.guard_interval = 0 THEN
                kept_row.guard_interval := kept_row.rule_interval;
                kept_row.guard_full := kept_row.rule_full;
                kept_row.guard_level := least(kept_row.level, kept_row.rule_full);
            END IF;
            IF kept_row.rule_interval <> bases[i] THEN
                -- the same number of mails, rounded up
                kept_row.level := ceil(kept_row.level / kept_row.rule_interval * mail_parts) / mail_parts * bases[i];
            END IF;
            kept_row.promised := 0;
            kept_row.promised_urgent := 0;
        END IF;
        IF kept_row.guard_interval > 0 THEN
            IF bases[i] < kept_row.guard_interval THEN
                kept_row.guard_level := ceil(kept_row.guard_level / kept_row.guard_interval * mail_parts) / mail_parts
                                     * bases[i];
                kept_row.guard_full := kept_row.guard_full / kept_row.guard_interval * bases[i];
                kept_row.guard_interval := bases[i];
            END IF;
            kept_row.guard_full := greatest(kept_row.guard_full, bursts[i] / bases[i] * kept_row.guard_interval);
            kept_row.guard_level := least(kept_row.guard_level, kept_row.guard_full);
        END IF;
        elapsed := greatest(0, now_us - kept_row.stamp);
        levels[i] := greatest(0, kept_row.level - elapsed);
        guards[i] := greatest(0, kept_row.guard_level - elapsed);
        others[i] := greatest(0, kept_row.promised_urgent - elapsed);
        promises[i] := greatest(0, kept_row.promised - elapsed);
        IF guards[i] > 0 AND kept_row.guard_interval > 0 THEN
            guard_intervals[i] := kept_row.guard_interval;
            guard_fulls[i] := kept_row.guard_full;
        END IF;
        IF urgent THEN
            spread := promises[i];
            promises[i] := others[i];
            others[i] := spread;
        ELSE
            promises[i] := greatest(promises[i], others[i]);
        END IF;
        IF kept_row.stamp > now_us AND kept_row.stamp - now_us <= clock_step THEN
            stamps[i] := kept_row.stamp;
        END IF;
    END LOOP;

    FOR j IN 1 .. cardinality(keys) LOOP
        CONTINUE WHEN accounts[j] = '';
        SELECT * INTO lesson FROM mailglass.rate_lessons l WHERE l.account = accounts[j];
        CONTINUE WHEN NOT FOUND;
        IF lesson.rate > 0 AND now_us < lesson.rate_until THEN
            IF intervals[j] = 0 THEN
                tolerances[j] := told_tolerance;
                fulls[j] := told_tolerance;
            END IF;
            intervals[j] := greatest(intervals[j], 1000000 / lesson.rate);
        END IF;
        IF now_us < lesson.slow_until THEN
            intervals[j] := intervals[j] * lesson.factor;
        END IF;
        tolerances[j] := greatest(tolerances[j], intervals[j]);
        fulls[j] := greatest(fulls[j], intervals[j]);
        pauses[j] := greatest(0, lesson.pause_until - now_us);
    END LOOP;

    FOR j IN 1 .. cardinality(keys) LOOP
        -- what was taken under another rule is no more than the burst of this one, and nothing where there is no rate
        IF counted[j] = 0 THEN
            levels[j] := CASE WHEN intervals[j] = 0 THEN 0 ELSE least(levels[j], fulls[j]) END;
        END IF;
        ceilings[j] := CASE WHEN pauses[j] > 0 THEN -1 ELSE tolerances[j] - intervals[j] END;
    END LOOP;

    granted := array_fill(0, ARRAY[cardinality(runs) / 2]);
    FOR run IN 2 .. cardinality(runs) BY 2 LOOP
        total := total + runs[run];
    END LOOP;
    delays := array_fill(CAST(0 AS bigint), ARRAY[total]);
    blockers := array_fill(0, ARRAY[total]);
    FOR run IN 1 .. cardinality(runs) / 2 LOOP
        first := starts[runs[2 * run - 1]] + 1;
        last := starts[runs[2 * run - 1] + 1];
        wanted := runs[2 * run];
        places := wanted;
        FOR m IN first .. last LOOP
            i := members[m];
            space := ceilings[i] - levels[i];
            IF space < 0 THEN
                places := 0;
                EXIT;
            ELSIF places > 1 AND intervals[i] > 0 THEN
                room := floor(space / intervals[i]);
                IF room * intervals[i] > space THEN
                    room := room - 1;
                END IF;
                places := least(places, room + 1);
            END IF;
            CONTINUE WHEN guard_intervals[i] = 0;
            space := guard_fulls[i] - guard_intervals[i] - guards[i];
            IF space < 0 THEN
                places := 0;
                EXIT;
            ELSIF places > 1 THEN
                room := floor(space / guard_intervals[i]);
                IF room * guard_intervals[i] > space THEN
                    room := room - 1;
                END IF;
                places := least(places, room + 1);
            END IF;
        END LOOP;
        granted[run] := places;
        IF places > 0 THEN
            FOR m IN first .. last LOOP
                i := members[m];
                levels[i] := levels[i] + places * intervals[i];
                guards[i] := guards[i] + places * guard_intervals[i];
                touched[i] := intervals[i] > 0;
            END LOOP;
            CONTINUE WHEN places = wanted;
        END IF;

        refusing := '{}';
        FOR m IN first .. last LOOP
            i := members[m];
            IF levels[i] > ceilings[i]
               OR (guard_intervals[i] > 0 AND guards[i] + guard_intervals[i] > guard_fulls[i]) THEN
                refusing := refusing || i;
            END IF;
        END LOOP;
        FOR mail IN places + 1 .. wanted LOOP
            spread := seed + refused * golden;
            spread := spread - floor(spread);
            refused := refused + 1;
            delay := -1;
            FOREACH i IN ARRAY refusing LOOP
                IF counted[i] > 0 THEN
                    waits := counted[i] * CAST(1000000 AS double precision) + spread * horizon;
                ELSIF intervals[i] = 0 THEN
                    waits := pauses[i] + spread * least(pauses[i], horizon);
                ELSE
                    pause := pauses[i];
                    IF guard_intervals[i] > 0 THEN
                        pause := greatest(pause, guards[i] + guard_intervals[i] - guard_fulls[i]);
                    END IF;
                    free := greatest(levels[i] + intervals[i] - tolerances[i], pause);
                    promise := greatest(promises[i], levels[i], pause + tolerances[i] - intervals[i])
                               + intervals[i];
                    waits := promise - tolerances[i];
                    IF waits - free > horizon THEN
                        waits := free + horizon * (1 - spread / 3);
                    ELSE
                        promises[i] := promise;
                        touched[i] := true;
                    END IF;
                END IF;
                IF waits > delay THEN
                    delay := waits;
                    blockers[refused] := i;
                END IF;
            END LOOP;
            delays[refused] := greatest(1, CAST(ceil(delay) AS bigint));
        END LOOP;
    END LOOP;
    delays := delays[1 : refused];
    blockers := blockers[1 : refused];

    UPDATE mailglass.rate_limits r SET
        stamp = t.stamp, level = t.level,
        promised = CASE WHEN urgent THEN t.other ELSE t.promised END,
        promised_urgent = CASE WHEN urgent THEN t.promised ELSE t.other END,
        rule_interval = t.rule_interval, rule_full = t.rule_full,
        guard_interval = t.guard_interval, guard_full = t.guard_full, guard_level = t.guard_level
    FROM unnest(keys, stamps, levels, promises, others, touched, bases, bursts, guard_intervals, guard_fulls, guards)
        AS t (key, stamp, level, promised, other, touched, rule_interval, rule_full, guard_interval, guard_full,
              guard_level)
    WHERE t.touched AND r.key = t.key;
END $$;
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(COLUMNS)
    op.execute(TAKE)


def downgrade() -> None:
    """Undo this revision."""
    op.execute(
        "DROP FUNCTION mailglass.take_limits(text[], double precision[], double precision[], double precision[], "
        "integer[], text[], integer[], integer[], integer[], boolean, double precision, double precision, bigint)"
    )
    op.execute("""
        ALTER TABLE mailglass.rate_limits
            DROP COLUMN rule_interval, DROP COLUMN rule_full, DROP COLUMN guard_interval, DROP COLUMN guard_full,
            DROP COLUMN guard_level
    """)
