import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { rebuildRegistry } from '../../src/hub/registry/rebuild.ts';
import { CORRUPTIONS, type Corruption, corrupt } from '../support/corruptions.ts';
import { harness } from '../support/harness.ts';
import { histories, playHistory, settleDue } from '../support/histories.ts';
import { assertVerified, runs } from '../support/properties.ts';
import { openWorld, resetWorld, type World, worldRedis } from '../support/registry-world.ts';

const h = await harness();
const connect = await worldRedis(h);

const START_MS = 1_800_000_000_000;

/** A batch of what is due: the next one is another. */
const BATCHES = ['miners/reap', 'miners/alive'];
/** Scripts whose repetition must not be told from the first call. The others say that nothing was left to do. */
const ALIKE = [
  'miners/heartbeat',
  'miners/update',
  'miners/command',
  'miners/override',
  'matching/claim',
  'matching/job_open',
  'matching/end_reservation',
];

/** Has every call of a script done twice, as a cluster client does whose connection broke before the answer; the second answer counts. */
function repeating(world: World): World {
  const once = world.scripts.run.bind(world.scripts);
  world.scripts.run = async (name, shard, args) => {
    const first = await once(name, shard, args);
    if (BATCHES.includes(name)) return first;
    const second = await once(name, shard, args);
    if (ALIKE.includes(name)) assert.deepEqual(second, first, name);
    return second;
  };
  return world;
}

/** What the registry holds, less the names of sessions and reservations, which are never the same. */
async function contentOf(world: World): Promise<unknown> {
  const hashes = (await world.hashes()).map(({ id, hash: { session, registration, ...hash } }) => {
    const fields = Object.entries(hash).map(([name, value]) => [name.replace(/^hold:.*/, 'hold'), value]);
    return [id, Object.fromEntries(fields)] as const;
  });
  const commands = await Promise.all(
    hashes.map(async ([id]) => (await world.miners.pendingCommands(id, 100)).map(({ name }) => name)),
  );
  const { journalEntries, ...stats } = await world.miners.stats();
  return { hashes: Object.fromEntries(hashes), commands, stats };
}

test('whatever happens, every call done twice leaves the registry as if it had been done once', async () => {
  const once = openWorld(await connect(0));
  const twice = repeating(openWorld(await connect(1)));
  const property = fc.asyncProperty(histories({ fleet: 8, events: 14 }), async (history) => {
    const contents: unknown[] = [];
    for (const world of [once, twice]) {
      await resetWorld(world);
      world.nowMs = START_MS;
      await playHistory(world, history);
      await settleDue(world);
      await assertVerified(world);
      contents.push(await contentOf(world));
    }
    assert.deepEqual(contents[1], contents[0]);
  });
  await fc.assert(property, runs(25));
});

test('a correction that is sent twice corrects once', async () => {
  const world = repeating(await resetWorld(openWorld(await connect(2))));
  await playHistory(world, { fleet: { style: 'mixed', size: 12, seed: 7 }, events: [] });
  for (const name of ['a histogram is off', 'the sum of latencies is off']) {
    await corrupt(world, CORRUPTIONS.find((corruption) => corruption.name === name) as Corruption, 5);
  }
  const { mended, left } = await rebuildRegistry(world.registry);
  assert.deepEqual({ mended, left }, { mended: { 'wrong histogram': 1, 'wrong total': 1 }, left: 0 });
});
