import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import * as v from 'valibot';
import { match } from '../../src/hub/matching/match.ts';
import { MatchRequest } from '../../src/hub/matching/schema.ts';
import { alone } from '../../src/hub/registry/alone.ts';
import { rebalance } from '../../src/hub/registry/rebalance.ts';

import { keys, shardOf, shardPrefix } from '../../src/platform/keys.ts';
import type { RedisClient } from '../../src/platform/redis.ts';
import { fleetOf } from '../support/fleets.ts';
import { harness } from '../support/harness.ts';
import { histories, Player, settleDue } from '../support/histories.ts';
import { assertExact, assertVerified, poolOf, runs } from '../support/properties.ts';
import { openWorld, resetWorld, type World, worldRedis } from '../support/registry-world.ts';
import { matchRequests } from '../support/requests.ts';

const h = await harness();
const connect = await worldRedis(h);
const TOKEN_MS = 2_000;

function run(world: World, shards: number, signal = new AbortController().signal) {
  const calm = { perSecond: 1_000_000, parallel: 4, journalTimeoutMs: 0, begun: () => {}, moved: () => {} };
  return rebalance(world, { shards, signal, ...calm });
}

/** Miners move, but nobody has begun to. */
async function beginMoving(world: World, shards: number): Promise<void> {
  assert.equal((await run(world, shards, AbortSignal.abort())).done, false);
}

/** The same registry, as a process knows it that has just started. */
function again(world: World, redis: RedisClient, shards: number): World {
  return Object.assign(openWorld(redis, { shards, walk: world.walk }), { nowMs: world.nowMs });
}

/** There is no worker here. */
async function dropJournals({ redis, scripts }: World, shards: number): Promise<void> {
  for (let shard = 0; shard < shards; shard++) {
    await redis.xtrim(keys.journal(shardPrefix(scripts.prefix, shard)), 'MAXLEN', 0);
  }
}

async function fieldsOf(world: World) {
  const miners = await world.hashes();
  const fields = miners.map(({ id, hash }) => [id, { ...hash, slot: '' }] as const);
  return new Map(fields.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Nobody has come or gone since: slots without a miner, and bytes without a slot, are none. */
async function assertDense({ redis, scripts }: World, shards: number): Promise<void> {
  for (let shard = 0; shard < shards; shard++) {
    const prefix = shardPrefix(scripts.prefix, shard);
    const [slots, miners] = [
      await redis.get(`${prefix}slots:next`),
      await redis.hget(`${prefix}terms`, 'all'),
    ];
    assert.equal(Number(slots), Number(miners));
    for (const name of await redis.keys(`${prefix}ix:*`)) {
      assert.ok((await redis.strlen(name)) <= Math.ceil(Number(slots) / 8), name);
    }
  }
}

test('any registry, moved to any number of shards, is whole and matches exactly', async () => {
  const redis = await connect(0);
  const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 2, maxLength: 3 });
  const property = fc.asyncProperty(
    histories({ fleet: 20, events: 15 }),
    sizes,
    fc.array(matchRequests, { minLength: 1, maxLength: 4 }),
    async ({ fleet, events }, [first = 1, ...others], requests) => {
      let world = await resetWorld(openWorld(redis, { shards: first }));
      const members = fleetOf(fleet);
      const player = new Player(world, members);
      await Promise.all(members.map((miner) => player.enter(miner)));
      for (const event of events) await player.play(event);
      await settleDue(world);
      let from = first;
      for (const shards of others) {
        const before = await fieldsOf(world);
        await dropJournals(world, from);
        assert.equal((await run(world, shards)).done, true);
        world = again(world, redis, shards);
        assert.deepEqual(await fieldsOf(world), before);
        if (shards > from) await assertDense(world, from);
        await assertVerified(world);
        const pool = await poolOf(world);
        for (const request of requests) await assertExact(world, pool, request);
        from = shards;
      }
    },
  );
  await fc.assert(property, runs(25));
});

interface Scene {
  readonly world: World;
  /** Another process, which knows nothing of any change. */
  readonly other: World;
  /** A miner that lives in shard 0 of 1 and in another of 4, with a place held, an ended reservation and a command. */
  readonly minerId: string;
  readonly jobId: string;
  readonly held: string;
  readonly ended: string;
  readonly session: { kind: 'session'; digest: string };
}

const reserveOne = (job_id: string) =>
  v.parse(MatchRequest, { job_id, top_k: 1, reserve: { count: 1, ttl_ms: 600_000 } });

async function reservedFor(world: World, jobId: string): Promise<string> {
  const { answer } = await match(world.matching(), reserveOne(jobId));
  return answer.candidates[0]?.reservation_id ?? '';
}

async function openScene(database: number): Promise<Scene> {
  const redis = await connect(database);
  const world = await resetWorld(openWorld(redis));
  const [miner] = fleetOf({ style: 'equal', size: 1, seed: 5 });
  assert.ok(miner);
  const minerId = 'm1';
  assert.notEqual(shardOf(minerId, 4), 0);
  const digest = 'a session';
  const profile = { ...miner.profile, max_parallel: 8 };
  const nothing = {
    observedLatencyMs: '',
    observedSamples: 0,
    priceOverride: '',
    priceOverrideUntilMs: '',
  } as const;
  const durable = { alpha: 2, beta: 2, trustSeq: 0, ...nothing };
  await world.miners.register({ minerId, keyDigest: 'a key', sessionDigest: digest, profile, durable });
  const ended = await reservedFor(world, 'job 1');
  assert.equal((await world.matching().reservations.end(ended, 'released')).status, 'ok');
  const jobId = 'job 2';
  const held = await reservedFor(world, jobId);
  await world.miners.addCommand(minerId, 'wave', {});
  const other = again(world, redis, 1);
  await other.miners.stats();
  return { world, other, minerId, jobId, held, ended, session: { kind: 'session', digest } };
}

