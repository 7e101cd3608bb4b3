import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../../platform/errors.ts';
import { keys, shardPrefix } from '../../platform/keys.ts';
import type { RedisClient } from '../../platform/redis.ts';

const HOLD_MS = 2_000;
const RENEW_MS = 500;
/** Of waiting out one that has just died. */
const POLL_MS = 100;

/**
 * Runs `work` unless somebody else is changing the number of shards. Nothing depends on it but the operator's peace: two at once would move
 * the same miners, once each. One that died is forgotten after two seconds.
 * @throws AppError `conflict` when somebody is; what `work` throws
 */
export async function alone<T>(redis: RedisClient, prefix: string, work: () => Promise<T>): Promise<T> {
  const key = keys.rebalance(shardPrefix(prefix, 0));
  const token = randomBytes(9).toString('base64url');
  const take = () => redis.set(key, token, 'PX', HOLD_MS, 'NX');
  for (let leftMs = HOLD_MS; (await take()) === null; ) {
    const beforeMs = leftMs;
    leftMs = await redis.pttl(key);
    // It grows only when its holder, who lives, renews it.
    if (leftMs > beforeMs) {
      throw new AppError('conflict', 'the number of shards is being changed by somebody else');
    }
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
