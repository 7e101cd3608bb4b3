import { connectDatabase, type Database } from '../platform/db.ts';
import type { Logger } from '../platform/logger.ts';
import type { CoordinatorConfig } from './environment.ts';
import { createHub, type Hub } from './hub/client.ts';
import { Streams } from './jobs/streams.ts';
import { type CoordinatorMetrics, createCoordinatorMetrics } from './metrics.ts';
import { Deliveries } from './miners/deliveries.ts';
import { Dispatcher } from './miners/dispatch.ts';
import { Notices } from './notices.ts';
import { type Money, openMoney } from './settlement/effects.ts';
import { type ChainNode, createChainNode } from './settlement/rpc.ts';

/** What the operations of the coordinator work with; one set per process. */
export interface CoordinatorDeps {
  readonly config: CoordinatorConfig;
  readonly log: Logger;
  readonly metrics: CoordinatorMetrics;
  readonly db: Database;
  readonly notices: Notices;
  readonly dispatcher: Dispatcher;
  readonly deliveries: Deliveries;
  readonly streams: Streams;
  /** Undefined without POOLHUB_URL. */
  readonly hub: Hub | undefined;
  readonly money: Money;
  /** Undefined with SETTLEMENT_DRIVER=none. */
  readonly node: ChainNode | undefined;
}

export interface CoordinatorState {
  /** From the first signal on. */
  draining: boolean;
  /** Whether the schema is known to be the newest. */
  migrated: boolean;
}

const CLOSE_BUDGET_MS = 2000;

/**
 * Each connection keeps the plans that it made first, which may have been on empty tables, where reading all rows is the cheapest way. Every
 * statement here finds its rows by an index, so it is held to that, however little Postgres knows of the tables yet: no scans, no merge joins
 * (which walk a whole index), no compiling.
 */
const SESSION = { enable_seqscan: 'off', enable_mergejoin: 'off', jit: 'off' };

/**
 * Opens what a coordinator works with. Postgres need not be there yet.
 * @returns the dependencies, and `close`, which lets running statements finish for 2 s
 */
export function openCoordinator(
  config: CoordinatorConfig,
  log: Logger,
  options: { readonly processMetrics?: boolean } = {},
): CoordinatorDeps & { close(): Promise<void> } {
  const metrics = createCoordinatorMetrics({ process: options.processMetrics ?? true });
  const db = connectDatabase(config, 'coordinator', SESSION);
  const notices = new Notices(config.db_dsn, db, log);
  const dispatcher = new Dispatcher({ config, db, log, metrics, notices });
  const deliveries = new Deliveries(db, log, config.poolhub_url !== undefined);
  const streams = new Streams(config, (open) => metrics.streams.set(open));
  const hub = createHub(config);
  const money = openMoney(config);
  const { settlement_rpc_url: url, settlement_rpc_timeout_ms: timeoutMs } = config;
  const isSettling = config.settlement_driver === 'rpc' && url !== undefined;
  return {
    config,
    log,
    metrics,
    db,
    notices,
    dispatcher,
    deliveries,
    streams,
    hub,
    money,
    node: isSettling ? createChainNode({ url, timeoutMs }) : undefined,
    async close() {
      dispatcher.stop();
      streams.stop();
      await deliveries.close();
      await notices.close();
      await db.close(CLOSE_BUDGET_MS);
    },
  };
}
