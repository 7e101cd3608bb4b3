import { sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { isoText } from '../../platform/statement.ts';
import { misses, severityRank, type ViolationType } from './levels.ts';
import { slaAlerts, slaDeliveries, slaMiners, slaViolations, slaWebhooks } from './tables.ts';

/** What a collection found of one promise to one miner, or (miner_id '') of the pool. */
export interface Verdict {
  readonly miner_id: string;
  readonly type: ViolationType;
  readonly value: number;
  readonly threshold: number;
  readonly violated: boolean;
  readonly severity: number;
}

export interface ViolationChanges {
  readonly opened: number;
  readonly resolved: number;
}

/** Key of the advisory lock of those who write alerts. */
const ALERTS_LOCK = 7_205_001;

/** The verdict on one value; miner_id is empty for the pool. */
export function verdictOf(minerId: string, type: ViolationType, value: number, threshold: number): Verdict {
  return {
    miner_id: minerId,
    type,
    value,
    threshold,
    violated: misses(type, value, threshold),
    severity: severityRank(value, threshold) + 1,
  };
}

/**
 * Opens what is violated and not open yet, lets open violations grow in severity, resolves what has recovered, and
 * writes an alert for each change with its deliveries, all in one statement. Repeated, it changes nothing. Whether a row is
 * new says its xmax, which is set in one that was there: by it two collections at once open a violation once.
 */
export async function applyVerdicts(
  orm: Orm,
  verdicts: readonly Verdict[],
  atMs: number,
): Promise<ViolationChanges> {
  if (verdicts.length === 0) return { opened: 0, resolved: 0 };
  const at = sql`to_timestamp(${atMs}::float8 / 1000)`;
  const rows = await orm.execute<{ change: string }>(sql`
    with j as (
      select * from jsonb_to_recordset(${JSON.stringify(verdicts)}::jsonb)
        as j(miner_id text, type text, value float8, threshold float8, violated bool, severity int)
    ), open as (
      select v.id, v.severity, v.miner_id, v.violation_type as type from ${slaViolations} v
      join j on j.miner_id = v.miner_id and j.type = v.violation_type where v.resolved_at is null
    ), written as (
      insert into ${slaViolations} as old (miner_id, violation_type, severity, metric_value, threshold, created_at)
      select miner_id, type, severity, value, threshold, ${at} from j where violated order by miner_id, type
      on conflict (miner_id, violation_type) where resolved_at is null do update set
        metric_value = excluded.metric_value, threshold = excluded.threshold,
        severity = greatest(old.severity, excluded.severity)
      where old.metric_value <> excluded.metric_value or old.severity < excluded.severity
      returning *, xmax = 0 as is_new
    ), recovered as (
      update ${slaViolations} v set resolved_at = greatest(${at}, v.created_at), metric_value = j.value
      from j where not j.violated and j.miner_id = v.miner_id and j.type = v.violation_type and v.resolved_at is null
      returning v.*
    ), changed as (
      select w.*, case when w.is_new then 'opened' else 'worsened' end as change
      from written w left join open o using (id) where w.is_new or o.severity < w.severity
      union all select r.*, false, 'resolved' from recovered r
    ), ${alertsFrom()}
    select change from changed`);
  const count = (change: string) => rows.filter((row) => row.change === change).length;
  return { opened: count('opened'), resolved: count('resolved') };
}

/**
 * Resolves violations of miners that no collection measures any more, `limit` at a time: they have been away for too
 * long to be called members of the pool, or were never measured.
 */
export async function resolveDeparted(
  orm: Orm,
  liveBefore: Date,
  atMs: number,
  limit: number,
): Promise<number> {
  const at = sql`to_timestamp(${atMs}::float8 / 1000)`;
  const rows = await orm.execute(sql`
    with gone as (
      select v.id from ${slaViolations} v left join ${slaMiners} m using (miner_id)
      where v.resolved_at is null and v.miner_id <> ''
        and (m.miner_id is null or m.live_at < ${liveBefore.toISOString()}::timestamptz)
      order by v.id limit ${limit}
    ), changed as (
      update ${slaViolations} v set resolved_at = greatest(${at}, v.created_at) from gone where gone.id = v.id
      returning v.*, 'resolved' as change
    ), ${alertsFrom()}
    select id from changed`);
  return rows.length;
}

/**
 * Resolves violations of metrics for which the window of a miner, or of the pool, holds no data any more (no jobs, so no response time).
 */
export async function resolveUnmeasured(
  orm: Orm,
  minerIds: readonly string[],
  measured: readonly Verdict[],
  atMs: number,
): Promise<number> {
  const at = sql`to_timestamp(${atMs}::float8 / 1000)`;
  const rows = await orm.execute(sql`
    with changed as (
      update ${slaViolations} v set resolved_at = greatest(${at}, v.created_at)
      where v.resolved_at is null and v.miner_id in (select jsonb_array_elements_text(${JSON.stringify(minerIds)}::jsonb))
        and not exists (
          select from jsonb_to_recordset(${JSON.stringify(measured)}::jsonb) as j(miner_id text, type text)
          where j.miner_id = v.miner_id and j.type = v.violation_type)
      returning v.*, 'resolved' as change
    ), ${alertsFrom()}
    select id from changed`);
  return rows.length;
}

/**
 * CTEs that turn the rows of a CTE `changed` (a violation and its `change`) into alerts and their deliveries. Whoever writes alerts
 * has the lock until they are committed, so they are committed in the order of their ids: who has read up to one has missed none.
 * It is taken when the violations are written, so nobody who has it waits for another's.
 */
function alertsFrom() {
  return sql`turn as materialized (
      select pg_advisory_xact_lock(${ALERTS_LOCK}) from (select count(*) as n from changed) c where n > 0
    ), alerts as (
      insert into ${slaAlerts} (type, data, created_at)
      select (case when violation_type like 'capacity%' then 'capacity.' else 'violation.' end) || change,
        jsonb_build_object('violation_id', id::text, 'miner_id', nullif(miner_id, ''), 'violation_type', violation_type,
          'severity', (array['low', 'medium', 'high', 'critical'])[severity], 'metric_value', metric_value,
          'threshold', threshold, 'created_at', ${isoText(sql`created_at`)},
          'resolved_at', ${isoText(sql`resolved_at`)}),
        coalesce(resolved_at, now())
      from (select changed.* from changed cross join turn order by changed.id) changed
      returning id
    ), deliveries as (
      insert into ${slaDeliveries} (alert_id, webhook_id, next_at)
      select a.id, w.id, now() from alerts a cross join ${slaWebhooks} w
    )`;
}
