import * as v from 'valibot';
import type { Config } from '../platform/config.ts';
import { keys, shardPrefix } from '../platform/keys.ts';
import type { Metrics } from '../platform/metrics.ts';
import type { TaskDefinition } from '../platform/tasks.ts';
import { billingTasks } from './billing/tasks.ts';
import { batchesOf, ONCE, THRICE, withPostgres } from './durable-task.ts';
import { drainShard } from './journal/drain.ts';
import { feedbackSink, minerSink, type SinkDeps } from './journal/sinks.ts';
import { restoreOverrides } from './miners/overrides.ts';
import { flushStatus } from './miners/status-flush.ts';
import { REAP_BATCH } from './miners/store.ts';
import { keepStrategies } from './registry/strategies.ts';
import { retentionTask } from './retention.ts';
import { slaTasks } from './sla/tasks.ts';
import { applyUnapplied } from './trust/feedback.ts';

export interface TaskDeps extends SinkDeps {
  readonly config: Config;
  readonly metrics: Metrics;
  /** Resolves once the schema is the newest; fails while Postgres is away. */
  readonly migrated: () => Promise<void>;
}

/** Shards that one run works on at once. */
const PARALLEL_SHARDS = 4;

const REAP_EVERY_MS = 1_000;
const REAP_BUDGET_MS = 800;
const STRATEGIES_EVERY_MS = 30_000;
const DRAIN_EVERY_MS = 500;
const DRAIN_BUDGET_MS = 2_000;
const APPLY_EVERY_MS = 5_000;
const FLUSH_BUDGET_MS = 5_000;
const OVERRIDES_EVERY_MS = 60_000;
const OVERRIDES_BUDGET_MS = 5_000;

/**
 * Every background task of the hub. A run that fails is not tried again where the next one comes within
 * seconds and does the same; `attempts` counts the first. All are idempotent: a run whose worker dies is
 * given to another.
 */
export function hubTasks(deps: TaskDeps): TaskDefinition[] {
  return [
    {
      name: 'reap',
      queue: 'registry',
      ...batchesOf(REAP_BATCH, 1000),
      everyMs: REAP_EVERY_MS,
      ...ONCE,
      run: ({ batch }) => reap(deps, batch),
    },
    {
      name: 'strategies',
      queue: 'registry',
      payload: v.strictObject({}),
      scheduled: {},
      everyMs: STRATEGIES_EVERY_MS,
      ...ONCE,
      run: () => rescore(deps),
    },
    {
      name: 'journal-drain',
      queue: 'durable',
      ...batchesOf(200, 1000),
      everyMs: DRAIN_EVERY_MS,
      ...ONCE,
      run: ({ batch }) => withPostgres(deps, () => drainJournals(deps, batch)),
    },
    {
      name: 'feedback-apply',
      queue: 'durable',
      ...batchesOf(500, 1000),
      everyMs: APPLY_EVERY_MS,
      ...ONCE,
      run: ({ batch }) => withPostgres(deps, () => applyUnapplied(deps, batch)),
    },
    {
      name: 'status-flush',
      queue: 'durable',
      ...batchesOf(1000, 5000),
      everyMs: deps.config.status_flush_sec * 1000,
      ...THRICE,
      run: ({ batch }) => withPostgres(deps, () => flushAll(deps, batch)),
    },
    overridesTask(deps),
    ...slaTasks(deps),
    ...billingTasks(deps),
    retentionTask(deps),
  ];
}

/** A run goes on where the last one of this worker ended; one that begins anew only looks at some of them again. */
function overridesTask(deps: TaskDeps): TaskDefinition {
  let after = '';
  return {
    name: 'price-overrides',
    queue: 'durable',
    payload: v.strictObject({}),
    scheduled: {},
    everyMs: OVERRIDES_EVERY_MS,
    ...ONCE,
    run: () =>
      withPostgres(deps, async () => {
        const run = await restoreOverrides(deps, after, OVERRIDES_BUDGET_MS);
        after = run.after;
        return { told: run.told };
      }),
  };
}

/** Entries of all journals that have not reached Postgres. */
export async function journalLag(deps: Pick<TaskDeps, 'redis' | 'scripts' | 'homes'>): Promise<number> {
  return (await journalLengths(deps)).reduce((total, length) => total + length, 0);
}

async function reap(deps: TaskDeps, batch: number): Promise<{ removed: number; held: number }> {
  const total = { removed: 0, held: 0 };
  const deadline = performance.now() + REAP_BUDGET_MS;
  await onShards(await allShards(deps), async (shard) => {
    while (performance.now() < deadline) {
      const result = await deps.miners.reap(shard, batch);
      deps.metrics.reaperDegraded.inc(result.degraded);
      deps.metrics.reaperRemoved.inc(result.removed);
      deps.metrics.reaperHeldBack.inc(result.held);
      total.removed += result.removed;
      total.held += result.held;
      if (result.stepped === 0) break;
    }
  });
  if (total.held > 0) deps.log.warn(total, 'self-preservation holds removals back');
  if (total.removed > 0) deps.log.info(total, 'lapsed miners removed');
  return total;
}

/** Two fleets of workers with different weights on one registry would undo each other's work: the log says so. */
async function rescore(deps: TaskDeps): Promise<{ rebuilt: boolean }> {
  const report = await keepStrategies(deps);
  if (report !== undefined && report.miners > 0) {
    deps.log.warn({ miners: report.miners, left: report.left }, 'the registry was rebuilt for new weights');
  }
  return { rebuilt: report !== undefined };
}

async function drainJournals(deps: TaskDeps, batch: number): Promise<{ written: number; dead: number }> {
  const sinks = [minerSink(deps), feedbackSink(deps)];
  const drain = { redis: deps.redis, prefix: deps.scripts.prefix, log: deps.log, metrics: deps.metrics };
  const lengths = await journalLengths(deps);
  const total = { written: 0, dead: 0 };
  await onShards(
    [...lengths.keys()].filter((shard) => (lengths[shard] ?? 0) > 0),
    async (shard) => {
      const result = await drainShard(drain, sinks, shard, batch, DRAIN_BUDGET_MS);
      total.written += result.written;
      total.dead += result.dead;
    },
  );
  return total;
}

async function flushAll(deps: TaskDeps, batch: number): Promise<{ written: number }> {
  const flush = { redis: deps.redis, prefix: deps.scripts.prefix, db: deps.db };
  const total = { written: 0 };
  await onShards(await allShards(deps), async (shard) => {
    total.written += await flushStatus(flush, shard, batch, FLUSH_BUDGET_MS);
  });
  return total;
}

async function journalLengths(deps: Pick<TaskDeps, 'redis' | 'scripts' | 'homes'>): Promise<number[]> {
  const { prefix } = deps.scripts;
  const shards = await allShards(deps);
  return Promise.all(shards.map((shard) => deps.redis.xlen(keys.journal(shardPrefix(prefix, shard)))));
}

async function allShards({ homes }: Pick<TaskDeps, 'homes'>): Promise<number[]> {
  return Array.from({ length: await homes.count() }, (_, shard) => shard);
}

async function onShards(shards: readonly number[], work: (shard: number) => Promise<void>): Promise<void> {
  const waiting = [...shards];
  const takeTurns = async () => {
    for (let shard = waiting.shift(); shard !== undefined; shard = waiting.shift()) await work(shard);
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL_SHARDS, shards.length) }, takeTurns));
}
