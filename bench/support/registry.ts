import { randomBytes } from 'node:crypto';
import { MatchStore } from '../../src/hub/matching/store.ts';
import { MinerStore } from '../../src/hub/miners/store.ts';
import { Homes } from '../../src/hub/registry/homes.ts';
import { scriptConstants } from '../../src/hub/script-constants.ts';
import { type Config, loadConfig } from '../../src/platform/config.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { connectRedis, type RedisClient, whenReady } from '../../src/platform/redis.ts';
import { Scripts } from '../../src/platform/scripts.ts';
import type { BenchRedis } from './stores.ts';
import type { Undo } from './undo.ts';

const SCRIPTS = [
  'miners/register',
  'miners/heartbeat',
  'miners/stats',
  'matching/match',
  'matching/explain',
] as const;
const START_TIMEOUT_MS = 10_000;
/** Thousands of calls wait for each other while a fleet is loaded. */
const COMMAND_TIMEOUT_MS = 60_000;
/** No limit, as far as settings go: what is measured is the work behind it, and the counting of the limits. */
const UNLIMITED_PER_SEC = '1000000';

/**
 * Settings of a hub under measurement, in the names of the environment. Leases outlast the run, so that a fleet that is loaded once stays online.
 */
export function benchSettings({ url, prefix }: BenchRedis, dsn: string): Record<string, string> {
  const secret = () => randomBytes(24).toString('base64url');
  return {
    REDIS_URL: url,
    REDIS_PREFIX: prefix,
    DB_DSN: dsn,
    POOLHUB_PORT: '0',
    SHUTDOWN_DRAIN_MS: '0',
    SESSION_TTL_SEC: '86400',
    HEARTBEAT_GRACE_SEC: '86400',
    RATE_LIMIT_REGISTER_PER_SEC: UNLIMITED_PER_SEC,
    RATE_LIMIT_MATCH_PER_SEC: UNLIMITED_PER_SEC,
    RATE_LIMIT_DEFAULT_PER_SEC: UNLIMITED_PER_SEC,
    RATE_LIMIT_HEARTBEAT_PER_SEC: UNLIMITED_PER_SEC,
    COORDINATOR_SHARED_SECRET: secret(),
    ADMIN_API_KEY: secret(),
    API_KEY_PEPPER: secret(),
  };
}

/** The registry and the matching of the hub, in this process, on the Redis of the run. */
export interface BenchRegistry {
  readonly redis: RedisClient;
  readonly config: Config;
  readonly scripts: Scripts;
  readonly homes: Homes;
  readonly miners: MinerStore;
  /** `highestPriceBin` is read once, so that no other script runs between matches; the registry must not change any more. */
  matching(): Promise<{ store: MatchStore; highestPriceBin: number }>;
}

/** Connects, and loads the scripts. @param settings as `benchSettings` makes them */
export async function openRegistry(settings: Record<string, string>, undo: Undo): Promise<BenchRegistry> {
  const config = loadConfig(settings);
  const target = {
    url: config.redis_url ?? '',
    clusterNodes: config.redis_cluster_nodes,
    commandTimeoutMs: COMMAND_TIMEOUT_MS,
  };
  const redis = connectRedis(target, 'pool-hub-bench');
  // After the answers to what was sent: nothing may be written once the keys are deleted.
  undo.push(() => redis.quit());
  await whenReady(redis, START_TIMEOUT_MS);
  const scripts = new Scripts(redis, { prefix: config.redis_prefix, constants: scriptConstants(config) });
  const homes = new Homes(scripts, config.redis_shards, createLogger('silent', 'bench'));
  await scripts.load(SCRIPTS);
  const miners = new MinerStore(scripts, redis, homes);
  const strategies = Object.keys(config.strategies);
  return {
    redis,
    config,
    scripts,
    homes,
    miners,
    async matching() {
      const { highestPriceBin } = await miners.stats();
      const store = new MatchStore(scripts, homes, {
        strategies,
        highestPriceBin: async () => highestPriceBin,
      });
      return { store, highestPriceBin };
    },
  };
}
