import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../../platform/errors.ts';
import { keys, shardPrefix } from '../../platform/keys.ts';
import { masters } from '../../platform/redis.ts';
import { callToken } from '../../platform/scripts.ts';
import type { HubDeps } from '../deps.ts';
import { SCAN_COUNT, scanKeys } from './census.ts';

type ShardDeps = Pick<HubDeps, 'redis' | 'scripts'>;

const POLL_MS = 200;
const LETTERS_BATCH = 20;

/** Counters that outlive a shard: the metrics are their sums. */
const COUNTERS = ['reaped', 'reaper_held', 'journal_skipped'] as const;
/** Field of a shard's `stats`, written once: tells it from an earlier or later shard of its number. */
const NAME_FIELD = 'heritage';

/**
 * Waits until the worker has written the journals of shards that nobody writes to any more.
 * @throws AppError `unavailable` when they are not empty in time; what Redis throws
 */
export async function emptyJournals(
  { redis, scripts }: ShardDeps,
  from: number,
  to: number,
  timeoutMs: number,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (let shard = from; shard < to; shard++) {
    const journal = keys.journal(shardPrefix(scripts.prefix, shard));
    for (let waiting = await redis.xlen(journal); waiting > 0; waiting = await redis.xlen(journal)) {
      if (performance.now() > deadline) {
        throw new AppError(
          'unavailable',
          `${waiting} entries wait in the journal of shard ${shard}: is a worker running, and Postgres there? Then run it again`,
          { retry_after_sec: 10 },
        );
      }
      await sleep(POLL_MS);
    }
  }
}

/**
 * Deletes what is left in shards that the layout does not know any more: counters of the index, clocks, empty streams. What outlives them goes to
 * shard 0, once, whenever this is ended and run again.
 * @param from the first of them
 * @throws AppError `conflict` when one holds miners or journal entries
 */
export async function clearShards(deps: ShardDeps, from: number): Promise<void> {
  const { redis, scripts } = deps;
  const start = `${scripts.prefix}:{`;
  const settled = new Set<number>();
  for (const node of masters(redis)) {
    const read = (cursor: string) => node.scan(cursor, 'MATCH', `${start}*`, 'COUNT', SCAN_COUNT);
    for await (const key of scanKeys(read)) {
      const shard = Number(key.slice(start.length, key.indexOf('}:', start.length)));
      if (!(shard >= from)) continue;
      if (!settled.has(shard)) await settle(deps, shard);
      settled.add(shard);
      // One by one: on a cluster, keys of several shards do not go in one command.
      if (key !== statsOf(deps, shard)) await redis.unlink(key);
    }
  }
  // By its name there, what was handed on is known to have been, so it goes last.
  for (const shard of settled) await redis.unlink(statsOf(deps, shard));
}

const statsOf = ({ scripts }: ShardDeps, shard: number) => keys.stats(shardPrefix(scripts.prefix, shard));

async function settle(deps: ShardDeps, shard: number): Promise<void> {
  const { redis } = deps;
  const prefix = shardPrefix(deps.scripts.prefix, shard);
  const miners = await redis.hget(`${prefix}terms`, 'all');
  const entries = await redis.xlen(keys.journal(prefix));
  if (miners !== null || entries > 0) {
    const what = `${miners ?? 0} miners and ${entries} journal entries`;
    throw new AppError('conflict', `shard ${shard} should be empty and holds ${what}`);
  }
  const stats = statsOf(deps, shard);
  await redis.hsetnx(stats, NAME_FIELD, callToken());
  const name = (await redis.hget(stats, NAME_FIELD)) as string;
  await bequeathLetters(deps, shard, name);
  const values = await redis.hmget(stats, ...COUNTERS);
  const counters = COUNTERS.map((counter, i) => [counter, Number(values[i] ?? 0)]);
  await bequeath(deps, `${shard} counters`, async (after) =>
    after === name ? undefined : { mark: name, counters, letters: [] },
  );
}

/** A mark names the shard and the last letter that was handed on. */
async function bequeathLetters({ redis, scripts }: ShardDeps, shard: number, name: string): Promise<void> {
  const stream = keys.journalDead(shardPrefix(scripts.prefix, shard));
  await bequeath({ redis, scripts }, `${shard} letters`, async (after) => {
    const [of, last] = after.split(' ');
    const begin = of === name ? `(${last}` : '-';
    const entries = await redis.xrange(stream, begin, '+', 'COUNT', LETTERS_BATCH);
    const id = entries.at(-1)?.[0];
    const letters = entries.map(([, fields]) => fields);
    return id === undefined ? undefined : { mark: `${name} ${id}`, counters: [], letters };
  });
}

interface Part {
  readonly mark: string;
  readonly counters: readonly (readonly (string | number)[])[];
  readonly letters: readonly (readonly string[])[];
}

/** Has shard 0 take over one part after another, each once. @param partAfter the part after that of a mark; undefined when it was the last */
async function bequeath(
  { scripts }: ShardDeps,
  what: string,
  partAfter: (mark: string) => Promise<Part | undefined>,
): Promise<void> {
  let after = '';
  for (let part = await partAfter(after); part !== undefined; part = await partAfter(after)) {
    const { mark, counters, letters } = part;
    const reply = await scripts.run('registry/inherit', 0, [
      what,
      after,
      mark,
      JSON.stringify(counters),
      JSON.stringify(letters),
    ]);
    after = reply[0] === 'ok' ? mark : (reply[1] as string);
  }
}
