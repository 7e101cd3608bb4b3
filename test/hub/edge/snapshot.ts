import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import postgres from 'postgres';
import type { Harness } from '../../support/harness.ts';

/**
 * Makes a digest of all that calls may change: every key of this file in Redis, but the counters of the rate limits, and every row of
 * its database. Two equal digests: nothing has changed between them.
 */
export async function stateDigest(h: Harness): Promise<() => Promise<string>> {
  const sql = postgres(await h.db(), { max: 1 });
  h.cleanup(() => sql.end({ timeout: 5 }));
  return async () => {
    const hash = createHash('sha256');
    for (const [key, value] of await dump(h.redis, h.prefix)) hash.update(key).update('\0').update(value);
    for (const table of ['miners', 'miner_status', 'feedback', 'price_overrides', 'usage_records']) {
      const rows = await sql`select to_jsonb(t)::text as row from poolhub.${sql(table)} t order by 1`;
      for (const { row } of rows) hash.update(row);
    }
    return hash.digest('hex');
  };
}

async function dump(redis: Redis, prefix: string): Promise<Array<readonly [string, Buffer]>> {
  const keys: string[] = [];
  for await (const batch of redis.scanStream({ match: `${prefix}:*`, count: 1000 }))
    keys.push(...(batch as string[]));
  const kept = keys.filter((key) => !key.startsWith(`${prefix}:limit:`)).sort();
  return Promise.all(
    kept.map(async (key) => [key, (await redis.dumpBuffer(key)) ?? Buffer.alloc(0)] as const),
  );
}
