import assert from 'node:assert/strict';
import { test } from 'node:test';
import { masters, type RedisClient } from '../../src/platform/redis.ts';
import { testExactness } from '../support/exactness.ts';
import { fleetOf } from '../support/fleets.ts';
import type { Harness } from '../support/harness.ts';
import { Player } from '../support/histories.ts';
import { openWorld, resetWorld, worldCluster } from '../support/registry-world.ts';
import { trafficOf } from './shared-trips.ts';

const SHARDS = 16;
/** Replicas report to their masters once a second, and are counted too. */
const ROUNDS = 5;

let connector: Promise<() => Promise<RedisClient>> | undefined;
const oneCluster = (h: Harness) => {
  connector ??= worldCluster(h);
  return connector;
};
await testExactness({ 'sixteen shards on a Redis Cluster': { shards: SHARDS } }, 40, oneCluster);

test('heartbeats of all shards that come together leave in one write for each master', async () => {
  const connect = await (connector as Promise<() => Promise<RedisClient>>);
  const world = await resetWorld(openWorld(await connect(), { shards: SHARDS }));
  const fleet = fleetOf({ style: 'equal', size: 4 * SHARDS, seed: 1 });
  const player = new Player(world, fleet);
  await Promise.all(fleet.map((miner) => player.enter(miner)));
  const sessions = (await world.hashes()).map(({ id, hash }) => [id, hash.session ?? ''] as const);
  const beatAll = async () => {
    const beats = sessions.map(([id, digest]) => world.miners.heartbeat(id, { kind: 'session', digest }, {}));
    for (const { status } of await Promise.all(beats)) assert.equal(status, 'ok');
  };
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const { calls, reads } = await trafficOf(world.redis, beatAll);
    assert.equal(calls, SHARDS);
    least = Math.min(least, reads);
  }
  // Asking for the counters is a read as well.
  assert.ok(least <= 2 * masters(world.redis).length, `${least} reads`);
});
