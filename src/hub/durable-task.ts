import * as v from 'valibot';
import type { Database } from '../platform/db.ts';
import { isPostgresUnavailable } from '../platform/db-errors.ts';
import type { Logger } from '../platform/logger.ts';

export interface DurableDeps {
  readonly db: Database;
  readonly log: Logger;
  /** Resolves once the schema is the newest; fails while Postgres is away. */
  readonly migrated: () => Promise<void>;
}

const POSTGRES_PING_MS = 1_000;

/** Of a task that runs again soon and then does the same: a run that fails is only kept to be looked at. */
export const ONCE = {
  attempts: 1,
  backoff: { type: 'exponential', delay: 500, jitter: 0.5 },
  keep: { completed: 20, failed: 200 },
} as const;

/** Of a task whose runs come seldom: one that fails is tried again after half a second, then after longer. */
export const THRICE = { ...ONCE, attempts: 3 } as const;

/** Of a task that works through batches: how large they are, and how large whoever runs it by hand may make them. */
export function batchesOf(batch: number, max: number) {
  const payload = v.strictObject({ batch: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(max)) });
  return { payload, scheduled: { batch } };
}

/**
 * An outage of Postgres is no failure of the task: the work waits in Redis, and the next run goes on with it.
 */
export async function withPostgres<T>(
  deps: DurableDeps,
  work: () => Promise<T>,
): Promise<T | { waiting: 'postgres' }> {
  if (!(await deps.db.ping(POSTGRES_PING_MS))) return { waiting: 'postgres' };
  try {
    await deps.migrated();
    return await work();
  } catch (error) {
    if (!isPostgresUnavailable(error)) throw error;
    deps.log.warn({ err: error }, 'Postgres went away during a task, the next run goes on');
    return { waiting: 'postgres' };
  }
}
