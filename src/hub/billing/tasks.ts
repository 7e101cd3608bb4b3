import * as v from 'valibot';
import type { Config } from '../../platform/config.ts';
import type { Metrics } from '../../platform/metrics.ts';
import type { TaskDefinition } from '../../platform/tasks.ts';
import { batchesOf, type DurableDeps, ONCE, THRICE, withPostgres } from '../durable-task.ts';
import { createBillingCoordinator } from './coordinator.ts';
import { deleteSent } from './store.ts';
import { release, sendDue } from './sync.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const SEND_EVERY_MS = 1_000;
const RETAIN_EVERY_MS = 600_000;
const RETAIN_BUDGET_MS = 5_000;

/** The background work of billing: a sync releases what has been used, and sending goes on until the coordinator has it. */
export function billingTasks(
  deps: DurableDeps & { readonly config: Config; readonly metrics: Metrics },
): TaskDefinition[] {
  const { config, db } = deps;
  const coordinator = createBillingCoordinator(config);
  return [
    {
      name: 'billing-sync',
      queue: 'billing',
      payload: v.strictObject({}),
      scheduled: {},
      everyMs: Math.ceil(config.billing_sync_interval_hours * HOUR_MS),
      ...THRICE,
      run: () =>
        withPostgres(deps, async () => ({
          released: coordinator === undefined ? 0 : await release(deps, {}),
        })),
    },
    {
      name: 'billing-send',
      queue: 'billing',
      payload: v.strictObject({
        budget_ms: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(60_000)),
      }),
      scheduled: { budget_ms: 10_000 },
      everyMs: SEND_EVERY_MS,
      ...ONCE,
      run: ({ budget_ms }) =>
        withPostgres(deps, async () =>
          coordinator === undefined ? { sent: 0, postponed: 0 } : sendDue(deps, coordinator, budget_ms),
        ),
    },
    {
      name: 'billing-retain',
      queue: 'billing',
      ...batchesOf(5_000, 50_000),
      everyMs: RETAIN_EVERY_MS,
      ...ONCE,
      run: ({ batch }) =>
        withPostgres(deps, async () => {
          const before = new Date(Date.now() - config.sla_retention_days * DAY_MS);
          const deadline = performance.now() + RETAIN_BUDGET_MS;
          let [deleted, rows] = [0, batch];
          while (rows === batch && performance.now() < deadline) {
            rows = await db.run((orm) => deleteSent(orm, before, batch));
            deleted += rows;
          }
          return { deleted };
        }),
    },
  ];
}
