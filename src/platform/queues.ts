import type { Queue } from 'bullmq';
import type { Logger } from './logger.ts';
import type { RedisClient } from './redis.ts';
import { QUEUES, type QueueName, queuePrefix } from './tasks.ts';

export type Queues = Readonly<Record<QueueName, Queue>>;

/**
 * All queues, to look into and to add to; nothing runs here. Opened at the first call, and BullMQ is loaded then: few replicas are
 * ever asked, and it is a fifth of what a hub does to start.
 */
export function lazyQueues(connection: RedisClient, prefix: string, log: Logger): () => Promise<Queues> {
  const options = { connection, prefix: queuePrefix(prefix), skipMetasUpdate: true };
  const open = async () => {
    const { openQueue } = await import('./task-runner.ts');
    const names = Object.keys(QUEUES) as QueueName[];
    return Object.fromEntries(names.map((name) => [name, openQueue(name, options, log)])) as Queues;
  };
  let opened: Promise<Queues> | undefined;
  return () => {
    opened ??= open();
    return opened;
  };
}

/** Whether a worker is there that runs the tasks of a queue. A Redis that does not tell is taken to have one. */
export async function hasWorker(queue: Queue): Promise<boolean> {
  return queue.getWorkersCount().then(
    (count) => count > 0,
    () => true,
  );
}
