import { isDeepStrictEqual } from 'node:util';
import { type Job, Queue, type QueueOptions, Worker } from 'bullmq';
import * as v from 'valibot';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import type { RedisClient } from './redis.ts';
import { QUEUES, type QueueName, queuePrefix, type TaskDefinition } from './tasks.ts';

export interface TaskRunner {
  /**
   * Writes the schedules that are missing, stuck or of another version. Called at start and from then on now and then: Redis may
   * have lost them.
   */
  ensureSchedules(): Promise<void>;
  /** Tasks of each queue by state. */
  counts(): Promise<{ queue: QueueName; state: string; count: number }[]>;
  /** Takes no new task and waits for the running ones. */
  stop(): Promise<void>;
}

/** A run whose worker died is given to another after this long. */
const LOCK_MS = 5_000;
const STALLED_CHECK_MS = 2_500;

/** A worker that lost its connection asks again after this long. */
const RETRY_MS = 1_000;

/** A schedule whose next run is overdue by more than this is written again. */
const OVERDUE_MS = 30_000;

const EVENTS_KEPT = 1_000;
const STATES = ['waiting', 'active', 'delayed', 'failed', 'completed'] as const;

/**
 * Runs the tasks of the catalogue on this process, together with every other worker: BullMQ gives each run to
 * one of them.
 * @param connection without offline limits: BullMQ waits for Redis by itself
 */
export async function startTasks(
  tasks: readonly TaskDefinition[],
  connection: RedisClient,
  prefix: string,
  log: Logger,
  metrics: Pick<Metrics, 'tasksFailed'>,
): Promise<TaskRunner> {
  const names = [...new Set(tasks.map((task) => task.queue))];
  const options = { connection, prefix: queuePrefix(prefix), streams: { events: { maxLen: EVENTS_KEPT } } };
  const queues = new Map(names.map((name) => [name, openQueue(name, options, log)]));
  const runner = new BullTaskRunner(tasks, queues, log, metrics);
  await runner.ensureSchedules();
  for (const name of names) runner.work(name, options);
  return runner;
}

/** A queue whose lost connections are told in the log. */
export function openQueue(name: QueueName, options: QueueOptions, log: Logger): Queue {
  const queue = new Queue(name, options);
  queue.on('error', (error) => log.warn({ err: error, queue: name }, 'queue connection'));
  return queue;
}

class BullTaskRunner implements TaskRunner {
  readonly #tasks: readonly TaskDefinition[];
  readonly #queues: ReadonlyMap<QueueName, Queue>;
  readonly #log: Logger;
  readonly #metrics: Pick<Metrics, 'tasksFailed'>;
  readonly #workers: Worker[] = [];

  constructor(
    tasks: readonly TaskDefinition[],
    queues: ReadonlyMap<QueueName, Queue>,
    log: Logger,
    metrics: Pick<Metrics, 'tasksFailed'>,
  ) {
    this.#metrics = metrics;
    this.#tasks = tasks;
    this.#queues = queues;
    this.#log = log;
    // A counter that is there from the start shows its first step.
    for (const { queue, name } of tasks) metrics.tasksFailed.inc({ queue, task: name }, 0);
  }

  work(name: QueueName, options: { connection: RedisClient; prefix: string }): void {
    const worker = new Worker(name, (job) => this.#run(job), {
      ...options,
      concurrency: QUEUES[name].globalConcurrency,
      lockDuration: LOCK_MS,
      stalledInterval: STALLED_CHECK_MS,
      runRetryDelay: RETRY_MS,
    });
    worker.on('error', (error) => this.#log.warn({ err: error, queue: name }, 'worker connection'));
    worker.on('failed', (job, error) => {
      const known = this.#tasks.some((task) => task.name === job?.name);
      this.#metrics.tasksFailed.inc({ queue: name, task: known ? (job?.name ?? 'unknown') : 'unknown' });
      this.#log.error(
        { err: error, queue: name, task: job?.name, attempt: job?.attemptsMade },
        'task failed',
      );
    });
    this.#workers.push(worker);
  }

  async ensureSchedules(): Promise<void> {
    await Promise.all(
      [...this.#queues].map(([name, queue]) => queue.setGlobalConcurrency(QUEUES[name].globalConcurrency)),
    );
    await Promise.all(this.#tasks.map((task) => this.#ensureSchedule(task)));
  }

  async counts(): Promise<{ queue: QueueName; state: string; count: number }[]> {
    const all = await Promise.all(
      [...this.#queues].map(async ([name, queue]) => ({ name, counts: await queue.getJobCounts(...STATES) })),
    );
    return all.flatMap(({ name, counts }) =>
      Object.entries(counts).map(([state, count]) => ({ queue: name, state, count })),
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.close()));
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }

  async #run(job: Job): Promise<unknown> {
    const task = this.#tasks.find((candidate) => candidate.name === job.name);
    if (task === undefined) throw new Error(`no task of this version is named ${job.name}`);
    return await task.run(v.parse(task.payload, job.data), dueMsOf(job));
  }

  /**
   * An unchanged schedule is left alone: writing it again would move its next run. What an earlier version put into the
   * runs may be unreadable to this one.
   */
  async #ensureSchedule(task: TaskDefinition): Promise<void> {
    const queue = this.#queues.get(task.queue) as Queue;
    const data = task.scheduled;
    const opts = {
      attempts: task.attempts,
      backoff: { ...task.backoff },
      removeOnComplete: { count: task.keep.completed },
      removeOnFail: { count: task.keep.failed },
    };
    const found = await queue.getJobScheduler(task.name);
    const overdueMs = Date.now() - (found?.next ?? 0);
    // BullMQ does not keep data that is an empty object.
    const { data: foundData = {}, opts: foundOpts } = found?.template ?? {};
    const isSame = found?.every === task.everyMs && isDeepStrictEqual([foundData, foundOpts], [data, opts]);
    if (isSame && overdueMs < OVERDUE_MS) return;
    await queue.upsertJobScheduler(task.name, { every: task.everyMs }, { name: task.name, data, opts });
  }
}

/** BullMQ names a scheduled run after its moment; any other is due when it is added. */
function dueMsOf({ id = '', timestamp }: Job): number {
  const scheduled = /^repeat:.*:(\d+)$/.exec(id)?.[1];
  return scheduled === undefined ? timestamp : Number(scheduled);
}
