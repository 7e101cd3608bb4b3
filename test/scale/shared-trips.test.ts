import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import type { BeatResult, PendingCommand } from '../../src/hub/miners/types.ts';
import { openHub } from '../durable/fleet.ts';
import { call, register, startReplica } from '../hub/socket/replicas.ts';
import { TestMiner } from '../hub/socket/test-miner.ts';
import { fleetOf } from '../support/fleets.ts';
import { harness } from '../support/harness.ts';
import { Player } from '../support/histories.ts';
import { openWorld, resetWorld, type World, worldRedis } from '../support/registry-world.ts';
import { trafficOf } from './shared-trips.ts';

const h = await harness();
const connect = await worldRedis(h);

/** A world with miners m0, m1 and so on. */
async function worldOf(database: number, miners: number): Promise<World> {
  const world = await resetWorld(openWorld(await connect(database)));
  const fleet = fleetOf({ style: 'equal', size: miners, seed: 1 });
  const player = new Player(world, fleet);
  await Promise.all(fleet.map((miner) => player.enter(miner)));
  return world;
}

async function sessionOf(world: World, minerId: string) {
  return { kind: 'session', digest: (await world.miners.get(minerId))?.session ?? '' } as const;
}

test('heartbeats of a replica that come at about the same time share round trips', async () => {
  const MINERS = 40;
  const server = await h.privateRedis();
  const hub = await startReplica(h, { REDIS_URL: server.url, RATE_LIMIT_REGISTER_PER_SEC: '1000' });
  const redis = new Redis(server.url);
  h.cleanup(() => redis.disconnect());
  const tokens = await Promise.all(Array.from({ length: MINERS }, (_, n) => register(hub, `m${n}`)));
  const sockets = await Promise.all(tokens.map((token) => TestMiner.connect(h, hub, token)));
  const beatAll = () =>
    Promise.all([
      ...sockets.map((socket) => socket.beat({ queue_len: 1 })),
      ...tokens.map(async (session_token) => {
        const { status } = await call(hub, 'POST', '/v1/miners/heartbeat', { session_token });
        assert.equal(status, 200);
      }),
    ]);
  // Connections are opened, scripts are known.
  await beatAll();
  const { calls, reads } = await trafficOf(redis, beatAll);
  assert.ok(calls > 0 && calls < MINERS, `${calls} calls for ${2 * MINERS} heartbeats`);
  assert.ok(reads < MINERS, `${reads} reads for ${2 * MINERS} heartbeats`);
});

test('heartbeats in one call are answered each by itself', async () => {
  const world = await worldOf(0, 12);
  const { id } = (await world.miners.addCommand('m3', 'drain', {})) as { id: string };
  await world.miners.addCommand('m4', 'note', { text: 'two' });
  const sessions = await Promise.all(Array.from({ length: 12 }, (_, n) => sessionOf(world, `m${n}`)));
  // One has another's session, one is not there, the hash of one is damaged.
  const damaged = world.registry.store.key(0, 'miner:m7');
  await world.redis.hset(damaged, 'max_parallel', 'many');
  const beats = () => {
    const own = sessions.map((session, n) =>
      world.miners.heartbeat(
        `m${n}`,
        n === 5 ? (sessions[6] as typeof session) : session,
        { queue_len: n % 2, temp_c: 40 + n, current_jobs: n },
        n === 3 ? [id, '1-1'] : [],
      ),
    );
    return Promise.allSettled([
      ...own,
      world.miners.heartbeat('ghost', { kind: 'session', digest: 'x' }, {}),
    ]);
  };
  await world.scripts.load(['miners/heartbeat']);
  let answers: PromiseSettledResult<BeatResult>[] = [];
  const { calls } = await trafficOf(world.redis, async () => {
    answers = await beats();
  });
  assert.equal(calls, 1);
  for (const [n, answer] of answers.entries()) {
    if (n === 7) {
      assert.ok(answer.status === 'rejected' && /max_parallel|nil/.test(String(answer.reason)), String(n));
      continue;
    }
    assert.ok(answer.status === 'fulfilled', String(n));
    assert.equal(answer.value.status, n === 5 || n === 12 ? 'session_unknown' : 'ok', String(n));
    if (answer.value.status !== 'ok') continue;
    const waiting = answer.value.commands.map(({ name, args }: PendingCommand) => [name, args]);
    assert.deepEqual(waiting, n === 4 ? [['note', { text: 'two' }]] : [], String(n));
    const { queue_len, temp_c, current_jobs } = (await world.miners.get(`m${n}`)) ?? {};
    assert.deepEqual([queue_len, temp_c, current_jobs], [String(n % 2), String(40 + n), String(n)]);
  }
  const changed = await world.redis.smembers(world.registry.store.key(0, 'changed'));
  for (const n of [0, 11]) assert.ok(changed.includes(`m${n}`));
});

test('more heartbeats than fit into one call, of one miner among them, are taken in order', async () => {
  const world = await worldOf(1, 2);
  const session = await sessionOf(world, 'm0');
  const beats = Array.from({ length: 100 }, (_, n) =>
    world.miners.heartbeat('m0', session, { queue_len: n }),
  );
  for (const { status } of await Promise.all(beats)) assert.equal(status, 'ok');
  assert.equal((await world.miners.get('m0'))?.queue_len, '99');
});

test('when the store is away all heartbeats are told so, those too that had not left', async () => {
  const server = await h.privateRedis();
  const deps = await openHub(h, { REDIS_URL: server.url });
  await server.stop();
  const beats = Array.from({ length: 200 }, () =>
    deps.miners.heartbeat('m0', { kind: 'session', digest: 'x' }, {}),
  );
  for (const { status } of await Promise.allSettled(beats)) assert.equal(status, 'rejected');
});
