import type { MatchDeps } from '../../src/hub/matching/match.ts';
import { ReservationStore } from '../../src/hub/matching/reservations.ts';
import { MatchStore } from '../../src/hub/matching/store.ts';
import { MinerStore } from '../../src/hub/miners/store.ts';
import type { MinerHash } from '../../src/hub/miners/types.ts';
import type { Registry } from '../../src/hub/registry/difference.ts';
import { Homes } from '../../src/hub/registry/homes.ts';
import { RegistryStore } from '../../src/hub/registry/store.ts';
import { scriptConstants, WALK_LIMITS, type WalkLimits } from '../../src/hub/script-constants.ts';
import { type Config, loadConfig } from '../../src/platform/config.ts';
import { keys, shardPrefix } from '../../src/platform/keys.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { connectRedis, masters, type RedisClient, whenReady } from '../../src/platform/redis.ts';
import { Scripts } from '../../src/platform/scripts.ts';
import type { Weights } from '../../src/platform/settings.ts';
import { type Harness, TEST_SECRETS } from './harness.ts';

const COMMAND_TIMEOUT_MS = 20_000;

/** Limits so small that a fleet of ten takes every turn of the walk. */
export const TINY_WALK: WalkLimits = {
  few: 2,
  crowd: 2,
  slots: 200_000,
  sample: 4,
  budget: 1_000_000,
  cut: 2,
};

export interface WorldOptions {
  shards?: number;
  walk?: WalkLimits;
  /** Settings in the names of the environment. */
  settings?: Record<string, string>;
}

/** A registry and its matching on a real Redis, with a clock that a test moves. */
export interface World {
  readonly redis: RedisClient;
  readonly scripts: Scripts;
  readonly homes: Homes;
  readonly miners: MinerStore;
  readonly registry: Registry;
  readonly shards: number;
  readonly strategies: Readonly<Record<string, Weights>>;
  readonly config: Config;
  readonly walk: WalkLimits;
  readonly graceMs: number;
  readonly leaseMs: number;
  /** What the scripts take for the time, ms. */
  nowMs: number;
  /** A fresh one reads the price reference again. */
  matching(): MatchDeps;
  hashes(): Promise<StoredMiner[]>;
  slotCounts(): Promise<number[]>;
}

/** A miner as the registry holds it. */
export interface StoredMiner {
  readonly id: string;
  readonly shard: number;
  readonly hash: MinerHash;
}

/** A Redis for the worlds of one file; each asks for a database of its own (0 to 15), which it empties. */
export async function worldRedis(h: Harness): Promise<(database: number) => Promise<RedisClient>> {
  const server = await h.privateRedis();
  return async (database) => {
    const target = {
      url: `${server.url}/${database}`,
      clusterNodes: [],
      commandTimeoutMs: COMMAND_TIMEOUT_MS,
    };
    const redis = connectRedis(target, 'test');
    h.cleanup(() => redis.disconnect());
    await whenReady(redis, COMMAND_TIMEOUT_MS);
    return redis;
  };
}

/** A cluster for the one world of a file: there are no databases on it. */
export async function worldCluster(h: Harness): Promise<() => Promise<RedisClient>> {
  const { settings } = await h.privateCluster();
  return async () => {
    const target = {
      url: settings.REDIS_URL,
      clusterNodes: settings.REDIS_CLUSTER_NODES.split(','),
      commandTimeoutMs: COMMAND_TIMEOUT_MS,
    };
    const redis = connectRedis(target, 'test');
    h.cleanup(() => redis.disconnect());
    await whenReady(redis, COMMAND_TIMEOUT_MS);
    return redis;
  };
}

/** Empties the Redis of a world and sets its clock to now, for the next history. */
export async function resetWorld(world: World): Promise<World> {
  for (const node of masters(world.redis)) await node.flushdb();
  world.nowMs = Date.now();
  return world;
}

/** A registry on what the Redis holds. */
export function openWorld(
  redis: RedisClient,
  { shards = 1, walk = WALK_LIMITS, settings }: WorldOptions = {},
): World {
  const config = loadConfig({
    ...TEST_SECRETS,
    REDIS_URL: 'redis://127.0.0.1',
    DB_DSN: 'postgresql://127.0.0.1/none',
    REDIS_SHARDS: String(shards),
    ...settings,
  });
  const prefix = 'w';
  const state = { nowMs: Date.now() };
  const constants = scriptConstants(config, walk);
  const scripts = new Scripts(redis, { prefix, constants, clock: () => state.nowMs });
  const homes = new Homes(scripts, shards, createLogger('silent', 'world'));
  const miners = new MinerStore(scripts, redis, homes);
  const strategies = Object.entries(config.strategies).map(([name, weights]) => ({ name, ...weights }));
  const graceMs = config.heartbeat_grace_sec * 1000;
  const registry = { store: new RegistryStore(scripts, redis), shards, strategies, graceMs };
  return Object.assign(state, {
    redis,
    scripts,
    homes,
    miners,
    registry,
    shards,
    config,
    walk,
    strategies: config.strategies,
    graceMs,
    leaseMs: config.session_ttl_sec * 1000,
    matching: (): MatchDeps => ({
      matching: new MatchStore(scripts, homes, {
        strategies: strategies.map(({ name }) => name),
        highestPriceBin: async () => (await miners.stats()).highestPriceBin,
      }),
      reservations: new ReservationStore(scripts, redis, homes),
      reservationMaxTtlMs: 3_600_000,
    }),
    hashes: () => readHashes(redis, prefix, shards),
    slotCounts: async () => {
      const counts = Array.from({ length: shards }, (_, s) =>
        redis.get(`${shardPrefix(prefix, s)}slots:next`),
      );
      return (await Promise.all(counts)).map(Number);
    },
  });
}

async function readHashes(redis: RedisClient, prefix: string, shards: number): Promise<StoredMiner[]> {
  const found: StoredMiner[] = [];
  for (let shard = 0; shard < shards; shard++) {
    const start = keys.miner(shardPrefix(prefix, shard), '');
    const names = (await Promise.all(masters(redis).map((node) => node.keys(`${start}*`)))).flat();
    const read = names.map(async (name) => ({
      id: name.slice(start.length),
      shard,
      hash: await redis.hgetall(name),
    }));
    found.push(...(await Promise.all(read)));
  }
  return found;
}
