import { setTimeout as sleep } from 'node:timers/promises';
import { and, asc, eq, gt, gte, type SQL, sql } from 'drizzle-orm';
import type { Config } from '../../platform/config.ts';
import type { Database, Orm } from '../../platform/db.ts';
import type { Logger } from '../../platform/logger.ts';
import type { RedisClient } from '../../platform/redis.ts';
import type { Scripts } from '../../platform/scripts.ts';
import type { Homes } from '../registry/homes.ts';
import { finishCollection } from './capacity.ts';
import { levelsOf } from './levels.ts';
import { addReadings, isBefore, type Moment, readDeparted, readPage, readWindow } from './store.ts';
import { slaCollections, slaMiners } from './tables.ts';
import { applyVerdicts, resolveDeparted, resolveUnmeasured, verdictOf } from './violations.ts';

export interface CollectorDeps {
  readonly config: Config;
  readonly db: Database;
  readonly redis: RedisClient;
  readonly scripts: Scripts;
  readonly homes: Homes;
  readonly log: Logger;
}

/** What a collection did. */
export interface CollectionResult {
  readonly collected_at: string;
  readonly miners: number;
  readonly online: number;
  readonly violations_opened: number;
  readonly violations_resolved: number;
}

/** Miners read by one script call: it must not hold up the matches beside it. */
const PAGE = 100;

/**
 * Pages begin at least so far apart, for matches have the use of the same processors; but in this share of the interval alone,
 * past which a collection of a very large pool takes what it can get.
 */
const PAGE_EVERY_MS = 25;
const PACED_SHARE = 0.1;

/** Miners of one Postgres statement that are not in the registry. */
const DEPARTED_BATCH = 500;

/** A miner that has been away for longer is no member of the pool any more: it is measured no further. */
export const DEPARTED_AFTER_MS = 86_400_000;

type Collection = typeof slaCollections.$inferSelect;

/** Why a collection runs. */
interface CollectionRun {
  /** Now; else at most once per SLA_COLLECTION_INTERVAL_SECONDS. */
  readonly onDemand: boolean;
  /** When the run was to begin, Unix ms: what begins again after a kill is the same collection. */
  readonly dueMs: number;
}

/**
 * Measures every miner once and judges it by the last one to two windows. A collection is named by its slot: started
 * again after a kill it goes on at the page where it stood, and once it is finished it is only read.
 */
export async function collect(deps: CollectorDeps, run: CollectionRun): Promise<CollectionResult> {
  const { nowMs } = await readPage(deps.scripts, 0, 0, 0);
  const slot = slotOf(run, nowMs, deps.config.sla_collection_interval_seconds * 1000);
  const collection = await openCollection(deps.db, slot, new Date(nowMs));
  if (collection.finishedAt !== null) return resultOf(collection);
  await collectShards(deps, collection);
  await collectDeparted(deps, collection);
  const done = await finishCollection(deps, slot);
  deps.log.debug({ slot, miners: done.miners }, 'service levels collected');
  return resultOf(done);
}

/**
 * By when the run was due, not by when it came to run: runs are due at equal distances, so each has an interval of its
 * own, however late some of them are. One that is an interval late or more measures the present, not the past.
 */
function slotOf({ onDemand, dueMs }: CollectionRun, nowMs: number, intervalMs: number): Date {
  const everyMs = onDemand ? 1 : intervalMs;
  const atMs = nowMs - dueMs < intervalMs ? dueMs : nowMs;
  return new Date(Math.floor(atMs / everyMs) * everyMs);
}

async function openCollection(db: Database, slot: Date, startedAt: Date): Promise<Collection> {
  await db.run((orm) => orm.insert(slaCollections).values({ slot, startedAt }).onConflictDoNothing());
  const [row] = await db.run((orm) => orm.select().from(slaCollections).where(eq(slaCollections.slot, slot)));
  if (row === undefined) throw new Error('the collection was deleted while it ran');
  return row;
}

/** Page by page. Whoever does a page that another has counted goes on where that one is. */
async function collectShards(deps: CollectorDeps, { slot, nextShard, nextSlot }: Collection): Promise<void> {
  let at: Position = { nextShard, nextSlot };
  const pacedUntilMs = performance.now() + deps.config.sla_collection_interval_seconds * 1000 * PACED_SHARE;
  for (let shards = await deps.homes.count(); at.nextShard < shards; shards = await deps.homes.count()) {
    const beganMs = performance.now();
    const page = await readPage(deps.scripts, at.nextShard, at.nextSlot, PAGE);
    const changes = await measure(deps, page.readings, { ...page, windowSec: deps.config.sla_window_sec });
    const online = page.readings.filter((reading) => reading.online);
    const sum = (part: 'places' | 'taken') => online.reduce((total, reading) => total + reading[part], 0);
    const { nextSlot: more } = page;
    at = await saveProgress(deps.db, slot, changes, {
      from: at,
      to: more === undefined ? { nextShard: at.nextShard + 1, nextSlot: 0 } : { ...at, nextSlot: more },
      counted: {
        miners: page.readings.length,
        online: online.length,
        placesOnline: sum('places'),
        placesUsed: sum('taken'),
      },
    });
    const endMs = performance.now();
    const isPaced = endMs < pacedUntilMs && at.nextShard < shards;
    if (isPaced) await sleep(Math.max(0, PAGE_EVERY_MS - (endMs - beganMs)));
  }
}

