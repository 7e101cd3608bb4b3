import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RedisClient } from '../../platform/redis.ts';

const HOLD_MS = 2_000;
const RENEW_MS = 500;
/** Of waiting out one that has just died. */
const POLL_MS = 100;

/**
 * Runs `work` unless somebody else is at it. Nothing depends on it but that the work is not done twice at once: who was silent for two seconds
 * is taken for dead, and comes on beside the next if it was not.
 * @param key says that somebody is at it
 * @param taken called, instead of `work`, when somebody else is
 * @throws what Redis, `work` or `taken` throws
 */
export async function alone<T>(
  redis: RedisClient,
  key: string,
  work: () => Promise<T>,
  taken: () => T,
): Promise<T> {
  const token = randomBytes(9).toString('base64url');
  const take = () => redis.set(key, token, 'PX', HOLD_MS, 'NX');
  for (let leftMs = HOLD_MS; (await take()) === null; ) {
    const beforeMs = leftMs;
    leftMs = await redis.pttl(key);
    // It grows only when its holder, who lives, renews it.
    if (leftMs > beforeMs) return taken();
    await sleep(POLL_MS * (0.5 + Math.random()));
  }
  const renew = setInterval(() => {
    // A late renewal is harmless, and so is a lost one.
    redis.set(key, token, 'PX', HOLD_MS).catch(() => undefined);
  }, RENEW_MS);
  try {
    return await work();
  } finally {
    clearInterval(renew);
    await redis.del(key);
  }
}
