import { and, desc, eq, gte, isNotNull, isNull, lt, or, type SQL, sql } from 'drizzle-orm';
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

/** Measurements, newest first; `limit` rows of the table, each of which has up to four metrics. */
export async function listMetrics(
  orm: Orm,
  thresholds: Thresholds,
  filter: MetricsFilter,
): Promise<Page<v.InferOutput<typeof MetricsAnswer>[number]>> {
  const { metricType, limit } = filter;
  const rows = await metricsQuery(orm, filter);
  const last = rows.length > limit ? rows[limit - 1] : undefined;
  return {
    items: rows.slice(0, limit).flatMap((row) => metricsOf(row, thresholds, metricType)),
    nextCursor: last === undefined ? undefined : `${last.startsAt.getTime()}.${last.minerId}`,
  };
}

/** The rows of a page and one more, newest first. */
export function metricsQuery(orm: Orm, { minerId, hours, limit, cursor }: Omit<MetricsFilter, 'metricType'>) {
  return orm
    .select()
    .from(slaMetrics)
    .where(
      and(
        gte(slaMetrics.startsAt, new Date(Date.now() - hours * HOUR_MS)),
        minerId === undefined ? undefined : eq(slaMetrics.minerId, minerId),
        cursor === undefined ? undefined : olderThan(cursor),
      ),
    )
    .orderBy(desc(slaMetrics.startsAt), desc(slaMetrics.minerId))
    .limit(limit + 1);
}

/** Positions are (start, miner): a miner has one row for a start, since merging moves rows to another one. */
function olderThan(cursor: string): SQL | undefined {
  const dot = cursor.indexOf('.');
  const startsAt = new Date(Number(dot < 0 ? cursor : cursor.slice(0, dot)));
  const minerId = dot < 0 ? '' : cursor.slice(dot + 1);
  return or(
    lt(slaMetrics.startsAt, startsAt),
    and(eq(slaMetrics.startsAt, startsAt), lt(slaMetrics.minerId, minerId)),
  );
}

function metricsOf(
  row: typeof slaMetrics.$inferSelect,
  thresholds: Thresholds,
  only: MetricType | undefined,
): v.InferOutput<typeof MetricsAnswer> {
  return levelsOf(row, thresholds)
    .filter(({ type }) => only === undefined || only === type)
    .map(({ type, value, threshold, isViolation }) => ({
      id: `${type}.${row.startsAt.getTime()}.${row.spanSec}.${row.minerId}`,
      miner_id: row.minerId || null,
      metric_type: type,
      metric_value: value,
      threshold,
      is_violation: isViolation,
      timestamp: row.collectedAt.toISOString(),
      metadata: {
        span_start: row.startsAt.toISOString(),
        span_sec: row.spanSec,
        samples: samplesOf(row, type),
      },
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
