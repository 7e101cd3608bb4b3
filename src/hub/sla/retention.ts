import { type SQL, sql } from 'drizzle-orm';
import type { Config } from '../../platform/config.ts';
import type { Database } from '../../platform/db.ts';
import {
  capacitySnapshots,
  slaAlerts,
  slaCollections,
  slaMetrics,
  slaMiners,
  slaViolations,
} from './tables.ts';

const DAY_SEC = 86_400;

/** The condition of an index, hence without a parameter. */
const IS_UNMERGED = sql.raw(`span_sec < ${DAY_SEC}`);

/** Collections are only looked at while they run. */
const COLLECTIONS_DAYS = 2;

export interface Retained {
  /** Rows that were merged into those of whole days. */
  merged: number;
  deleted: number;
}

/**
 * Merges the spans of SLA_ROLLUP_DAYS ago into days and deletes what is older than SLA_RETENTION_DAYS, `batch` rows by a
 * statement, so that no lock is held for long.
 * @param budgetMs no new batch is begun after this long; the next run goes on
 */
export async function applyRetention(
  { db, config }: { db: Database; config: Config },
  batch: number,
  budgetMs: number,
): Promise<Retained> {
  const deadline = performance.now() + budgetMs;
  const { sla_retention_days: days } = config;
  const steps: [keyof Retained, SQL][] = [
    ['deleted', deleteOld(sql`${slaMetrics}`, sql`starts_at`, days, batch)],
    ['merged', mergeIntoDays(config.sla_rollup_days, batch)],
    ['deleted', deleteOld(sql`${slaViolations}`, sql`resolved_at`, days, batch)],
    ['deleted', deleteOld(sql`${slaAlerts}`, sql`created_at`, days, batch)],
    ['deleted', deleteOld(sql`${capacitySnapshots}`, sql`at`, days, batch)],
    ['deleted', deleteOld(sql`${slaMiners}`, sql`live_at`, days, batch)],
    ['deleted', deleteOld(sql`${slaCollections}`, sql`slot`, COLLECTIONS_DAYS, batch)],
  ];
  const total = { merged: 0, deleted: 0 };
  for (const [kind, statement] of steps) {
    while (performance.now() < deadline) {
      const [row] = await db.run((orm) => orm.execute<{ rows: number }>(statement));
      const rows = row?.rows ?? 0;
      total[kind] += rows;
      if (rows < batch) break;
    }
  }
  return total;
}

function deleteOld(table: SQL, column: SQL, days: number, batch: number): SQL {
  return sql`
    with old as (
      select ctid from ${table} where ${column} < ${daysAgo(days)} order by ${column} limit ${batch}
    ), gone as (
      delete from ${table} where ctid = any(array(select ctid from old)) returning 1
    )
    select count(*)::int as rows from gone`;
}

/** The start of a day, so that days are kept, merged and deleted as a whole. */
function daysAgo(days: number): SQL {
  return sql`date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' - make_interval(days => ${days})`;
}

/**
 * Only whole days are merged, from their oldest row on; a batch that ends within a day of a miner adds the rest of it
 * to the same row the next time. A row that changes meanwhile is not deleted, hence not counted.
 */
function mergeIntoDays(days: number, batch: number): SQL {
  const day = sql`date_trunc('day', starts_at at time zone 'UTC') at time zone 'UTC'`;
  return sql`
    with old as (
      select ctid from ${slaMetrics}
      where ${IS_UNMERGED} and starts_at < ${daysAgo(days)}
      order by starts_at limit ${batch}
    ), gone as (
      delete from ${slaMetrics} where ctid = any(array(select ctid from old)) and ${IS_UNMERGED} returning *
    ), merged as (
      insert into ${slaMetrics} as m (miner_id, starts_at, span_sec, collected_at, online_ms, expected_ms, completed, failed,
        latency_sum_ms, latency_count, places_online, places_total)
      select miner_id, ${day} as day, ${DAY_SEC}::int, max(collected_at), sum(online_ms), sum(expected_ms), sum(completed),
        sum(failed), sum(latency_sum_ms), sum(latency_count), sum(places_online), sum(places_total)
      from gone group by miner_id, day order by miner_id, day
      on conflict (miner_id, starts_at, span_sec) do update set
        collected_at = greatest(m.collected_at, excluded.collected_at), online_ms = m.online_ms + excluded.online_ms,
        expected_ms = m.expected_ms + excluded.expected_ms, completed = m.completed + excluded.completed,
        failed = m.failed + excluded.failed, latency_sum_ms = m.latency_sum_ms + excluded.latency_sum_ms,
        latency_count = m.latency_count + excluded.latency_count, places_online = m.places_online + excluded.places_online,
        places_total = m.places_total + excluded.places_total
    )
    select count(*)::int as rows from gone`;
}
