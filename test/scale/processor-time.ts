import type { Redis } from 'ioredis';

/** Script calls that took the server longer than a limit, by its processor time. */
export interface Meter {
  /** The call, and how long it took, microseconds. */
  readonly dear: Map<string, number>;
  /** Calls are measured, one at a time, while this is set. */
  on: boolean;
}

/** So much of a call's words names it, whatever job it is for. */
const NAMED = { words: 12, letters: 60 };
const JOB = /\bjob-\d+/g;

/**
 * Measures script calls by the processor time of the server's main thread. The clock on the wall, which SLOWLOG goes by, also counts what a busy
 * machine did meanwhile. The reading before and after a call, about 0.1 ms, is counted with it.
 */
export function meterScripts(redis: Redis, limitUs: number): Meter {
  const meter: Meter = { dear: new Map(), on: false };
  const call = redis.evalsha.bind(redis) as (...words: unknown[]) => Promise<unknown>;
  const measured = async (words: readonly unknown[]) => {
    const before = await processorUs(redis);
    const reply = await call(...words);
    const us = (await processorUs(redis)) - before;
    if (us > limitUs) meter.dear.set(nameOf(words), us);
    return reply;
  };
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = (...words: unknown[]) => {
    if (!meter.on) return call(...words);
    const reply = last.then(() => measured(words));
    last = reply.catch(() => undefined);
    return reply;
  };
  redis.evalsha = inTurn as typeof redis.evalsha;
  return meter;
}

function nameOf(words: readonly unknown[]): string {
  const named = words.slice(0, NAMED.words).map((word) => String(word).slice(0, NAMED.letters));
  return named.join(' ').replace(JOB, 'job');
}

async function processorUs(redis: Redis): Promise<number> {
  const info = await redis.info('cpu');
  const seconds = (kind: string) =>
    Number(new RegExp(`^used_cpu_${kind}_main_thread:([\\d.]+)`, 'm').exec(info)?.[1]);
  return Math.round((seconds('user') + seconds('sys')) * 1e6);
}
