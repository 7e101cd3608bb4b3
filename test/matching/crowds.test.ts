import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import { MatchRequest } from '../../src/hub/matching/schema.ts';
import { type FleetMiner, fleetOf } from '../support/fleets.ts';
import { harness } from '../support/harness.ts';
import { Player } from '../support/histories.ts';
import { assertExact, poolOf } from '../support/properties.ts';
import { openWorld, resetWorld, type World, worldRedis } from '../support/registry-world.ts';

const h = await harness();
const connect = await worldRedis(h);
const world = openWorld(await connect(0));

/** A crowd that no index tells apart, with the limits of production; `vary` gives some of them another profile. */
async function enterCrowd(
  size: number,
  vary: (at: number) => Partial<FleetMiner['profile']>,
): Promise<World> {
  await resetWorld(world);
  const miners = fleetOf({ style: 'equal', size, seed: 11 }).map((miner, at) => ({
    ...miner,
    profile: { ...miner.profile, max_parallel: 4, base_price: '0.5', gpu_vram_gb: 24 as const, ...vary(at) },
  }));
  const player = new Player(world, miners);
  await Promise.all(miners.map((miner) => player.enter(miner)));
  return world;
}

test('the few of a crowd whose memory suffices are found, though the index knows whole GB only', async () => {
  await enterCrowd(900, (at) => ({ gpu_vram_gb: at % 200 === 150 ? 24.75 : 24.25 }));
  const pool = await poolOf(world);
  for (const job_id of ['a', 'b', 'c', 'd']) {
    const request = v.parse(MatchRequest, {
      job_id,
      requirements: { min_vram_gb: 24.5 },
      hints: {},
      top_k: 10,
    });
    const found = await world.matching().matching.find(request, 0, request.top_k);
    assert.equal(found.candidates.length, 4);
    assert.ok(found.candidates.every(({ minerId }) => Number(minerId.slice(1)) % 200 === 150));
    assert.equal(found.truncated, false);
    await assertExact(world, pool, request);
  }
});

test('the few of a crowd whose price is low enough are found, though all are in one bin', async () => {
  await enterCrowd(900, (at) => ({ base_price: at % 200 === 150 ? '0.501' : '0.5015' }));
  const pool = await poolOf(world);
  for (const job_id of ['a', 'b', 'c', 'd']) {
    const request = v.parse(MatchRequest, { job_id, hints: { max_price: '0.5012' }, top_k: 10 });
    const found = await assertExact(world, pool, request);
    assert.equal(found.candidates.length, 4);
  }
});

test('those of a crowd that live are found among those whose lease is over', async () => {
  await enterCrowd(300, () => ({}));
  world.nowMs += world.leaseMs - 1;
  const pool = await poolOf(world);
  for (const at of [17, 170, 290]) {
    const miner = pool.miners.find(({ id }) => id === `m${at}`);
    await world.miners.renew(`m${at}`, { kind: 'session', digest: miner?.hash.session ?? '' });
  }
  world.nowMs += 1000;
  for (const job_id of ['a', 'b', 'c', 'd']) {
    const request = v.parse(MatchRequest, { job_id, top_k: 3 });
    const { candidates } = await world.matching().matching.find(request, 0, request.top_k);
    assert.deepEqual(new Set(candidates.map(({ minerId }) => minerId)), new Set(['m17', 'm170', 'm290']));
  }
});

test('a request that makes the walk read in vain ends at the work budget, and says so', async () => {
  await enterCrowd(2600, (at) => ({ gpu_vram_gb: 24.25, base_price: (0.5 + at / 1000).toFixed(3) }));
  const request = v.parse(MatchRequest, { job_id: 'vain', requirements: { min_vram_gb: 24.5 } });
  const found = await world.matching().matching.find(request, 0, request.top_k);
  assert.equal(found.truncated, true);
  assert.deepEqual(found.candidates, []);
  const { budget, crowd, sample } = world.walk;
  assert.ok(found.recordsRead <= budget + Math.max(crowd, sample), `${found.recordsRead} records read`);
});