/** Miners that were measured before and are not in the registry now: the time counts against them. */
async function collectDeparted(deps: CollectorDeps, { slot, startedAt }: Collection): Promise<void> {
  const { config, db, redis, scripts, homes } = deps;
  const liveSince = new Date(startedAt.getTime() - DEPARTED_AFTER_MS);
  let last = '';
  for (;;) {
    const ids = await db.run((orm) => findDeparted(orm, startedAt, liveSince, last));
    if (ids.length === 0) break;
    last = ids.at(-1) ?? last;
    const readings = (await readDeparted(redis, homes, ids)).map((departed) => ({
      ...departed,
      registered_ms: null,
      registered_outage_ms: null,
      places: null,
    }));
    const clock = await readPage(scripts, 0, 0, 0);
    const changes = await measure(deps, readings, { ...clock, windowSec: config.sla_window_sec });
    await saveProgress(db, slot, changes);
  }
  const resolved = await db.run((orm) => resolveDeparted(orm, liveSince, Date.now(), DEPARTED_BATCH));
  await saveProgress(db, slot, { violationsOpened: 0, violationsResolved: resolved });
}

async function findDeparted(
  orm: Orm,
  collectedBefore: Date,
  liveSince: Date,
  after: string,
): Promise<string[]> {
  const rows = await orm
    .select({ minerId: slaMiners.minerId })
    .from(slaMiners)
    .where(
      and(
        gt(slaMiners.minerId, after),
        isBefore(sql`${slaMiners.collectedAt}`, sql`${collectedBefore.toISOString()}::timestamptz`),
        gte(slaMiners.liveAt, liveSince),
      ),
    )
    .orderBy(asc(slaMiners.minerId))
    .limit(DEPARTED_BATCH);
  return rows.map((row) => row.minerId);
}

interface Changes {
  readonly violationsOpened: number;
  readonly violationsResolved: number;
}

async function measure(
  { db, config }: CollectorDeps,
  readings: Parameters<typeof addReadings>[1],
  at: Moment,
): Promise<Changes> {
  if (readings.length === 0) return { violationsOpened: 0, violationsResolved: 0 };
  const ids = readings.map((reading) => reading.miner_id);
  await db.run((orm) => addReadings(orm, readings, at));
  const windows = await db.run((orm) => readWindow(orm, ids, at));
  const verdicts = windows.flatMap((sums) =>
    levelsOf(sums, config).map(({ type, value, threshold }) =>
      verdictOf(sums.minerId, type, value, threshold),
    ),
  );
  const changes = await db.run((orm) => applyVerdicts(orm, verdicts, at.nowMs));
  const unmeasured = await db.run((orm) => resolveUnmeasured(orm, ids, verdicts, at.nowMs));
  return { violationsOpened: changes.opened, violationsResolved: changes.resolved + unmeasured };
}

/** Where a collection stands: the page that comes next. */
interface Position {
  readonly nextShard: number;
  readonly nextSlot: number;
}

/** A page that was done, with what it adds. */
interface Step {
  readonly from: Position;
  readonly to: Position;
  readonly counted: Readonly<Record<'miners' | 'online' | 'placesOnline' | 'placesUsed', number>>;
}

/**
 * Adds the changes; and what a page counted, once, whoever else has done it too.
 * @returns where the collection stands now
 */
async function saveProgress(db: Database, slot: Date, changes: Changes, step?: Step): Promise<Position> {
  const { nextShard, nextSlot } = slaCollections;
  const [row] = await db.run((orm) =>
    orm
      .update(slaCollections)
      .set({
        violationsOpened: sql`${slaCollections.violationsOpened} + ${changes.violationsOpened}`,
        violationsResolved: sql`${slaCollections.violationsResolved} + ${changes.violationsResolved}`,
        ...(step && advance(step)),
      })
      .where(eq(slaCollections.slot, slot))
      .returning({ nextShard, nextSlot }),
  );
  if (row === undefined) throw new Error('the collection was deleted while it ran');
  return row;
}

function advance({ from, to, counted }: Step) {
  const { nextShard, nextSlot } = slaCollections;
  const isHere = sql`(${nextShard} = ${from.nextShard} and ${nextSlot} = ${from.nextSlot})`;
  const sums = Object.entries(counted).map(([name, more]) => {
    const column = slaCollections[name as keyof typeof counted];
    return [name, sql`${column} + case when ${isHere} then ${more}::int else 0 end`];
  });
  return {
    ...(Object.fromEntries(sums) as Record<keyof typeof counted, SQL>),
    nextShard: sql`case when ${isHere} then ${to.nextShard}::int else ${nextShard} end`,
    nextSlot: sql`case when ${isHere} then ${to.nextSlot}::int else ${nextSlot} end`,
  };
}

function resultOf(row: Collection): CollectionResult {
  return {
    collected_at: row.startedAt.toISOString(),
    miners: row.miners,
    online: row.online,
    violations_opened: row.violationsOpened,
    violations_resolved: row.violationsResolved,
  };
}
