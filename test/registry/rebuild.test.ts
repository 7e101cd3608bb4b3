import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import * as v from 'valibot';
import { MatchRequest } from '../../src/hub/matching/schema.ts';
import { rebuildRegistry } from '../../src/hub/registry/rebuild.ts';
import { keepStrategies } from '../../src/hub/registry/strategies.ts';
import { verifyRegistry } from '../../src/hub/registry/verify.ts';
import { CORRUPTIONS, corrupt } from '../support/corruptions.ts';
import { FLEET_STYLES } from '../support/fleets.ts';
import { harness } from '../support/harness.ts';
import { histories, playHistory, settleDue } from '../support/histories.ts';
import { askOracle } from '../support/oracle.ts';
import { assertExact, assertVerified, poolOf, runs } from '../support/properties.ts';
import { openWorld, resetWorld, TINY_WALK, worldRedis } from '../support/registry-world.ts';
import { matchRequests } from '../support/requests.ts';

const h = await harness();
const connect = await worldRedis(h);
const fleet = { style: 'mixed', size: 12, seed: 7 } as const;

describe('each kind of damage is found, named and mended', async () => {
  for (const corruption of CORRUPTIONS) {
    test(corruption.name, async () => {
      const world = await resetWorld(openWorld(await connect(0)));
      await playHistory(world, { fleet, events: [{ do: 'remove', who: 3 }] });
      await corrupt(world, corruption, 5);
      const { counts, miners } = await verifyRegistry(world.registry);
      assert.equal(miners, 11);
      assert.ok(counts[corruption.kind], `found ${JSON.stringify(counts)}, not ${corruption.kind}`);
      const report = await rebuildRegistry(world.registry);
      assert.equal(report.left, 0);
      await assertVerified(world);
    });
  }
});

test('any damage to any registry is mended, and matching is exact again', async () => {
  const world = openWorld(await connect(1), { shards: 3 });
  const damage = fc.array(fc.tuple(fc.constantFrom(...CORRUPTIONS), fc.nat(40)), {
    minLength: 1,
    maxLength: 8,
  });
  const property = fc.asyncProperty(
    histories({ fleet: 20, events: 8 }),
    damage,
    matchRequests,
    async (history, damages, request) => {
      await resetWorld(world);
      await playHistory(world, history);
      for (const [corruption, which] of damages) await corrupt(world, corruption, which);
      const { left } = await rebuildRegistry(world.registry);
      assert.equal(left, 0);
      await assertVerified(world);
      await settleDue(world);
      await assertExact(world, await poolOf(world), request);
      await assertVerified(world);
    },
  );
  await fc.assert(property, runs(60));
});

test('an index that is lost altogether comes back from the hashes', async () => {
  const world = await resetWorld(openWorld(await connect(2), { shards: 3 }));
  await playHistory(world, { fleet: { ...fleet, size: 40 }, events: [] });
  const keys = await world.redis.keys('w:{*}:*');
  await world.redis.del(...keys.filter((key) => !/:(miner:|reservation)/.test(key)));
  assert.equal((await rebuildRegistry(world.registry)).left, 0);
  await assertVerified(world);
});

test('other strategies and other weights: a rebuild moves every step', async () => {
  const redis = await connect(3);
  const before = await resetWorld(openWorld(redis, { settings: { STRATEGIES: EXTRA_STRATEGY } }));
  await playHistory(before, { fleet: { ...fleet, size: 30 }, events: [] });
  for (const settings of [
    { DEFAULT_WEIGHTS: 'cap:0.1,price:0.1,latency:0.5,trust:0.2,load:0.1' },
    { STRATEGIES: EXTRA_STRATEGY.replace('patient', 'hasty') },
  ]) {
    const world = openWorld(redis, { settings });
    assert.notDeepEqual((await verifyRegistry(world.registry)).counts, {});
    assert.equal((await rebuildRegistry(world.registry)).left, 0);
    await assertVerified(world);
    const pool = await poolOf(world);
    for (const request of fc.sample(matchRequests, 20)) await assertExact(world, pool, request);
  }
});

