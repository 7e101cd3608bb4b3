import type { Redis } from 'ioredis';

/** Measures the script calls of one connection. */
export interface Meter {
  /** Measures those of some work, one at a time. */
  during(work: () => Promise<unknown>): Promise<Measured>;
}

export interface Measured {
  /** Script calls that took too long, and how long, microseconds. */
  slow: Map<string, number>;
  /** How many times longer than meant the server took for everything meanwhile, at least 1. */
  slowness: number;
}

/** So much of a call's words names it, whatever job it is for. */
const NAMED = { words: 12, letters: 60 };
const JOB = /\bjob-\d+/g;
/** Of so many calls of a script, one that takes long may be the doing of the machine: caches, pages, another guest. */
const ODD_ONE_IN = 1_000;

/** What every script is made of: calls of commands. So much processor time it takes on the machine that the limits are meant for. */
const REFERENCE = { script: "for i = 1, 10000 do redis.call('EXISTS', KEYS[1]) end", us: 2_100 };

/**
 * Measures script calls by the processor time of the server's main thread. The clock on the wall, which SLOWLOG goes by, also counts what a busy
 * machine did meanwhile. The reading before and after a call, about 0.1 ms, is counted with it. Processor time too grows where other guests take the
 * caches and the clock rate of a machine, so what is too long is told by a reference that is measured before and after the work.
 */
export function meterScripts(redis: Redis, limitUs: number): Meter {
  const call = redis.evalsha.bind(redis) as (...words: unknown[]) => Promise<unknown>;
  let scripts: Map<string, { calls: number; slow: Map<string, number> }> | undefined;
  const measured = async (words: readonly unknown[]) => {
    const before = await processorUs(redis);
    const reply = await call(...words);
    const us = (await processorUs(redis)) - before;
    const sha = String(words[0]);
    const script = scripts?.get(sha) ?? { calls: 0, slow: new Map() };
    scripts?.set(sha, script);
    script.calls += 1;
    if (us > limitUs) script.slow.set(nameOf(words), us);
    return reply;
  };
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = (...words: unknown[]) => {
    if (scripts === undefined) return call(...words);
    const reply = last.then(() => measured(words));
    last = reply.catch(() => undefined);
    return reply;
  };
  redis.evalsha = inTurn as typeof redis.evalsha;
  return {
    async during(work) {
      const slowBefore = await slownessOf(redis);
      scripts = new Map();
      await work();
      const measured = [...scripts.values()];
      scripts = undefined;
      const slowness = Math.max(slowBefore, await slownessOf(redis));
      const tooLongUs = limitUs * slowness;
      const often = measured
        .map(({ calls, slow }) => ({ calls, slow: [...slow].filter(([, us]) => us > tooLongUs) }))
        .filter(({ calls, slow }) => slow.length * ODD_ONE_IN > calls);
      return { slow: new Map(often.flatMap(({ slow }) => slow)), slowness };
    },
  };
}

function nameOf(words: readonly unknown[]): string {
  const named = words.slice(0, NAMED.words).map((word) => String(word).slice(0, NAMED.letters));
  return named.join(' ').replace(JOB, 'job');
}

/** How many times longer than meant the server takes now, at least 1. */
async function slownessOf(redis: Redis): Promise<number> {
  const before = await processorUs(redis);
  await redis.eval(REFERENCE.script, 1, 'nobody');
  return Math.max(1, ((await processorUs(redis)) - before) / REFERENCE.us);
}

async function processorUs(redis: Redis): Promise<number> {
  const info = await redis.info('cpu');
  const seconds = (kind: string) =>
    Number(new RegExp(`^used_cpu_${kind}_main_thread:([\\d.]+)`, 'm').exec(info)?.[1]);
  return Math.round((seconds('user') + seconds('sys')) * 1e6);
}
