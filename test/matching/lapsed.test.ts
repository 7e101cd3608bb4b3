import { test } from 'node:test';
import fc from 'fast-check';
import { FLEET_STYLES, fleetOf } from '../support/fleets.ts';
import { harness } from '../support/harness.ts';
import { Player } from '../support/histories.ts';
import { askOracle } from '../support/oracle.ts';
import { assertRanking, poolOf, runs } from '../support/properties.ts';
import { openWorld, resetWorld, TINY_WALK, worldRedis } from '../support/registry-world.ts';
import { matchRequests } from '../support/requests.ts';

const h = await harness();
const connect = await worldRedis(h);

test('lapsed miners are never offered as online, however many of them no reaper has stepped yet', async () => {
  const world = openWorld(await connect(0), { walk: TINY_WALK });
  const property = fc.asyncProperty(
    fc.record({
      style: fc.constantFrom(...FLEET_STYLES),
      size: fc.integer({ min: 20, max: 60 }),
      seed: fc.nat(),
    }),
    fc.integer({ min: 2, max: 9 }),
    matchRequests,
    async (fleet, alive, request) => {
      await resetWorld(world);
      const miners = fleetOf(fleet);
      const player = new Player(world, miners);
      await Promise.all(miners.map((miner) => player.enter(miner)));
      world.nowMs += world.leaseMs - 1;
      for (let who = 0; who < miners.length; who += alive) {
        await player.play({ do: 'beat', who, seed: who });
      }
      world.nowMs += 1000;
      const { matching } = world.matching();
      const strategy = matching.strategies.indexOf(request.hints.strategy ?? 'balanced');
      const found = await matching.find(request, strategy, request.top_k);
      assertRanking(found, askOracle(await poolOf(world), request), request, world);
    },
  );
  await fc.assert(property, runs(100));
});
