import assert from 'node:assert/strict';
import { test } from 'node:test';
import { registryOf } from '../../src/hub/registry/strategies.ts';
import { verifyRegistry } from '../../src/hub/registry/verify.ts';
import { keys, shardPrefix } from '../../src/platform/keys.ts';
import { masters } from '../../src/platform/redis.ts';
import { queuePrefix } from '../../src/platform/tasks.ts';
import { runCli } from '../cli/run-cli.ts';
import { openHub, uniqueId } from '../durable/fleet.ts';
import { startPool } from '../e2e/pool.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { registerFleet, startLoad } from './cluster-load.ts';
import { startLoad as startMovingLoad } from './rebalance-load.ts';

const h = await harness();
const cluster = await h.privateCluster();
// Leases that outlast every trouble here: who is missing was lost.
const settings = { ...cluster.settings, SESSION_TTL_SEC: '600' };
const { hubs } = await startPool(h, settings);
const clients = hubs.map(({ client }) => client);
const deps = await openHub(h, settings);
const SHARDS = Number(cluster.settings.REDIS_SHARDS);
const PATIENT = { timeoutMs: 60_000 };
/** Of moving miners to other shards. */
const RATE = 60;
const PARALLEL = 2;

const slotOf = async (key: string) => Number(await cluster.nodes[0]?.redis.cluster('KEYSLOT', key));
const shardSlot = (shard: number) => slotOf(shardPrefix(h.prefix, shard));

/** What verify finds wrong in the registry. */
async function differences() {
  // A connection that slept through a failover has yet to notice.
  const report = await waitFor(async () => verifyRegistry(await registryOf(deps), 10), PATIENT);
  return report.differences;
}

const journalLength = async () => {
  const lengths = Array.from({ length: SHARDS }, (_, shard) =>
    deps.redis.xlen(keys.journal(shardPrefix(h.prefix, shard))),
  );
  return (await Promise.all(lengths)).reduce((sum, length) => sum + length, 0);
};

/** Removes the miners, so that the next test has the registry for itself; the worker must see to it that Postgres hears of it. */
async function leave(sessions: ReadonlyMap<string, string>): Promise<void> {
  await Promise.all([...sessions.values()].map((token) => clients[0]?.logout(token)));
  await waitFor(async () => (await journalLength()) === 0, {
    ...PATIENT,
    what: 'the worker drains the journal',
  });
}

test('slots move to other masters while the pool works, and nothing is lost or seen half', async () => {
  const [client] = clients as [(typeof clients)[number]];
  const sessions = await registerFleet(client, 48);
  const load = startLoad(clients, sessions);
  for (let shard = 0; shard < SHARDS; shard += 3) {
    const slot = await shardSlot(shard);
    const from = await cluster.masterOf(slot);
    const to = cluster.nodes.slice(0, 3).find(({ id }) => id !== from.id);
    assert.ok(to);
    await cluster.moveSlot(slot, to);
    assert.equal((await cluster.masterOf(slot)).id, to.id);
  }
  await load.answeredAgain();
  await load.stop();
  assert.deepEqual(await differences(), []);
  await leave(sessions);
});

test('a cluster of 16 shards gets 5 while the pool works, and who moves the miners dies on the way', async () => {
  const [client] = clients as [(typeof clients)[number]];
  const tag = 'fleet that moves';
  const sessions = await registerFleet(client, 48, { tags: [tag] });
  const load = startMovingLoad({
    clients,
    tokens: [...sessions.values()],
    tag,
    miners: sessions.size,
    parallel: 2 * PARALLEL, // Those of the mover that was killed, and those of the next.
    perSecond: RATE,
  });
  h.cleanup(() => load.stop());
  const numbers = { shards: 5, rate: RATE, parallel: PARALLEL };
  const args = ['shards', 'rebalance', ...Object.entries(numbers).map(([name, n]) => `--${name}=${n}`)];
  const env = await h.env(settings);
  const mover = await h.startProcess('src/cli/poolhub.ts', { args, env, ready: /moving from 16 to 5/ });
  const lost = shardPrefix(h.prefix, SHARDS - 1);
  const gone = async () => (await deps.redis.hget(`${lost}terms`, 'all')) === null;
  await waitFor(gone, { ...PATIENT, intervalMs: 5, what: 'a shard is left by its miners' });
  mover.signal('SIGKILL');
  await mover.exited;
  const { stdout, stderr } = await runCli(args, env);
  assert.match(stdout, /^16 shards are 5 now/, stderr);
  await load.stop();
  assert.deepEqual(load.failures, []);
  assert.ok(load.matches > 0 && load.beats > sessions.size);
  assert.equal((await registryOf(deps)).shards, 5);
  assert.deepEqual(await differences(), []);
  const theirs = /\{(?:[5-9]|1\d)\}:/;
  const left = async () => {
    const names = await Promise.all(masters(deps.redis).map((node) => node.keys(`${h.prefix}:{*`)));
    return names.flat().filter((name) => theirs.test(name)).length;
  };
  await waitFor(async () => (await left()) === 0, { what: 'nothing is left in the shards that are gone' });
  await leave(sessions);
});

test('a master dies under load: a replica takes over, what was replicated stays, and all goes on by itself', async (t) => {
  const [client] = clients as [(typeof clients)[number]];
  const sessions = await registerFleet(client, 48);
  const job_id = uniqueId('job');
  const reserve = { count: 3, ttl_ms: 600_000 };
  const held = async (from = client) => {
    const { candidates } = await from.match({ job_id, reserve });
    return new Set(candidates.map(({ reservation_id }) => reservation_id));
  };
  const before = await held();
  assert.equal(before.size, 3);
  await cluster.settled();
  // The tasks of the worker live there as well.
  const victim = await cluster.masterOf(await slotOf(queuePrefix(h.prefix)));
  const load = startLoad(clients, sessions);
  await load.answeredAgain();
  // What a replica has acknowledged is what Redis promises to keep.
  assert.equal(await victim.redis.wait(1, 10_000), 1);
  const killedMs = performance.now();
  await victim.server.kill();
  await waitFor(() => load.seen.refused > 0, { ...PATIENT, what: 'clients notice' });
  await load.answeredAgain();
  t.diagnostic(
    `whole again after ${Math.round(performance.now() - killedMs)} ms: ${JSON.stringify(load.seen)}`,
  );
  await load.stop();
  assert.deepEqual(await waitFor(() => held(clients[1])), before);
  assert.deepEqual(await differences(), []);
  await leave(sessions);

  await victim.server.start();
  await cluster.settled();
});
