import { isNull, sql } from 'drizzle-orm';
import type * as v from 'valibot';
import type { Config } from '../../platform/config.ts';
import type { Database, Orm } from '../../platform/db.ts';
import { miners } from '../miners/tables.ts';
import { capacityAlertPct, readSnapshots, usePct } from './capacity.ts';
import { type Forecast, forecastHours } from './forecast.ts';
import type { Page } from './queries.ts';
import type { ForecastAnswer, RecommendationsAnswer, SnapshotsAnswer } from './schema.ts';
import { capacitySnapshots } from './tables.ts';

interface PlanningDeps {
  readonly db: Database;
  readonly config: Config;
}

const HOUR_MS = 3_600_000;

/** Five weeks: enough for a weekly season and its backtest. */
const HISTORY_HOURS = 5 * 7 * 24;

const MAX_REMEMBERED = 8;

/** Snapshots, newest first. */
export async function listSnapshots(
  orm: Orm,
  { hours, limit, cursor }: { hours: number; limit: number; cursor: string | undefined },
): Promise<Page<v.InferOutput<typeof SnapshotsAnswer>[number]>> {
  const nowMs = Date.now();
  // Clocks may differ by so much.
  const latestMs = nowMs + HOUR_MS;
  const before = new Date(cursor === undefined ? latestMs : Math.min(latestMs, Number(cursor)));
  const rows = await readSnapshots(orm, new Date(nowMs - hours * HOUR_MS), before, limit + 1);
  const items = rows.slice(0, limit).map((row) => ({
    timestamp: row.at.toISOString(),
    miners: row.miners,
    miners_online: row.minersOnline,
    places_total: row.placesTotal,
    places_online: row.placesOnline,
    places_used: row.placesUsed,
    use_pct: row.placesOnline > 0 ? usePct(row) : null,
    capacity_pct: row.placesTotal > 0 ? (100 * row.placesOnline) / row.placesTotal : null,
  }));
  const last = rows.length > limit ? rows[limit - 1] : undefined;
  return { items, nextCursor: last === undefined ? undefined : String(last.at.getTime()) };
}

/** Forecast of the places in use, hour by hour, from the stored snapshots of the last weeks. */
export async function forecastCapacity(
  { db }: Pick<PlanningDeps, 'db'>,
  hoursAhead: number,
): Promise<v.InferOutput<typeof ForecastAnswer>> {
  const nowMs = Date.now();
  // The hour that has just begun is no mean of an hour yet.
  const endMs = Math.floor(nowMs / HOUR_MS) * HOUR_MS;
  const history = await db.run((orm) => hourlyUse(orm, endMs));
  const forecast = forecastOnce(history, hoursAhead);
  return {
    method: forecast.method,
    unit: 'places_used',
    generated_at: new Date(nowMs).toISOString(),
    history_hours: history.filter((value) => value !== null).length,
    missing_hours: forecast.missingHours,
    backtest: backtestOf(forecast),
    points: forecast.points.map((point, h) => ({
      timestamp: new Date(endMs + h * HOUR_MS).toISOString(),
      expected: point.expected,
      interval_80: { lower: point.lower80, upper: point.upper80 },
      interval_95: { lower: point.lower95, upper: point.upper95 },
    })),
  };
}

/**
 * A forecast takes a tenth of a second in which a hub does nothing else, and is the same until the hour is over: what was
 * asked last is remembered.
 */
function forecastOnce(history: readonly (number | null)[], hoursAhead: number): Forecast {
  const key = `${hoursAhead} ${history.join()}`;
  const known = remembered.get(key);
  if (known !== undefined) return known;
  const forecast = forecastHours(history, hoursAhead);
  for (const oldest of remembered.keys()) if (remembered.size >= MAX_REMEMBERED) remembered.delete(oldest);
  remembered.set(key, forecast);
  return forecast;
}

const remembered = new Map<string, Forecast>();