test('until the rebuild, other strategies leave miners and matches at work', async () => {
  const redis = await connect(5);
  const more = { settings: { STRATEGIES: EXTRA_STRATEGY } };
  for (const [old, now] of [
    [more, {}],
    [{}, more],
  ] as const) {
    const before = await resetWorld(openWorld(redis, old));
    await playHistory(before, { fleet, events: [] });
    const world = openWorld(redis, now);
    const hash = await world.miners.get('m1');
    const credential = { kind: 'session', digest: hash?.session ?? '' } as const;
    assert.equal((await world.miners.heartbeat('m1', credential, { queue_len: 1 })).status, 'ok');
    assert.equal(await world.miners.remove('m2', 'operator'), true);
    const request = v.parse(MatchRequest, { job_id: 'job', top_k: 20 });
    const { candidates } = await world.matching().matching.find(request, 0, request.top_k);
    const expected = askOracle(await poolOf(world), request).ranked;
    assert.deepEqual(
      new Set(candidates.map(({ minerId }) => minerId)),
      new Set(expected.map(({ id }) => id)),
    );
    assert.equal((await rebuildRegistry(world.registry)).left, 0);
    await assertVerified(world);
  }
});

test('a rolling restart for other strategies, hubs of both kinds at work after the rebuild, leaves a right registry', async () => {
  const redis = await connect(7);
  const renamed = EXTRA_STRATEGY.replace('patient', 'hasty');
  for (const [old, now] of [
    [{}, { STRATEGIES: EXTRA_STRATEGY }],
    [{ STRATEGIES: EXTRA_STRATEGY }, {}],
    [{ STRATEGIES: EXTRA_STRATEGY }, { STRATEGIES: renamed }],
  ] as const) {
    const before = await resetWorld(openWorld(redis, { settings: old }));
    await playHistory(before, { fleet, events: [] });
    const world = openWorld(redis, { walk: TINY_WALK, settings: now });
    await keepStrategies(world);
    for (const [round, hub] of [before, world, before, world].entries()) {
      for (const [i, { id, hash }] of (await world.hashes()).entries()) {
        const session = { kind: 'session', digest: hash.session ?? '' } as const;
        await hub.miners.heartbeat(id, session, {
          queue_len: (round + i) % 3,
          avg_latency_ms: 40 * round + i,
        });
      }
    }
    assert.equal(await keepStrategies(world), undefined);
    await assertVerified(world);
    const pool = await poolOf(world);
    for (const strategy of Object.keys(world.strategies)) {
      const request = v.parse(MatchRequest, { job_id: 'job', top_k: 8, hints: { strategy } });
      await assertExact(world, pool, request);
    }
  }
});

test('the worker rescores a registry that was made with other weights, once', async () => {
  const redis = await connect(6);
  await playHistory(await resetWorld(openWorld(redis)), { fleet, events: [] });
  const world = openWorld(redis, { settings: { STRATEGIES: EXTRA_STRATEGY } });
  // A rebuild that takes long may be asked for again meanwhile.
  const reports = await Promise.all(Array.from({ length: 3 }, () => keepStrategies(world)));
  assert.deepEqual(
    reports.flatMap((report) => report?.left ?? []),
    [0],
  );
  await assertVerified(world);
  assert.equal(await keepStrategies(world), undefined);
});

const EXTRA_STRATEGY = 'patient=cap:0.1,price:0.1,latency:0.1,trust:0.6,load:0.1';

test('verify and rebuild find nothing to say about a registry at work', async () => {
  const world = await resetWorld(openWorld(await connect(4), { shards: 3 }));
  const history = (seed: number) =>
    fc.sample(histories({ fleet: 25, events: 14 }), { numRuns: 12, seed }).flatMap(({ events }) => events);
  await playHistory(world, { fleet: { ...fleet, size: 25 }, events: [] });
  let working = true;
  const work = async () => {
    for (const style of FLEET_STYLES) {
      await playHistory(world, { fleet: { style, size: 25, seed: 3 }, events: history(style.length) });
    }
    working = false;
  };
  const watch = async () => {
    while (working) await assertVerified(world);
    assert.deepEqual((await rebuildRegistry(world.registry)).mended, {});
  };
  await Promise.all([work(), watch()]);
  await assertVerified(world);
});
