import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../../platform/errors.ts';
import { keys, shardPrefix } from '../../platform/keys.ts';
import { masters } from '../../platform/redis.ts';
import type { HubDeps } from '../deps.ts';
import { SCAN_COUNT, scanKeys } from './census.ts';
import { RegistryStore } from './store.ts';

type ShardDeps = Pick<HubDeps, 'redis' | 'scripts'>;

const POLL_MS = 200;
const DEAD_LETTERS_BATCH = 500;
const DEAD_LETTERS_MAX = 10_000;

/** Counters that outlive a shard: the metrics are their sums. */
const COUNTERS = ['reaped', 'reaper_held', 'journal_skipped'] as const;

/**
 * Waits until the worker has written the journals of shards that nobody writes to any more, and hands what could never be written to shard 0.
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
    await handOnDeadLetters({ redis, scripts }, shard);
  }
}

async function handOnDeadLetters({ redis, scripts }: ShardDeps, shard: number): Promise<void> {
  const from = keys.journalDead(shardPrefix(scripts.prefix, shard));
  const to = keys.journalDead(shardPrefix(scripts.prefix, 0));
  for (;;) {
    const letters = await redis.xrange(from, '-', '+', 'COUNT', DEAD_LETTERS_BATCH);
    if (letters.length === 0) return;
    for (const [, fields] of letters) await redis.xadd(to, 'MAXLEN', '~', DEAD_LETTERS_MAX, '*', ...fields);
    await redis.xdel(from, ...letters.map(([id]) => id));
  }
}

/**
 * Deletes what is left in shards that hold nobody: counters of the index, clocks, empty streams.
 * @throws AppError `conflict` when one holds miners
 */
export async function clearShards(deps: ShardDeps, from: number, to: number): Promise<void> {
  const { redis, scripts } = deps;
  const store = new RegistryStore(scripts, redis);
  for (let shard = from; shard < to; shard++) {
    if ((await redis.hget(store.key(shard, 'terms'), 'all')) !== null) {
      throw new AppError('conflict', `shard ${shard} should be empty and holds miners`);
    }
    const stats = keys.stats(shardPrefix(scripts.prefix, shard));
    const counters = await redis.hmget(stats, ...COUNTERS);
    for (const [i, name] of COUNTERS.entries()) {
      if (Number(counters[i]) > 0) await store.adjust(0, 'stats', name, Number(counters[i]));
    }
    await redis.unlink(stats);
  }
  if (from < to) await deleteKeys(deps, from, to);
}

async function deleteKeys({ redis, scripts }: ShardDeps, from: number, to: number): Promise<void> {
  const start = `${scripts.prefix}:{`;
  for (const node of masters(redis)) {
    const read = (cursor: string) => node.scan(cursor, 'MATCH', `${start}*`, 'COUNT', SCAN_COUNT);
    for await (const key of scanKeys(read)) {
      const shard = Number(key.slice(start.length, key.indexOf('}:', start.length)));
      // One by one: on a cluster, keys of several shards do not go in one command.
      if (shard >= from && shard < to) await redis.unlink(key);
    }
  }
}
