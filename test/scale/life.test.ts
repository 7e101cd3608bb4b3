import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import { MatchRequest } from '../../src/hub/matching/schema.ts';
import { harness } from '../support/harness.ts';
import { assertVerified } from '../support/properties.ts';
import { openWorld, resetWorld, worldRedis } from '../support/registry-world.ts';
import { Life } from './life.ts';

const h = await harness();
const connect = await worldRedis(h);

const FLEET = 200;
const MINUTE_MS = 60_000;
/** SELF_PRESERVATION_PCT of the fleet. */
const A_MINUTE = Math.floor(FLEET * 0.15);

for (const shards of [1, 4]) {
  const begin = async (size = FLEET) => {
    const world = await resetWorld(openWorld(await connect(shards), { shards }));
    return { world, life: await Life.begin(world, size) };
  };
  const name = (what: string) => `${what} (${shards} shards)`;

  test(
    name('a network cut: half of the fleet is silent, few are removed, and who comes back is online'),
    async () => {
      const { world, life } = await begin();
      for (let who = 0; who < FLEET / 2; who++) life.beating.delete(who);
      let before = 0;
      const removals: number[] = [];
      const cut = await life.pass(world.leaseMs + world.graceMs + 2 * MINUTE_MS, ({ removed }) => {
        removals.push(removed - before);
        before = removed;
      });
      assert.equal(cut.online, FLEET / 2);
      assert.ok(cut.held > 0, 'removals were held back');
      // Two minutes, and the one in which they began.
      assert.ok(cut.removed > 0 && cut.removed <= 3 * A_MINUTE, `${cut.removed} removed`);
      assert.equal(cut.degraded, FLEET / 2 - cut.removed);
      const { candidates } = await world
        .matching()
        .matching.find(v.parse(MatchRequest, { job_id: 'x' }), 0, 3);
      assert.ok(candidates.every(({ degraded }) => !degraded));

      for (let who = 0; who < FLEET / 2; who++) life.beating.add(who);
      const after = await life.pass(MINUTE_MS);
      assert.deepEqual(
        { online: after.online, degraded: after.degraded, removed: after.removed },
        { online: FLEET - cut.removed, degraded: 0, removed: cut.removed },
      );
      await assertVerified(world);
    },
  );

  test(
    name('a real scale-down: what is gone for good is held back for three grace periods, no longer'),
    async () => {
      const { world, life } = await begin();
      for (let who = 10; who < FLEET; who++) life.beating.delete(who);
      const due = await life.pass(world.leaseMs + world.graceMs + MINUTE_MS);
      assert.ok(due.degraded > FLEET / 2, `${due.degraded} are kept for now`);
      const gone = await life.pass(3 * world.graceMs + MINUTE_MS);
      assert.deepEqual([gone.registered, gone.online, gone.degraded], [10, 10, 0]);
      await assertVerified(world);
    },
  );

  test(name('an outage of the hubs longer than lease and grace costs nobody the session'), async () => {
    const { world, life } = await begin();
    life.hubsAreThere = false;
    // The worker reaps on meanwhile.
    const away = await life.pass(world.leaseMs + world.graceMs + 5 * MINUTE_MS);
    assert.deepEqual([away.registered, away.removed], [FLEET, 0]);
    life.hubsAreThere = true;
    for (let who = 0; who < 5; who++) life.beating.delete(who);
    const back = await life.pass(world.graceMs - 10_000);
    assert.deepEqual([back.online, back.degraded, back.removed], [FLEET - 5, 5, 0]);
    // Those that do not come back go when the fresh grace is over.
    const later = await life.pass(MINUTE_MS);
    assert.deepEqual([later.registered, later.removed], [FLEET - 5, 5]);
    await assertVerified(world);
  });

  test(name('a small fleet is never kept alive'), async () => {
    const { world, life } = await begin(3);
    life.beating.clear();
    const gone = await life.pass(world.leaseMs + world.graceMs + 10_000);
    assert.deepEqual([gone.registered, gone.held], [0, 0]);
  });
}
