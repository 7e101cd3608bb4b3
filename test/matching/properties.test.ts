import { test } from 'node:test';
import fc from 'fast-check';
import { harness } from '../support/harness.ts';
import { histories, playHistory, settleDue } from '../support/histories.ts';
import { assertExact, assertFails, assertVerified, poolOf, runs } from '../support/properties.ts';
import { openWorld, resetWorld, TINY_WALK, worldRedis } from '../support/registry-world.ts';
import { matchRequests } from '../support/requests.ts';

const h = await harness();
const redis = await worldRedis(h);

const WORLDS = [
  { name: 'one shard, tiny walk limits', world: openWorld(redis, { walk: TINY_WALK }) },
  { name: 'three shards, tiny walk limits', world: openWorld(redis, { shards: 3, walk: TINY_WALK }) },
  { name: 'one shard', world: openWorld(redis) },
  { name: 'three shards', world: openWorld(redis, { shards: 3 }) },
];

const cases = fc.record({
  history: histories({ fleet: 30, events: 14 }),
  requests: fc.array(matchRequests, { minLength: 1, maxLength: 5, size: 'max' }),
});

for (const { name, world } of WORLDS) {
  test(`whatever happened, the registry is right and every match exact: ${name}`, async () => {
    const property = fc.asyncProperty(cases, async ({ history, requests }) => {
      await resetWorld(world);
      await playHistory(world, history);
      await assertVerified(world);
      await settleDue(world);
      await assertVerified(world);
      const pool = await poolOf(world);
      for (const request of requests) await assertExact(world, pool, request);
      const some = pool.miners[0];
      if (some !== undefined && requests[0] !== undefined)
        await assertFails(world, pool, requests[0], some.id);
    });
    await fc.assert(property, runs(550));
  });
}