/** Moves the miner as a mover does, and dies after so many of its steps. */
async function diesAfter(steps: 1 | 2 | 3, { world, minerId }: Scene): Promise<void> {
  const { scripts } = world;
  const home = shardOf(minerId, 4);
  const out = await scripts.run('registry/move_out', 0, [minerId, 'token', TOKEN_MS, 'any']);
  const [state, untilMs] = out.slice(1) as [string, string];
  if (steps > 1) await scripts.run('registry/move_in', home, [minerId, state, untilMs, '']);
  if (steps > 2) await scripts.run('registry/move_done', 0, [minerId, 'token']);
}

/** Everything about the miner is as it was, whoever asks. */
async function assertUntouched({ world, other, minerId, jobId, held, ended, session }: Scene): Promise<void> {
  const beat = await other.miners.heartbeat(minerId, session, {});
  assert.equal(beat.status, 'ok');
  assert.deepEqual(beat.status === 'ok' && beat.commands.map(({ name }) => name), ['wave']);
  assert.equal(await reservedFor(other, jobId), held);
  const { reservations } = other.matching();
  assert.deepEqual(await reservations.end(ended, 'confirmed'), { status: 'ended', how: 'released' });
  assert.equal((await world.miners.get(minerId))?.reserved, '1');
  assert.equal((await reservations.end(held, 'released')).status, 'ok');
  assert.equal((await other.miners.get(minerId))?.reserved, '0');
}

for (const steps of [1, 2, 3] as const) {
  test(`a mover that dies after ${steps} of 4 steps loses nothing, and the next goes on`, async () => {
    const scene = await openScene(steps);
    const { world, other } = scene;
    await beginMoving(world, 4);
    await diesAfter(steps, scene);
    other.nowMs = world.nowMs = world.nowMs + TOKEN_MS + 1;
    await assertUntouched(scene);
    assert.equal((await run(world, 4)).done, true);
    await assertVerified(again(world, world.redis, 4));
    assert.deepEqual(await world.redis.keys('*}:moving:*'), []);
  });

  test(`after ${steps} of 4 steps the way back is open`, async () => {
    const scene = await openScene(steps + 3);
    const { world, other } = scene;
    await beginMoving(world, 4);
    await diesAfter(steps, scene);
    other.nowMs = world.nowMs = world.nowMs + TOKEN_MS + 1;
    await dropJournals(world, 4);
    assert.equal((await run(world, 1)).done, true);
    await assertUntouched(scene);
    await assertVerified(again(world, world.redis, 1));
    assert.deepEqual(await world.redis.keys('*}:moving:*'), []);
  });
}

for (const shards of [4, 1]) {
  test(`a miner that left after it was moved does not come back, when ${shards === 1 ? 'turning round' : 'going on'}`, async () => {
    const scene = await openScene(shards + 7);
    const { world, other, minerId, session } = scene;
    await beginMoving(world, 4);
    await diesAfter(2, scene);
    assert.equal((await other.miners.logout(minerId, session)).status, 'ok');
    world.nowMs += TOKEN_MS + 1;
    await dropJournals(world, 4);
    assert.equal((await run(world, shards)).done, true);
    assert.equal(await world.miners.get(minerId), undefined);
    assert.equal((await other.miners.heartbeat(minerId, session, {})).status, 'session_unknown');
    assert.deepEqual(await world.redis.keys('*}:moving:*'), []);
    assert.equal((await world.redis.keys(`*}:uptime:${minerId}`)).length, 1, 'what it was online is kept');
  });
}

test('who knows of other shards is told by the next call, and makes no miner twice', async () => {
  const { world, other, minerId } = await openScene(12);
  assert.equal((await run(world, 4)).done, true);
  const before = await other.miners.get(minerId);
  assert.ok(before);
  const [miner] = fleetOf({ style: 'equal', size: 1, seed: 5 });
  const input = {
    minerId,
    keyDigest: 'a key',
    sessionDigest: 'another',
    profile: miner?.profile ?? assert.fail(),
  };
  const result = await again(world, world.redis, 1).miners.register(input);
  assert.equal(result.status === 'ok' && result.created, false);
  assert.equal((await other.miners.stats()).registered, 1);
});

test('only one changes the shards at a time', async () => {
  const { world } = await openScene(13);
  const key = keys.rebalance(shardPrefix(world.scripts.prefix, 0));
  const refused = () => assert.rejects(() => run(world, 4), /by somebody else/);
  await alone(world.redis, key, refused, () => assert.fail());
  await beginMoving(world, 4);
  await assert.rejects(() => run(world, 5), /moves from 1 to 4 shards: finish that, or go back to 1/);
});

test('shards that go are not taken away while their journal waits', async () => {
  const { world } = await openScene(14);
  assert.equal((await run(world, 4)).done, true);
  const moved = shardPrefix(world.scripts.prefix, shardOf('m1', 4));
  assert.ok((await world.redis.xlen(keys.journal(moved))) > 0, 'its profile came along');
  await assert.rejects(() => run(world, 1), /is a worker running/);
  await dropJournals(world, 4);
  assert.equal((await run(world, 1)).done, true);
  const names = await world.redis.keys('*');
  assert.ok(
    names.every((name) => name.includes('{0}') || !name.includes('{')),
    names.join(),
  );
});
