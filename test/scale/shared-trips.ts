import { masters, type RedisClient } from '../../src/platform/redis.ts';

/** What the servers count of their clients, all masters together. */
export interface Traffic {
  /** Times that a server read from a connection: one for each write that reached it by itself. */
  readonly reads: number;
  /** Scripts called by digest. */
  readonly calls: number;
}

/** What some work costs the servers, by their own counters; others' work at the same time is counted too. */
export async function trafficOf(redis: RedisClient, work: () => Promise<unknown>): Promise<Traffic> {
  const before = await counters(redis);
  await work();
  const after = await counters(redis);
  return { reads: after.reads - before.reads, calls: after.calls - before.calls };
}

async function counters(redis: RedisClient): Promise<Traffic> {
  const texts = await Promise.all(masters(redis).map((node) => node.info('stats', 'commandstats')));
  const sum = (pattern: RegExp) =>
    texts.reduce((total, text) => total + Number(pattern.exec(text)?.[1] ?? 0), 0);
  return {
    reads: sum(/^total_reads_processed:(\d+)/m),
    calls: sum(/^cmdstat_evalsha:calls=(\d+)/m),
  };
}
