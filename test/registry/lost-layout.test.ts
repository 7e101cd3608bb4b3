import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shardPrefix } from '../../src/platform/keys.ts';
import { harness } from '../support/harness.ts';
import { openWorld, resetWorld, worldRedis } from '../support/registry-world.ts';

const h = await harness();
const connect = await worldRedis(h);

test('a registry of four shards whose first comes back empty keeps its four, whatever the setting of who looks first', async () => {
  const redis = await connect(0);
  const world = await resetWorld(openWorld(redis, { shards: 4 }));
  await world.homes.layouts.refresh();
  // What a process learns of a shard when it first calls a script there.
  for (const shard of [1, 2, 3]) await world.scripts.run('miners/stats', shard, []);
  const layout = await redis.get(`${shardPrefix(world.scripts.prefix, 1)}layout`);
  assert.notEqual(layout, null);

  for (const seen of [true, false]) {
    const other = openWorld(redis, { shards: 1 });
    if (seen) assert.equal(await other.homes.count(), 4);
    await redis.del(`${shardPrefix(world.scripts.prefix, 0)}layout`);
    assert.equal((await other.homes.layouts.refresh()).shards, 4, seen ? 'it knew' : 'it is new');
    assert.equal(await redis.get(`${shardPrefix(world.scripts.prefix, 0)}layout`), layout);
  }
});