function backtestOf({ backtest }: Forecast): v.InferOutput<typeof ForecastAnswer>['backtest'] {
  if (backtest === null) return null;
  const { mae, naiveMae, coverage95, points } = backtest;
  return { mae, naive_mae: naiveMae, coverage_95: coverage95, points };
}

/** Mean of the places in use in each hour before `endMs`, oldest first; null without a snapshot. */
async function hourlyUse(orm: Orm, endMs: number): Promise<(number | null)[]> {
  const from = new Date(endMs - HISTORY_HOURS * HOUR_MS).toISOString();
  const rows = await orm.execute<{ hour: string; used: string }>(sql`
    select floor(extract(epoch from at) / 3600) as hour, avg(places_used) as used from ${capacitySnapshots}
    where at >= ${from}::timestamptz and at < ${new Date(endMs).toISOString()}::timestamptz
    group by 1`);
  const history = new Array<number | null>(HISTORY_HOURS).fill(null);
  for (const { hour, used } of rows) {
    history[Number(hour) - endMs / HOUR_MS + HISTORY_HOURS] = Number(used);
  }
  return history;
}

/** How many miners, of the size the pool has most of, keep the upper bound of the forecast under the alert threshold. */
export async function recommend(deps: PlanningDeps): Promise<v.InferOutput<typeof RecommendationsAnswer>> {
  const { db, config } = deps;
  const [forecast, alertPct, [snapshot], size] = await Promise.all([
    forecastCapacity(deps, config.capacity_forecast_hours),
    capacityAlertPct(db, config),
    db.run((orm) => readSnapshots(orm, new Date(0), new Date(Date.now() + HOUR_MS), 1)),
    db.run(commonSize),
  ]);
  const online = snapshot?.placesOnline ?? 0;
  const peak = forecast.points.reduce<(typeof forecast.points)[number] | undefined>(
    (highest, point) =>
      highest === undefined || point.interval_95.upper > highest.interval_95.upper ? point : highest,
    undefined,
  );
  // One more than where the alert is given.
  const needed = peak === undefined ? null : Math.floor((100 * peak.interval_95.upper) / alertPct) + 1;
  return {
    generated_at: forecast.generated_at,
    alert_threshold_pct: alertPct,
    peak_expected: peak?.expected ?? null,
    peak_upper_95: peak?.interval_95.upper ?? null,
    peak_at: peak?.timestamp ?? null,
    places_online: online,
    places_needed: needed,
    recommendations: needed === null || size === undefined ? [] : [advise(needed, online, size, alertPct)],
  };
}

interface Size {
  readonly gpuName: string | null;
  readonly places: number;
}

type Advice = v.InferOutput<typeof RecommendationsAnswer>['recommendations'][number];

function advise(needed: number, online: number, { gpuName, places }: Size, alertPct: number): Advice {
  const of = { gpu_name: gpuName, places_each: places };
  const bound = `the forecast stays under ${alertPct}% of use with 95% certainty on ${needed} places`;
  if (needed > online) {
    const count = Math.ceil((needed - online) / places);
    const reason = `${bound}; ${online} are online, so ${needed - online} are missing, ${places} of them on each miner`;
    return { action: 'add', miners: count, ...of, reason };
  }
  const spare = Math.floor((online - needed) / places);
  const reason = `${bound}; ${online} are online`;
  return { action: spare > 0 ? 'release' : 'keep', miners: spare, ...of, reason };
}

/** The size of miner that the pool has most of. */
async function commonSize(orm: Orm): Promise<Size | undefined> {
  const [row] = await orm
    .select({ gpuName: miners.gpuName, places: sql<number>`${miners.maxParallel}` })
    .from(miners)
    .where(sql`${isNull(miners.removedAt)} and ${miners.maxParallel} > 0`)
    .groupBy(miners.gpuName, miners.maxParallel)
    .orderBy(sql`count(*) desc`, sql`${miners.maxParallel} desc`)
    .limit(1);
  return row;
}
