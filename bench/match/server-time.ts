import type { Redis } from 'ioredis';

/** A script that does nothing: what the call itself costs. */
const EMPTY_SCRIPT = "return {'ok'}";

/** What the server says that it spent on scripts called by digest. */
interface ScriptClock {
  readonly calls: number;
  readonly usec: number;
}

/** Loads the empty script. @returns its digest */
export async function loadEmptyScript(redis: Redis): Promise<string> {
  return (await redis.script('LOAD', EMPTY_SCRIPT)) as string;
}

/**
 * Server-side microseconds of one EVALSHA while `work` runs, mean over its calls, by INFO commandstats. Whoever else runs scripts on the
 * server at the same time is counted too.
 * @param parts where several share a call: what the time is divided by instead
 * @throws Error when `work` ran no script
 */
export async function serverMicros(
  redis: Redis,
  work: () => Promise<unknown>,
  parts?: number,
): Promise<number> {
  const before = await readClock(redis);
  await work();
  const after = await readClock(redis);
  const calls = after.calls - before.calls;
  if (calls === 0) throw new Error('no script ran');
  return (after.usec - before.usec) / (parts ?? calls);
}

/** Totals since the server's start; differences of them leave the statistics of a shared server alone. */
async function readClock(redis: Redis): Promise<ScriptClock> {
  const line = /^cmdstat_evalsha:calls=(\d+),usec=(\d+)/m.exec(await redis.info('commandstats'));
  return { calls: Number(line?.[1] ?? 0), usec: Number(line?.[2] ?? 0) };
}
