import type { Config } from '../platform/config.ts';
import { connectDatabase, type Database } from '../platform/db.ts';
import type { Logger } from '../platform/logger.ts';
import { createMetrics, type Metrics } from '../platform/metrics.ts';
import { connectRedis, type RedisClient } from '../platform/redis.ts';
import { Scripts } from '../platform/scripts.ts';
import { ReservationStore } from './matching/reservations.ts';
import { MatchStore } from './matching/store.ts';
import { MinerStore } from './miners/store.ts';
import { Homes } from './registry/homes.ts';
import { scriptConstants } from './script-constants.ts';

/** What the operations of the hub work with; one set per process. */
export interface HubDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly redis: RedisClient;
  readonly scripts: Scripts;
  readonly homes: Homes;
  readonly miners: MinerStore;
  readonly matching: MatchStore;
  readonly reservations: ReservationStore;
  readonly reservationMaxTtlMs: number;
  readonly db: Database;
}

/** Moments that a process moves through; `draining` from the first signal on. */
export interface HubState {
  draining: boolean;
}

interface OpenOptions {
  /** Replaces Redis TIME in the scripts, ms since the epoch; for tests. */
  readonly clock?: () => number;
  /** Off in tests, which open many. */
  readonly processMetrics?: boolean;
}

const CLOSE_BUDGET_MS = 2000;
/** What a heartbeat may wait for others, ms: nothing to a miner, and at thousands a second a tenth of the round trips. */
const GATHER_MS = 2;

/**
 * Opens the stores. Neither needs to be there: the process starts, says so in /readyz, and works once they are.
 * @returns the dependencies, and `close`, which lets running statements finish for 2 s
 */
export function openDeps(
  config: Config,
  log: Logger,
  options: OpenOptions = {},
): HubDeps & { close(): Promise<void> } {
  const metrics = createMetrics({ process: options.processMetrics ?? true });
  const redis = connectRedis(
    {
      url: config.redis_url ?? '',
      clusterNodes: config.redis_cluster_nodes,
      commandTimeoutMs: config.redis_command_timeout_ms,
    },
    'pool-hub',
    // Pipelines of a connection run one after another: without this, what waits behind a server that hangs waits twice.
    { socketTimeout: config.redis_command_timeout_ms },
  );
  logTransitions(redis, log);
  const scripts = new Scripts(redis, {
    prefix: config.redis_prefix,
    constants: scriptConstants(config),
    observe: (script, durationMs, failed) => {
      metrics.scriptDurationMs.observe({ script }, durationMs);
      if (failed) metrics.scriptErrors.inc({ script });
    },
    ...(options.clock === undefined ? {} : { clock: options.clock }),
  });
  const homes = new Homes(scripts, config.redis_shards, log);
  const miners = new MinerStore(scripts, redis, homes, { gatherMs: GATHER_MS });
  const matching = new MatchStore(scripts, homes, {
    strategies: Object.keys(config.strategies),
    highestPriceBin: async () => (await miners.stats()).highestPriceBin,
  });
  const reservations = new ReservationStore(scripts, redis, homes);
  const db = connectDatabase(config, 'pool-hub');
  return {
    config,
    log,
    metrics,
    redis,
    scripts,
    homes,
    miners,
    matching,
    reservations,
    reservationMaxTtlMs: config.reservation_max_ttl_ms,
    db,
    async close() {
      redis.disconnect();
      await db.close(CLOSE_BUDGET_MS);
    },
  };
}

/** One line when Redis goes and one when it is back, instead of one per attempt to reconnect. */
function logTransitions(redis: RedisClient, log: Logger): void {
  let away = false;
  redis.on('error', (error: Error) => {
    if (!away) log.warn({ err: error }, 'Redis is away');
    away = true;
  });
  redis.on('ready', () => {
    if (away) log.info('Redis is back');
    away = false;
  });
}
