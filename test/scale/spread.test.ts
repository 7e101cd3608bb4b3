import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import { MatchRequest } from '../../src/hub/matching/schema.ts';
import { fleetOf } from '../support/fleets.ts';
import { harness } from '../support/harness.ts';
import { Player } from '../support/histories.ts';
import { openWorld, resetWorld, worldRedis } from '../support/registry-world.ts';

const h = await harness();
const connect = await worldRedis(h);

const MINERS = 50;
const MATCHES = 10_000;
const TOGETHER = 250;
/** A fair share is 2%. */
const MOST_SHARE = 0.04;

for (const shards of [1, 4]) {
  test(`equal miners share the load without reservations: ${shards} shards`, async (t) => {
    const world = await resetWorld(openWorld(await connect(shards), { shards }));
    const fleet = fleetOf({ style: 'equal', size: MINERS, seed: 3 });
    const player = new Player(world, fleet);
    await Promise.all(fleet.map((miner) => player.enter(miner)));
    const { matching } = world.matching();
    const first = new Map<string, number>(fleet.map(({ id }) => [id, 0]));
    for (let n = 0; n < MATCHES; n += TOGETHER) {
      const batch = Array.from({ length: TOGETHER }, async (_, i) => {
        const request = v.parse(MatchRequest, { job_id: `job-${n + i}` });
        const { candidates } = await matching.find(request, 0, 1);
        const id = candidates[0]?.minerId ?? 'none';
        first.set(id, (first.get(id) ?? 0) + 1);
      });
      await Promise.all(batch);
    }
    const shares = [...first.values()].map((count) => count / MATCHES);
    t.diagnostic(`shares from ${Math.min(...shares)} to ${Math.max(...shares)}`);
    assert.equal(first.size, MINERS, 'each miner is somebody');
    assert.ok(Math.max(...shares) <= MOST_SHARE, `a miner has ${Math.max(...shares)}`);
  });
}
