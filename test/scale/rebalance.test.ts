import assert from 'node:assert/strict';
import { test } from 'node:test';
import { batches } from '../../src/hub/registry/census.ts';
import { registryOf } from '../../src/hub/registry/strategies.ts';
import { verifyRegistry } from '../../src/hub/registry/verify.ts';
import { shardOf, shardPrefix } from '../../src/platform/keys.ts';
import type { HubClient } from '../../src/sdk/hub-client.ts';
import { runCli } from '../cli/run-cli.ts';
import { openHub, uniqueId } from '../durable/fleet.ts';
import { clientOf } from '../e2e/pool.ts';
import { startHubProcess } from '../sdk/hub-process.ts';
import { profileOf } from '../sdk/profiles.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { startLoad } from './rebalance-load.ts';

const h = await harness();

const MINERS = 120;
const PLACES = 8;
const RATE = 150;
const PARALLEL = 4;
const SETTINGS = { REDIS_SHARDS: '1', SESSION_TTL_SEC: '600' };
const TAG = 'fleet-of-this-test';

const hubs = await Promise.all([startHubProcess(h, SETTINGS), startHubProcess(h, SETTINGS)]);
const clients = hubs.map(({ url }) => clientOf(url));
const [hub] = clients as [HubClient];
const env = await h.env(SETTINGS);
await h.startProcess('src/bin/worker.ts', { env, ready: /worker is running/ });
const deps = await openHub(h, SETTINGS);

async function register(miner_id: string): Promise<string> {
  const profile = profileOf(miner_id, { max_parallel: PLACES, tags: [TAG] });
  return (await hub.register(profile)).session_token;
}

const shardsArgs = (shards: number) =>
  [
    'shards',
    'rebalance',
    '--shards',
    String(shards),
    '--rate',
    String(RATE),
    '--parallel',
    String(PARALLEL),
  ] as const;

const minersIn = async (shard: number) =>
  Number(await h.redis.hget(`${shardPrefix(h.prefix, shard)}terms`, 'all'));

async function assertRight(shards: number): Promise<void> {
  const registry = await registryOf(deps);
  assert.equal(registry.shards, shards);
  assert.deepEqual((await verifyRegistry(registry)).differences, []);
  const gone = `${h.prefix}:{${shards}}:*`;
  await waitFor(async () => (await h.redis.keys(gone)).length === 0, {
    what: 'nothing is left in a shard that is gone',
  });
  const names = await h.redis.keys(`${h.prefix}:{*`);
  assert.deepEqual(
    names.filter((name) => name.includes('}:moving:')),
    [],
  );
  for (const name of names.filter((key) => key.includes('}:miner:'))) {
    const [, shard, id = ''] = /\{(\d+)\}:miner:(.+)$/.exec(name) ?? [];
    assert.equal(Number(shard), shardOf(id, shards), name);
  }
}

/** Fields of a miner that moving must not touch. */
async function lasting(minerId: string): Promise<unknown> {
  const {
    trust_score,
    price,
    price_cap,
    price_override,
    draining,
    registered_at,
    pending_commands,
    last_feedback,
  } = await hub.getMiner(minerId);
  const override = price_override ?? null;
  const commands = pending_commands.map(({ id, name }) => `${id} ${name}`);
  return { trust_score, price, price_cap, override, draining, registered_at, commands, last_feedback };
}

/** Places held, by what shall become of them. */
async function reserve(minerIds: readonly string[]) {
  const held = [];
  for (const minerId of minerIds) {
    const request = {
      job_id: uniqueId('job'),
      requirements: { tags_all: [TAG], exclude_miners: minerIds.filter((id) => id !== minerId) },
      top_k: 1,
      reserve: { count: 1, ttl_ms: 600_000 },
    };
    const { candidates } = await hub.match(request);
    held.push({
      request,
      id: candidates[0]?.reservation_id as string,
      minerId: candidates[0]?.miner_id as string,
    });
  }
  return held;
}

test('1 shard becomes 4, then 3, while miners beat and coordinators match', async (t) => {
  const ids = Array.from({ length: MINERS }, () => uniqueId('m'));
  const tokens = new Map<string, string>();
  for (const batch of batches(ids, 20)) {
    await Promise.all(batch.map(async (id) => tokens.set(id, await register(id))));
  }
  const [capped, priced, drained, proven] = ids.slice(0, 4) as [string, string, string, string];
  await hub.sendCommand(capped, { name: 'set_price_cap', args: { cap: '0.01' } });
  await hub.setPriceOverride(priced, { price: '0.123' });
  await hub.drain(drained);
  await hub.feedback({ job_id: uniqueId('job'), miner_id: proven, outcome: 'completed', latency_ms: 9 });
  const marked = [capped, priced, drained, proven];
  const before = await Promise.all(marked.map(lasting));
  const places = await reserve(ids.slice(4, 12));
  const load = startLoad({
    clients,
    tokens: ids.slice(4).map((id) => tokens.get(id) as string),
    tag: TAG,
    miners: MINERS - 1, // One is drained.
    parallel: 2 * PARALLEL, // Those of a mover that was killed, and those of the next.
    perSecond: RATE,
  });
  h.cleanup(() => load.stop());

  const killed = await h.startProcess('src/cli/poolhub.ts', {
    args: [...shardsArgs(4)],
    env,
    ready: /moving from 1 to 4/,
  });
  await waitFor(async () => (await minersIn(1)) > MINERS / 16, { timeoutMs: 20_000, intervalMs: 5 });
  killed.signal('SIGKILL');
  await killed.exited;
  const [first, second] = [places[0], places[1]] as [(typeof places)[0], (typeof places)[0]];
  await hub.confirmReservation(first.id);
  const other = await runCli(shardsArgs(5), env);
  assert.match(other.stderr, /moves from 1 to 4 shards: finish that/, JSON.stringify(other));

  const resumed = runCli([...shardsArgs(4), '--json'], env);
  const newcomer = uniqueId('m');
  await register(newcomer);
  assert.equal((await hub.match(second.request)).candidates[0]?.reservation_id, second.id);
  const report = JSON.parse((await resumed).stdout || '{}');
  assert.deepEqual({ ...report, moved: 0 }, { from: 1, to: 4, moved: 0, done: true }, (await resumed).stderr);
  await hub.removeMiner(newcomer);
  await assertRight(4);
  assert.deepEqual(await Promise.all(marked.map(lasting)), before);

  const fewer = await runCli(shardsArgs(3), env);
  assert.match(fewer.stdout, /^4 shards are 3 now/, fewer.stderr);
  await load.stop();
  assert.deepEqual(load.failures, []);
  await assertRight(3);
  assert.deepEqual(await Promise.all(marked.map(lasting)), before);

  for (const { request, id } of places.slice(1)) {
    assert.equal(
      (await hub.match(request)).candidates[0]?.reservation_id,
      id,
      'a repeated job has its first place',
    );
    await hub.releaseReservation(id);
  }
  await hub.confirmReservation(first.id);
  await assert.rejects(() => hub.releaseReservation(first.id), /confirmed/);
  for (const { minerId } of places.slice(1)) assert.equal((await hub.getMiner(minerId)).reserved, 0);
  const { commands } = await hub.heartbeat(tokens.get(capped) as string, {});
  assert.deepEqual(
    commands.map(({ name }) => name),
    ['set_price_cap'],
  );
  t.diagnostic(JSON.stringify({ ...load, failures: load.failures.length, moved: report.moved }));
});
