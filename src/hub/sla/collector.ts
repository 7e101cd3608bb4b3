import { and, asc, eq, gt, gte, lt, sql } from 'drizzle-orm';
import type { Config } from '../../platform/config.ts';
import type { Database, Orm } from '../../platform/db.ts';
import type { Logger } from '../../platform/logger.ts';
import type { RedisClient } from '../../platform/redis.ts';
import type { Scripts } from '../../platform/scripts.ts';
import { finishCollection } from './capacity.ts';
import { levelsOf } from './levels.ts';
import { addReadings, type Moment, readDeparted, readPage, readWindow } from './store.ts';
import { slaCollections, slaMiners } from './tables.ts';
import { applyVerdicts, resolveDeparted, resolveUnmeasured, verdictOf } from './violations.ts';

export interface CollectorDeps {
  readonly config: Config;
  readonly db: Database;
  readonly redis: RedisClient;
  readonly scripts: Scripts;
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

/** Miners of one Postgres statement that are not in the registry. */
const DEPARTED_BATCH = 500;

/** A miner that has been away for longer is no member of the pool any more: it is measured no further. */
export const DEPARTED_AFTER_MS = 86_400_000;

type Collection = typeof slaCollections.$inferSelect;

/**
 * Measures every miner once and judges it by the last one to two windows. A collection is named by its slot: started
 * again after a kill it goes on at the page where it stood, and once it is finished it is only read.
 * @param onDemand measure now; else at most once per SLA_COLLECTION_INTERVAL_SECONDS
 */
export async function collect(deps: CollectorDeps, onDemand: boolean): Promise<CollectionResult> {
  const { nowMs } = await readPage(deps.scripts, 0, 0, 0);
  const everyMs = onDemand ? 1 : deps.config.sla_collection_interval_seconds * 1000;
  const slot = new Date(Math.floor(nowMs / everyMs) * everyMs);
  const collection = await openCollection(deps.db, slot, new Date(nowMs));
  if (collection.finishedAt !== null) return resultOf(collection);
  await collectShards(deps, collection);
  await collectDeparted(deps, collection);
  const done = await finishCollection(deps, slot);
  deps.log.debug({ slot, miners: done.miners }, 'service levels collected');
  return resultOf(done);
}

async function openCollection(db: Database, slot: Date, startedAt: Date): Promise<Collection> {
  await db.run((orm) => orm.insert(slaCollections).values({ slot, startedAt }).onConflictDoNothing());
  const [row] = await db.run((orm) => orm.select().from(slaCollections).where(eq(slaCollections.slot, slot)));
  if (row === undefined) throw new Error('the collection was deleted while it ran');
  return row;
}

async function collectShards(deps: CollectorDeps, { slot, nextShard, nextSlot }: Collection): Promise<void> {
  let fromSlot = nextSlot;
  for (let shard = nextShard; shard < deps.config.redis_shards; shard++) {
    for (let more = true; more; ) {
      const page = await readPage(deps.scripts, shard, fromSlot, PAGE);
      const at = { ...page, windowSec: deps.config.sla_window_sec };
      const changes = await measure(deps, page.readings, at);
      more = page.nextSlot !== undefined;
      fromSlot = page.nextSlot ?? 0;
      const online = page.readings.filter((reading) => reading.online);
      const sum = (list: typeof page.readings, part: 'places' | 'taken') =>
        list.reduce((total, reading) => total + reading[part], 0);
      await saveProgress(deps.db, slot, {
        nextShard: more ? shard : shard + 1,
        nextSlot: fromSlot,
        miners: page.readings.length,
        online: online.length,
        placesOnline: sum(online, 'places'),
        placesUsed: sum(online, 'taken'),
        ...changes,
      });
    }
  }
}

/** Miners that were measured before and are not in the registry now: the time counts against them. */
async function collectDeparted(deps: CollectorDeps, { slot, startedAt }: Collection): Promise<void> {
  const { config, db, redis, scripts } = deps;
  const liveSince = new Date(startedAt.getTime() - DEPARTED_AFTER_MS);
  let last = '';
  for (;;) {
    const ids = await db.run((orm) => findDeparted(orm, startedAt, liveSince, last));
    if (ids.length === 0) break;
    last = ids.at(-1) ?? last;
    const uptimes = await readDeparted(redis, scripts.prefix, config.redis_shards, ids);
    const readings = ids.map((miner_id, i) => ({
      miner_id,
      registered_ms: null,
      registered_outage_ms: null,
      uptime_ms: uptimes[i] ?? null,
      places: null,
    }));
    const clock = await readPage(scripts, 0, 0, 0);
    const changes = await measure(deps, readings, { ...clock, windowSec: config.sla_window_sec });
    await saveProgress(db, slot, changes);
  }
  const resolved = await db.run((orm) => resolveDeparted(orm, liveSince, Date.now(), DEPARTED_BATCH));
  await saveProgress(db, slot, { violationsResolved: resolved });
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
        lt(slaMiners.collectedAt, collectedBefore),
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

interface Progress extends Partial<Changes> {
  readonly nextShard?: number;
  readonly nextSlot?: number;
  readonly miners?: number;
  readonly online?: number;
  readonly placesOnline?: number;
  readonly placesUsed?: number;
}

async function saveProgress(db: Database, slot: Date, progress: Progress): Promise<void> {
  const { nextShard, nextSlot, ...added } = progress;
  const sums = Object.entries(added).map(([name, more]) => {
    const column = slaCollections[name as keyof typeof added];
    return [name, sql`${column} + ${more}`];
  });
  const position = nextShard === undefined ? {} : { nextShard, nextSlot };
  await db.run((orm) =>
    orm
      .update(slaCollections)
      .set({ ...Object.fromEntries(sums), ...position })
      .where(eq(slaCollections.slot, slot)),
  );
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
