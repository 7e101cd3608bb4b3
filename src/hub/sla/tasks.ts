import * as v from 'valibot';
import type { Metrics } from '../../platform/metrics.ts';
import type { TaskDefinition } from '../../platform/tasks.ts';
import { batchesOf, type DurableDeps, ONCE, THRICE, withPostgres } from '../durable-task.ts';
import { COLLECT_TASK } from './collect-now.ts';
import { type CollectorDeps, collect } from './collector.ts';
import { deliverDue } from './deliveries.ts';
import { publishAlerts } from './publish.ts';
import { applyRetention } from './retention.ts';

const PUBLISH_EVERY_MS = 1_000;
const PUBLISH_BUDGET_MS = 2_000;
const DELIVER_EVERY_MS = 1_000;
const DELIVER_BUDGET_MS = 5_000;
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
      ...THRICE,
      run: ({ on_demand }, dueMs) => withPostgres(deps, () => collect(deps, { onDemand: on_demand, dueMs })),
    },
    {
      // Not in the queue of the deliveries: whoever watches does not wait for a webhook that hangs.
      name: 'alerts-publish',
      queue: 'durable',
      ...batchesOf(200, 1_000),
      everyMs: PUBLISH_EVERY_MS,
      ...ONCE,
      run: ({ batch }) =>
        withPostgres(deps, async () => ({ published: await publishAlerts(deps, batch, PUBLISH_BUDGET_MS) })),
    },
    {
      name: 'alerts-deliver',
      queue: 'alerts',
      ...batchesOf(10, 100),
      everyMs: DELIVER_EVERY_MS,
      ...ONCE,
      run: ({ batch }) => withPostgres(deps, () => deliverDue(deps, batch, DELIVER_BUDGET_MS)),
    },
    {
      name: 'sla-retain',
      queue: 'sla',
      ...batchesOf(5_000, 50_000),
      everyMs: RETAIN_EVERY_MS,
      ...ONCE,
      run: ({ batch }) => withPostgres(deps, () => applyRetention(deps, batch, RETAIN_BUDGET_MS)),
    },
  ];
}
