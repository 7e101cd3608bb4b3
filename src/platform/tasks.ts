import type * as v from 'valibot';

/** One entry of the task catalogue: what runs, how often, and what happens when it fails. */
export interface TaskDefinition<Payload extends v.GenericSchema = v.GenericSchema> {
  readonly name: string;
  readonly queue: QueueName;
  /** Checked before each run: a task of another version of the hub is refused, not misread. */
  readonly payload: Payload;
  /** What the scheduler puts into each run. */
  readonly scheduled: v.InferInput<Payload>;
  readonly everyMs: number;
  readonly attempts: number;
  readonly backoff: { readonly type: 'exponential'; readonly delay: number; readonly jitter: number };
  /** How many finished runs stay to be looked at. */
  readonly keep: { readonly completed: number; readonly failed: number };
  /** @param dueMs when the run was to begin, Unix ms: the same however often it is begun again */
  run(payload: v.InferOutput<Payload>, dueMs: number): Promise<unknown>;
}

/**
 * `registry` holds what Redis alone needs; `durable` what writes to Postgres; `sla` what takes a minute; `alerts` what
 * waits for strangers. But for the first, one run at a time in the whole fleet.
 */
export type QueueName = 'registry' | 'durable' | 'sla' | 'alerts' | 'billing';

interface QueueSettings {
  /** Runs of this queue at once, over all workers. */
  readonly globalConcurrency: number;
}

export const QUEUES: Readonly<Record<QueueName, QueueSettings>> = {
  registry: { globalConcurrency: 4 },
  durable: { globalConcurrency: 1 },
  sla: { globalConcurrency: 1 },
  alerts: { globalConcurrency: 1 },
  billing: { globalConcurrency: 1 },
};

/** Prefix of all keys of BullMQ; the braces keep each queue in one cluster slot. */
export function queuePrefix(prefix: string): string {
  return `{${prefix}:tasks}`;
}
