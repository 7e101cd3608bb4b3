import { and, desc, eq, gte, isNotNull, isNull, lt, type SQL, sql } from 'drizzle-orm';
import type * as v from 'valibot';
import type { Config } from '../../platform/config.ts';
import type { Database, Orm } from '../../platform/db.ts';
import { miners } from '../miners/tables.ts';
import { DEPARTED_AFTER_MS } from './collector.ts';
import {
  type LevelSums,
  levelsOf,
  type MetricType,
  SEVERITIES,
  type Thresholds,
  type ViolationType,
} from './levels.ts';
import type { MetricsAnswer, StatusAnswer, ViolationsAnswer } from './schema.ts';
import { slaCollections, slaMetrics, slaMiners, slaViolations } from './tables.ts';

const HOUR_MS = 3_600_000;

/** A page of a list, newest first. */
export interface Page<Item> {
  readonly items: Item[];
  /** Undefined on the last page. */
  readonly nextCursor: string | undefined;
}

interface MetricsFilter {
  readonly minerId?: string;
  readonly hours: number;
  readonly metricType: MetricType | undefined;
  readonly limit: number;
  readonly cursor: string | undefined;
}

/** A row of the table, as it is read: a year of rows becomes an answer, so no column is turned into an object on the way. */
interface MetricsRow extends LevelSums {
  readonly minerId: string;
  /** Unix ms, as `collectedMs`. */
  readonly startsMs: number;
  readonly collectedMs: number;
  readonly spanSec: number;
}

/** Measurements, newest first; `limit` rows of the table, each of which has up to four metrics. */
export async function listMetrics(
  db: Database,
  thresholds: Thresholds,
  filter: MetricsFilter,
): Promise<Page<v.InferOutput<typeof MetricsAnswer>[number]>> {
  const { metricType, limit } = filter;
  const rows = await db.queryBuilt<MetricsRow>(metricsQuery(filter));
  const last = rows.length > limit ? rows[limit - 1] : undefined;
  return {
    items: rows.slice(0, limit).flatMap((row) => metricsOf(row, thresholds, metricType)),
    nextCursor: last === undefined ? undefined : `${last.startsMs}.${last.spanSec}.${last.minerId}`,
  };
}

/** The rows of a page and one more, newest first. */
export function metricsQuery({ minerId, hours, limit, cursor }: Omit<MetricsFilter, 'metricType'>): SQL {
  const since = new Date(Date.now() - hours * HOUR_MS).toISOString();
  return sql`
    select miner_id as "minerId", ${unixMs(sql`starts_at`)} as "startsMs", ${unixMs(sql`collected_at`)} as "collectedMs",
      span_sec as "spanSec", online_ms as "onlineMs", expected_ms as "expectedMs", completed::float8, failed::float8,
      latency_sum_ms as "latencySumMs", latency_count::float8 as "latencyCount",
      places_online::float8 as "placesOnline", places_total::float8 as "placesTotal"
    from ${slaMetrics}
    where starts_at >= ${since}::timestamptz
      ${minerId === undefined ? sql`` : sql`and miner_id = ${minerId}`}
      ${cursor === undefined ? sql`` : sql`and ${olderThan(cursor)}`}
    order by starts_at desc, miner_id desc, span_sec desc limit ${limit + 1}`;
}

function unixMs(moment: SQL): SQL {
  return sql`(extract(epoch from ${moment}) * 1000)::float8`;
}

/** Positions are (start, miner, span): of one start a miner has spans of several lengths when SLA_WINDOW_SEC has changed. */
function olderThan(cursor: string): SQL {
  const [startsMs, spanSec, ...minerId] = cursor.split('.');
  return sql`(starts_at, miner_id, span_sec)
    < (to_timestamp(${startsMs}::float8 / 1000), ${minerId.join('.')}, ${spanSec}::int)`;
}

function metricsOf(
  row: MetricsRow,
  thresholds: Thresholds,
  only: MetricType | undefined,
): v.InferOutput<typeof MetricsAnswer> {
  const timestamp = new Date(row.collectedMs).toISOString();
  const spanStart = new Date(row.startsMs).toISOString();
  return levelsOf(row, thresholds)
    .filter(({ type }) => only === undefined || only === type)
    .map(({ type, value, threshold, isViolation }) => ({
      id: `${type}.${row.startsMs}.${row.spanSec}.${row.minerId}`,
      miner_id: row.minerId || null,
      metric_type: type,
      metric_value: value,
      threshold,
      is_violation: isViolation,
      timestamp,
      metadata: { span_start: spanStart, span_sec: row.spanSec, samples: samplesOf(row, type) },
    }));
}

