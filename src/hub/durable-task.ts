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

/** Of a task whose runs come seldom: a run that fails is tried again after half a second, then after longer. */
export const RETRY = { type: 'exponential', delay: 500, jitter: 0.5 } as const;

/** Finished runs that stay to be looked at. */
export const KEEP = { completed: 20, failed: 200 } as const;

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
