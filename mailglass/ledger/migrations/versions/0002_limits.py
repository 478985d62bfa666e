"""Rate limits where there is no Redis, and what providers have taught about their accounts."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

# every take rewrites its rows and touches no index: room on the page keeps that cheap
TABLES = """
CREATE TABLE mailglass.rate_limits (
    key text COLLATE "C" PRIMARY KEY,
    stamp bigint NOT NULL DEFAULT 0,
    level double precision NOT NULL DEFAULT 0,
    promised double precision NOT NULL DEFAULT 0,
    promised_urgent double precision NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE mailglass.rate_limits IS
    'stamp: microseconds since 1970; level, promised: microseconds of work as of the stamp, or mails counted';

CREATE TABLE mailglass.rate_lessons (
    account text COLLATE "C" PRIMARY KEY,
    pause_until bigint NOT NULL DEFAULT 0,
    slow_until bigint NOT NULL DEFAULT 0,
    factor double precision NOT NULL DEFAULT 1,
    rate double precision NOT NULL DEFAULT 0,
    rate_until bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE mailglass.rate_lessons IS 'moments: microseconds since 1970; rate: mails a second, 0 where not told';
"""

# computes what mailglass/limits/take.lua computes, on doubles and in the same order, so that the results are the same
TAKE = """
CREATE FUNCTION mailglass.take_limits(
    keys text[], intervals double precision[], tolerances double precision[], counted integer[], accounts text[],
    members integer[], starts integer[], runs integer[],
    urgent boolean, horizon double precision, seed double precision, at bigint,
    OUT granted integer[], OUT delays bigint[], OUT blockers integer[]
) LANGUAGE plpgsql AS $$
DECLARE
    clock_step CONSTANT double precision := 1000000;
    golden CONSTANT double precision := 0.6180339887498949;
    told_tolerance CONSTANT double precision := 2000000;
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
    found_stamps double precision[];
    found_levels double precision[];
    found_promised double precision[];
    found_urgent double precision[];
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
        SELECT array_agg(r.stamp), array_agg(r.level), array_agg(r.promised), array_agg(r.promised_urgent)
        INTO found_stamps, found_levels, found_promised, found_urgent
        FROM (SELECT * FROM mailglass.rate_limits l WHERE l.key = ANY (kept_keys) ORDER BY l.key FOR UPDATE) r;
        EXIT WHEN cardinality(found_stamps) = cardinality(kept);
    END LOOP;
    at := COALESCE(at, CAST(floor(extract(epoch FROM clock_timestamp()) * 1000000) AS bigint));
    now_us := at;

    stamps := array_fill(now_us, ARRAY[cardinality(keys)]);
    levels := array_fill(CAST(0 AS double precision), ARRAY[cardinality(keys)]);
    promises := levels;
    others := levels;
    pauses := levels;
    touched := array_fill(false, ARRAY[cardinality(keys)]);
    FOR j IN 1 .. COALESCE(cardinality(kept), 0) LOOP
        i := kept[j];
        IF counted[i] > 0 THEN
            levels[i] := found_levels[j];
        ELSE
            elapsed := greatest(0, now_us - found_stamps[j]);
            levels[i] := greatest(0, found_levels[j] - elapsed);
            others[i] := greatest(0, found_urgent[j] - elapsed);
            promises[i] := greatest(0, found_promised[j] - elapsed);
            IF urgent THEN
                spread := promises[i];
                promises[i] := others[i];
                others[i] := spread;
            ELSE
                promises[i] := greatest(promises[i], others[i]);
            END IF;
            IF found_stamps[j] > now_us AND found_stamps[j] - now_us <= clock_step THEN
                stamps[i] := found_stamps[j];
            END IF;
        END IF;
    END LOOP;

    FOR j IN 1 .. cardinality(keys) LOOP
        CONTINUE WHEN accounts[j] = '';
        SELECT * INTO lesson FROM mailglass.rate_lessons l WHERE l.account = accounts[j];
        CONTINUE WHEN NOT FOUND;
        IF lesson.rate > 0 AND now_us < lesson.rate_until THEN
            IF intervals[j] = 0 THEN
                tolerances[j] := told_tolerance;
            END IF;
            intervals[j] := greatest(intervals[j], 1000000 / lesson.rate);
        END IF;
        IF now_us < lesson.slow_until THEN
            intervals[j] := intervals[j] * lesson.factor;
        END IF;
        tolerances[j] := greatest(tolerances[j], intervals[j]);
        pauses[j] := greatest(0, lesson.pause_until - now_us);
    END LOOP;

    FOR j IN 1 .. cardinality(keys) LOOP
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
        END LOOP;
        granted[run] := places;
        IF places > 0 THEN
            FOR m IN first .. last LOOP
                i := members[m];
                levels[i] := levels[i] + places * intervals[i];
                touched[i] := intervals[i] > 0;
            END LOOP;
            CONTINUE WHEN places = wanted;
        END IF;

        refusing := '{}';
        FOR m IN first .. last LOOP
            IF levels[members[m]] > ceilings[members[m]] THEN
                refusing := refusing || members[m];
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
                    free := greatest(levels[i] + intervals[i] - tolerances[i], pauses[i]);
                    promise := greatest(promises[i], levels[i], pauses[i] + tolerances[i] - intervals[i])
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
        promised_urgent = CASE WHEN urgent THEN t.promised ELSE t.other END
    FROM unnest(keys, stamps, levels, promises, others, touched) AS t (key, stamp, level, promised, other, touched)
    WHERE t.touched AND r.key = t.key;
END $$;
"""

# does what mailglass/limits/apply_feedback.lua does
TEACH = """
CREATE FUNCTION mailglass.teach_limit(
    name text, pause double precision, hardness double precision, lasting double precision,
    told_rate double precision, told_for double precision, at bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    hardest CONSTANT double precision := 16;
    pause_per_fold CONSTANT double precision := 500000;
    lesson mailglass.rate_lessons;
BEGIN
    INSERT INTO mailglass.rate_lessons (account) VALUES (name) ON CONFLICT DO NOTHING;
    SELECT * INTO lesson FROM mailglass.rate_lessons l WHERE l.account = name FOR UPDATE;
    at := COALESCE(at, CAST(floor(extract(epoch FROM clock_timestamp()) * 1000000) AS bigint));
    IF hardness > 1 THEN
        -- what is refused during a pause was sent before it, and teaches nothing new
        IF at >= lesson.slow_until THEN
            lesson.factor := least(hardest, hardness);
        ELSIF at >= lesson.pause_until THEN
            lesson.factor := least(hardest, lesson.factor * hardness);
        END IF;
        IF pause < 0 THEN
            pause := CASE WHEN at < lesson.pause_until THEN 0 ELSE pause_per_fold * lesson.factor END;
        END IF;
        lesson.slow_until := greatest(lesson.slow_until, at + pause + lasting);
    END IF;
    IF pause > 0 THEN
        lesson.pause_until := greatest(lesson.pause_until, at + pause);
    END IF;
    IF told_rate > 0 THEN
        lesson.rate := told_rate;
        lesson.rate_until := at + told_for;
    END IF;
    UPDATE mailglass.rate_lessons l
    SET pause_until = lesson.pause_until, slow_until = lesson.slow_until, factor = lesson.factor, rate = lesson.rate,
        rate_until = lesson.rate_until
    WHERE l.account = name;
END $$;
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(TABLES)
    op.execute(TAKE)
    op.execute(TEACH)


def downgrade() -> None:
    """Undo this revision."""
    op.execute(
        "DROP FUNCTION mailglass.take_limits(text[], double precision[], double precision[], integer[], text[], "
        "integer[], integer[], integer[], boolean, double precision, double precision, bigint)"
    )
    op.execute(
        "DROP FUNCTION mailglass.teach_limit(text, double precision, double precision, double precision, "
        "double precision, double precision, bigint)"
    )
    op.execute("DROP TABLE mailglass.rate_limits")
    op.execute("DROP TABLE mailglass.rate_lessons")