function samplesOf(sums: LevelSums, type: MetricType): number {
  if (type === 'uptime') return sums.expectedMs;
  if (type === 'response_time') return sums.latencyCount;
  return type === 'capacity' ? sums.placesTotal : sums.completed + sums.failed;
}

/** Whether a miner was ever enrolled. */
export async function isKnownMiner(orm: Orm, minerId: string): Promise<boolean> {
  const rows = await orm.select({ id: miners.minerId }).from(miners).where(eq(miners.minerId, minerId));
  return rows.length > 0;
}

interface ViolationsFilter {
  readonly minerId: string | undefined;
  readonly resolved: boolean | undefined;
  readonly limit: number;
  readonly cursor: string | undefined;
}

/** Violations, newest first. */
export async function listViolations(
  orm: Orm,
  { minerId, resolved, limit, cursor }: ViolationsFilter,
): Promise<Page<v.InferOutput<typeof ViolationsAnswer>[number]>> {
  const { resolvedAt } = slaViolations;
  const rows = await orm
    .select()
    .from(slaViolations)
    .where(
      and(
        minerId === undefined ? undefined : eq(slaViolations.minerId, minerId),
        resolved === undefined ? undefined : resolved ? isNotNull(resolvedAt) : isNull(resolvedAt),
        cursor === undefined ? undefined : lt(slaViolations.id, Number.parseInt(cursor, 10)),
      ),
    )
    .orderBy(desc(slaViolations.id))
    .limit(limit + 1);
  const nowMs = Date.now();
  const items = rows.slice(0, limit).map((row) => ({
    id: String(row.id),
    miner_id: row.minerId || null,
    violation_type: row.violationType as ViolationType,
    severity: SEVERITIES[row.severity - 1] ?? 'critical',
    metric_value: row.metricValue,
    threshold: row.threshold,
    created_at: row.createdAt.toISOString(),
    resolved_at: row.resolvedAt?.toISOString() ?? null,
    duration_ms: Math.max(0, (row.resolvedAt?.getTime() ?? nowMs) - row.createdAt.getTime()),
  }));
  return { items, nextCursor: rows.length > limit ? items.at(-1)?.id : undefined };
}

/** How the pool keeps its promises now. */
export async function slaStatus(db: Database, config: Config): Promise<v.InferOutput<typeof StatusAnswer>> {
  const [[counts], [measured], [last]] = await Promise.all([
    db.run((orm) =>
      orm
        .select({
          low: sql<number>`count(*) filter (where severity = 1)::int`,
          medium: sql<number>`count(*) filter (where severity = 2)::int`,
          high: sql<number>`count(*) filter (where severity = 3)::int`,
          critical: sql<number>`count(*) filter (where severity = 4)::int`,
          miners: sql<number>`count(distinct nullif(miner_id, ''))::int`,
        })
        .from(slaViolations)
        .where(isNull(slaViolations.resolvedAt)),
    ),
    db.run((orm) =>
      orm
        .select({ miners: sql<number>`count(*)::int` })
        .from(slaMiners)
        .where(gte(slaMiners.liveAt, new Date(Date.now() - DEPARTED_AFTER_MS))),
    ),
    db.run((orm) =>
      orm
        .select()
        .from(slaCollections)
        .where(isNotNull(slaCollections.finishedAt))
        .orderBy(desc(slaCollections.slot))
        .limit(1),
    ),
  ]);
  const { low = 0, medium = 0, high = 0, critical = 0, miners: violating = 0 } = counts ?? {};
  const active = low + medium + high + critical;
  return {
    status: high + critical > 0 ? 'violated' : active > 0 ? 'degraded' : 'healthy',
    active_violations: active,
    by_severity: { low, medium, high, critical },
    miners_measured: measured?.miners ?? 0,
    miners_in_violation: violating,
    last_collection:
      last === undefined
        ? null
        : {
            collected_at: last.startedAt.toISOString(),
            miners: last.miners,
            online: last.online,
            violations_opened: last.violationsOpened,
            violations_resolved: last.violationsResolved,
          },
    thresholds: {
      uptime: config.sla_uptime_threshold,
      response_time: config.sla_response_time_threshold,
      completion_rate: config.sla_completion_rate_threshold,
      capacity: config.sla_capacity_threshold,
    },
  };
}
