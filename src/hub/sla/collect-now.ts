import { setTimeout as sleep } from 'node:timers/promises';
import type { Queue } from 'bullmq';
import { AppError } from '../../platform/errors.ts';
import { hasWorker } from '../../platform/queues.ts';
import type { CollectionResult } from './collector.ts';

/** Name of the task that measures service levels. */
export const COLLECT_TASK = 'sla-collect';

export type CollectAnswer =
  | { status: 'done'; result: CollectionResult }
  /** No worker has finished it in time, or none is there yet. */
  | { status: 'waiting'; taskId: string; hint: string };

const WAIT_MS = 10_000;
const POLL_MS = 50;
const KEEP_SEC = 3_600;

/** The queue holds one waiting run of each schedule, and one that somebody asks for. */
const MAX_LOOK = 20;

const SLOW = 'the collection goes on: GET /sla/status shows it as last_collection once it is finished';
const NO_WORKER = 'no worker is running: the collection waits for one (docs/OPERATIONS.md)';
const NO_POSTGRES = 'Postgres is away: ask again later';

/** Asks the workers for a collection now. One that waits already serves everybody who asks. */
export async function collectNow(queue: Queue): Promise<CollectAnswer> {
  const waiting = (await queue.getWaiting(0, MAX_LOOK)).find(({ data }) => data.on_demand === true);
  const task =
    waiting ??
    (await queue.add(
      COLLECT_TASK,
      { on_demand: true },
      { removeOnComplete: { age: KEEP_SEC, count: 20 }, removeOnFail: { count: 200 } },
    ));
  const taskId = String(task.id);
  const hasWorkers = await hasWorker(queue);
  const deadline = performance.now() + (hasWorkers ? WAIT_MS : 0);
  for (;;) {
    const state = await queue.getJobState(taskId);
    if (state === 'completed') return answerOf(await queue.getJob(taskId), taskId);
    if (state === 'failed') {
      const message = `the collection failed: /admin/queues says why, of task ${taskId}`;
      throw new AppError('unavailable', message, { retry_after_sec: 5 });
    }
    if (performance.now() >= deadline)
      return { status: 'waiting', taskId, hint: hasWorkers ? SLOW : NO_WORKER };
    await sleep(POLL_MS);
  }
}

/** A run that found Postgres away ends without counts: the next one measures. */
function answerOf(task: { returnvalue: unknown } | undefined, taskId: string): CollectAnswer {
  const value = task?.returnvalue as CollectionResult | { waiting: string } | undefined;
  return value !== undefined && 'collected_at' in value
    ? { status: 'done', result: value }
    : { status: 'waiting', taskId, hint: NO_POSTGRES };
}
