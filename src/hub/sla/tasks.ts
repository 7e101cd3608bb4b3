import * as v from 'valibot';
import type { Metrics } from '../../platform/metrics.ts';
import type { TaskDefinition } from '../../platform/queues.ts';
import { type DurableDeps, KEEP, RETRY, withPostgres } from '../durable-task.ts';
import { COLLECT_TASK } from './collect-now.ts';
import { type CollectorDeps, collect } from './collector.ts';
import { deliverDue } from './deliveries.ts';
import { publishAlerts } from './publish.ts';
import { applyRetention } from './retention.ts';

const DELIVER_EVERY_MS = 1_000;
const RETAIN_EVERY_MS = 600_000;
const RETAIN_BUDGET_MS = 20_000;

/** The background work of service levels and alerts. */
export function slaTasks(
  deps: CollectorDeps & DurableDeps & { readonly metrics: Metrics },
): TaskDefinition[] {
  return [
    {
      name: COLLECT_TASK,
      queue: 'sla',
      payload: v.strictObject({ on_demand: v.boolean() }),
      scheduled: { on_demand: false },
      everyMs: deps.config.sla_collection_interval_seconds * 1000,
      attempts: 3,
      backoff: RETRY,
      keep: KEEP,
      run: ({ on_demand }, dueMs) => withPostgres(deps, () => collect(deps, { onDemand: on_demand, dueMs })),
    },
    {
      name: 'alerts-deliver',
      queue: 'alerts',
      payload: v.strictObject({ batch: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(100)) }),
      scheduled: { batch: 20 },
      everyMs: DELIVER_EVERY_MS,
      attempts: 1,
      backoff: RETRY,
      keep: KEEP,
      run: ({ batch }) =>
        withPostgres(deps, async () => ({
          published: await publishAlerts(deps, batch),
          ...(await deliverDue(deps, batch)),
        })),
    },
    {
      name: 'sla-retain',
      queue: 'sla',
      payload: v.strictObject({ batch: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(50_000)) }),
      scheduled: { batch: 5_000 },
      everyMs: RETAIN_EVERY_MS,
      attempts: 1,
      backoff: RETRY,
      keep: KEEP,
      run: ({ batch }) => withPostgres(deps, () => applyRetention(deps, batch, RETAIN_BUDGET_MS)),
    },
  ];
}
