import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { RedisClient } from '../../src/platform/redis.ts';
import { type Harness, harness } from './harness.ts';
import { histories, playHistory, settleDue } from './histories.ts';
import { assertExact, assertFails, assertTimely, assertVerified, poolOf, runs } from './properties.ts';
import { openWorld, resetWorld, type WorldOptions, worldRedis } from './registry-world.ts';
import { matchRequests } from './requests.ts';

const cases = fc.record({
  history: histories({ fleet: 30, events: 14 }),
  requests: fc.array(matchRequests, { minLength: 1, maxLength: 6, size: 'max' }),
});

/**
 * Tests, on worlds of these kinds: whatever happened to a fleet, the registry is what its hashes say, and every match is that of the oracle.
 * @param histories of each world
 * @param connector gives each world a Redis that it may empty
 */
export async function testExactness(
  worlds: Readonly<Record<string, WorldOptions>>,
  histories: number,
  connector: (h: Harness) => Promise<(database: number) => Promise<RedisClient>> = worldRedis,
): Promise<void> {
  const h: Harness = await harness();
  const connect = await connector(h);
  describe('whatever happened, the registry is right and every match exact', { concurrency: true }, () => {
    for (const [database, [name, options]] of Object.entries(worlds).entries()) {
      test(name, async () => {
        const world = openWorld(await connect(database), options);
        const property = fc.asyncProperty(cases, async ({ history, requests }) => {
          await resetWorld(world);
          await playHistory(world, history);
          // What is due is not stepped yet: that may not matter to verify.
          if (history.fleet.seed % 4 === 0) await assertVerified(world);
          await settleDue(world);
          const pool = await poolOf(world);
          const isPreserved = history.fleet.size >= 20 || world.shards > 1;
          assertTimely(pool, world.graceMs, isPreserved);
          for (const request of requests) await assertExact(world, pool, request);
          const [miner, request] = [pool.miners[0], requests[0]];
          if (miner !== undefined && request !== undefined) await assertFails(world, pool, request, miner.id);
          await assertVerified(world);
        });
        await fc.assert(property, runs(histories));
      });
    }
  });
}
