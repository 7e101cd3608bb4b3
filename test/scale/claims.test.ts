import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RegistryStore } from '../../src/hub/registry/store.ts';
import { verifyRegistry } from '../../src/hub/registry/verify.ts';
import { shardPrefix } from '../../src/platform/keys.ts';
import { openHub, uniqueId } from '../durable/fleet.ts';
import { clientOf } from '../e2e/pool.ts';
import { startHubProcess } from '../sdk/hub-process.ts';
import { profileOf } from '../sdk/profiles.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { coordinate, type Fight, mostAtOnce } from './coordinators.ts';

const h = await harness();

const SHARDS = 4;
const HUBS = 4;
const COORDINATORS = 64;
const MINERS = 25;
/** Of each miner: 100 in all. */
const PLACES = 4;
const ROUNDS = 4;
/** Not all that is to happen need happen in those, where the machine is slow. */
const MAX_ROUNDS = 20;
const LONG_MS = 60_000;
const BEAT_MS = 250;
const SETTINGS = {
  REDIS_SHARDS: String(SHARDS),
  SESSION_TTL_SEC: '600',
  RATE_LIMIT_MATCH_PER_SEC: '100000',
  RATE_LIMIT_DEFAULT_PER_SEC: '100000',
};

test('64 coordinators on four replicas fight over 100 places', async (t) => {
  const hubs = await Promise.all(Array.from({ length: HUBS }, () => startHubProcess(h, SETTINGS)));
  let clients = hubs.map(({ url }) => clientOf(url));
  const deps = await openHub(h, SETTINGS);
  const [client] = clients as [(typeof clients)[number]];
  const tokens = await Promise.all(
    Array.from({ length: MINERS }, async () => {
      const profile = profileOf(uniqueId('m'), { max_parallel: PLACES });
      return (await client.register(profile)).session_token;
    }),
  );
  // A confirmed place is the miner's business; these have it done by their next heartbeat.
  const beats = setInterval(() => {
    for (const token of tokens) client.heartbeat(token, { queue_len: 0 }).catch(() => {});
  }, BEAT_MS);
  h.cleanup(() => clearInterval(beats));

  const fight: Fight = { holds: [], asked: 0, empty: 0, repeated: 0, abandoned: 0, failed: 0 };
  const endMs = performance.now() + LONG_MS;
  const isSeen = () => fight.repeated > 0 && fight.abandoned > 0 && fight.empty > 0;
  const goesOn = (round: number) =>
    process.env.POOLHUB_LONG === '1'
      ? performance.now() < endMs
      : round < ROUNDS || (round < MAX_ROUNDS && !isSeen());
  const fighting = Array.from({ length: COORDINATORS }, (_, seed) =>
    coordinate(() => clients, fight, seed, goesOn),
  );
  // In the middle of it a replica dies, with all that it was about to do.
  await waitFor(() => fight.asked > (COORDINATORS * ROUNDS) / 2, { timeoutMs: 60_000, intervalMs: 5 });
  const dying = hubs.at(-1);
  dying?.process.signal('SIGKILL');
  await dying?.process.exited;
  clients = clients.slice(0, -1);
  await Promise.all(fighting);
  clearInterval(beats);

  const most = mostAtOnce(fight.holds);
  for (const [minerId, count] of most) assert.ok(count <= PLACES, `${minerId}: ${count} at once`);
  const ids = fight.holds.map(({ reservationId }) => reservationId);
  assert.equal(new Set(ids).size, ids.length, 'no reservation was given to two');
  assert.ok(isSeen(), `all of it happened: ${JSON.stringify({ ...fight, holds: fight.holds.length })}`);
  t.diagnostic(JSON.stringify({ ...fight, holds: fight.holds.length, most: Math.max(...most.values()) }));

  // Everything ends by its own expiry: stepped by the beacons of the replicas, with no worker.
  const open = async () => {
    const counts = Array.from({ length: SHARDS }, (_, s) =>
      deps.redis.zcard(`${shardPrefix(h.prefix, s)}reservations`),
    );
    return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
  };
  await waitFor(async () => (await open()) === 0, { timeoutMs: 60_000, what: 'all places are free' });
  const { miners, total } = await client.listMiners({ limit: 100 } as object);
  assert.equal(total, MINERS);
  assert.deepEqual(new Set(miners.map(({ reserved }) => Number(reserved))), new Set([0]));
  const strategies = Object.entries(deps.config.strategies).map(([name, weights]) => ({ name, ...weights }));
  const store = new RegistryStore(deps.scripts, deps.redis);
  const graceMs = deps.config.heartbeat_grace_sec * 1000;
  const { differences } = await verifyRegistry({ store, shards: SHARDS, strategies, graceMs }, 10);
  assert.deepEqual(differences, []);
});
