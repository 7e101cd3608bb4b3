import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import * as v from 'valibot';
import { match } from '../../src/hub/matching/match.ts';
import { MatchRequest } from '../../src/hub/matching/schema.ts';
import { applyTrust } from '../../src/hub/trust/feedback.ts';
import { fleetOf } from '../support/fleets.ts';
import { harness } from '../support/harness.ts';
import { Player, settleDue } from '../support/histories.ts';
import { assertVerified, runs } from '../support/properties.ts';
import { openWorld, resetWorld, type World, worldRedis } from '../support/registry-world.ts';

const h = await harness();
const connect = await worldRedis(h);
const world = openWorld(await connect(0));

/** `miners` equal miners with so many places each. */
async function enterEqual(target: World, miners: number, max_parallel: number): Promise<void> {
  await resetWorld(target);
  const fleet = fleetOf({ style: 'equal', size: miners, seed: 5 }).map((miner) => ({
    ...miner,
    profile: { ...miner.profile, max_parallel },
  }));
  const player = new Player(target, fleet);
  await Promise.all(fleet.map((miner) => player.enter(miner)));
}

const reserve = (job_id: string, count: number, ttl_ms = 60_000) =>
  v.parse(MatchRequest, { job_id, top_k: Math.max(3, count), reserve: { count, ttl_ms } });

async function reservedBy(
  target: World,
  job: string,
  count = 1,
  ttlMs?: number,
): Promise<[string, string][]> {
  const { answer } = await match(target.matching(), reserve(job, count, ttlMs));
  return answer.candidates.flatMap(({ miner_id, reservation_id }): [string, string][] =>
    reservation_id === undefined ? [] : [[miner_id, reservation_id]],
  );
}

async function places(target: World): Promise<number[]> {
  return (await target.hashes()).map(({ hash }) => Number(hash.reserved));
}

test('however many ask at once, no place is held twice and none is left over', async () => {
  const shards3 = openWorld(await connect(1), { shards: 3 });
  const property = fc.asyncProperty(
    fc.integer({ min: 1, max: 6 }),
    fc.integer({ min: 1, max: 3 }),
    fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 12 }),
    async (miners, each, jobs) => {
      await enterEqual(shards3, miners, each);
      const held = await Promise.all(jobs.map((count, i) => reservedBy(shards3, `job-${i}`, count)));
      const ids = held.flat().map(([, id]) => id);
      assert.equal(new Set(ids).size, ids.length);
      const taken = new Map<string, number>();
      for (const [miner] of held.flat()) taken.set(miner, (taken.get(miner) ?? 0) + 1);
      for (const [miner, count] of taken) assert.ok(count <= each, `${miner}: ${count} of ${each}`);
      for (const [i, count] of jobs.entries()) {
        assert.ok((held[i]?.length ?? 0) <= Math.min(count, miners));
      }
      assert.deepEqual(
        (await places(shards3)).reduce((sum, count) => sum + count, 0),
        ids.length,
      );
      await assertVerified(shards3);
    },
  );
  await fc.assert(property, runs(40));
});

test('the same request again holds the same places', async () => {
  await enterEqual(world, 5, 2);
  const first = await reservedBy(world, 'job', 2);
  assert.equal(first.length, 2);
  assert.deepEqual(new Map(await reservedBy(world, 'job', 2)), new Map(first));
  assert.equal(
    (await places(world)).reduce((a, b) => a + b),
    2,
  );
});

test('a request that excludes a miner is not given the place that its job holds there', async () => {
  await enterEqual(world, 3, 2);
  const [first] = await reservedBy(world, 'job');
  assert.ok(first);
  const request = v.parse(MatchRequest, {
    job_id: 'job',
    requirements: { exclude_miners: [first[0]] },
    reserve: { count: 1, ttl_ms: 60_000 },
  });
  const { candidates } = (await match(world.matching(), request)).answer;
  const [other] = candidates.filter(({ reservation_id }) => reservation_id !== undefined);
  assert.ok(other && candidates.every(({ miner_id }) => miner_id !== first[0]));
  const both = new Map([first, [other.miner_id, other.reservation_id ?? '']]);
  assert.deepEqual(new Map(await reservedBy(world, 'job', 2)), both, 'the job holds both');
});

test('the same request from many replicas at once holds its places once', async () => {
  await enterEqual(world, 5, 2);
  const all = await Promise.all(Array.from({ length: 6 }, () => reservedBy(world, 'job', 2)));
  for (const held of all) assert.deepEqual(new Map(held), new Map(all[0]));
  assert.equal(
    (await places(world)).reduce((a, b) => a + b),
    2,
  );
});

test('a place that nobody confirms is free again when its time is over, without a worker', async () => {
  await enterEqual(world, 1, 1);
  const [held] = await reservedBy(world, 'job-1', 1, 1000);
  assert.deepEqual(await reservedBy(world, 'job-2', 1), []);
  world.nowMs += 1000;
  const [next] = await reservedBy(world, 'job-2', 1);
  assert.ok(next && held && next[1] !== held[1]);
  const ended = await world.matching().reservations.end(held[1], 'confirmed');
  assert.deepEqual(ended, { status: 'ended', how: 'expired' });
  await assertVerified(world);
});

test('a repeated request never gets a place whose time is over', async () => {
  await enterEqual(world, 1, 1);
  const [first] = await reservedBy(world, 'job', 1, 1000);
  world.nowMs += 1000;
  const [again] = await reservedBy(world, 'job', 1, 1000);
  assert.ok(first && again && again[1] !== first[1]);
  assert.equal((await world.matching().reservations.end(again[1], 'confirmed')).status, 'ok');
  await assertVerified(world);
});

test('a plan is kept for as long as any place that it names', async () => {
  await enterEqual(world, 3, 1);
  const [held] = await reservedBy(world, 'job', 1, 600_000);
  await reservedBy(world, 'job', 2, 1000);
  assert.ok((await world.redis.pttl(world.registry.store.key(0, 'job:job'))) > 600_000);
  assert.deepEqual((await reservedBy(world, 'job'))[0], held);
});

test('confirming turns the place into one more in the queue, until the next heartbeat', async () => {
  await enterEqual(world, 1, 2);
  const [held] = await reservedBy(world, 'job');
  const id = held?.[1] ?? '';
  const { reservations } = world.matching();
  assert.deepEqual(await reservations.end(id, 'confirmed'), { status: 'ok', jobId: 'job', minerId: 'm0' });
  assert.deepEqual(await reservations.end(id, 'confirmed'), { status: 'ok', jobId: 'job', minerId: 'm0' });
  assert.deepEqual(await reservations.end(id, 'released'), { status: 'ended', how: 'confirmed' });
  const hash = await world.miners.get('m0');
  assert.deepEqual([hash?.queue_len, hash?.reserved], ['1', '0']);
  const session = { kind: 'session' as const, digest: hash?.session ?? '' };
  await world.miners.heartbeat('m0', session, { queue_len: 1 });
  assert.equal((await world.miners.get('m0'))?.queue_len, '1');

  const [next] = await reservedBy(world, 'next');
  await reservations.end(next?.[1] ?? '', 'confirmed');
  assert.equal((await world.miners.get('m0'))?.queue_len, '2');
  await world.miners.heartbeat('m0', session, {});
  assert.equal((await world.miners.get('m0'))?.queue_len, '1', 'what it said last, when it says nothing');
});

test('a confirmed place is known for as long as the plan that names it', async () => {
  await enterEqual(world, 4, 2);
  const stored = (what: string) => world.registry.store.key(0, what);
  const { reservations } = world.matching();
  const [kept, released] = await reservedBy(world, 'job', 2, 600_000);
  await reservations.end(kept?.[1] ?? '', 'confirmed');
  const [plan, place] = await Promise.all([
    world.redis.pttl(stored('job:job')),
    world.redis.pttl(stored(`reservation:${kept?.[1]}`)),
  ]);
  assert.ok(place >= plan && plan > 600_000, `${place} ms, the plan ${plan} ms`);

  await reservations.end(released?.[1] ?? '', 'released');
  const second = new Map(await reservedBy(world, 'job', 2, 600_000));
  assert.ok(kept && second.get(kept[0]) === kept[1]);
  await world.redis.unlink(stored(`reservation:${kept[1]}`)); // as its expiry does, before that of the newer plan
  assert.deepEqual(new Map(await reservedBy(world, 'job', 2, 600_000)), second);
});

test('a job that its miner accepted and then failed may get another', async () => {
  await enterEqual(world, 2, 1);
  const [[minerId, id] = ['', '']] = await reservedBy(world, 'job');
  const trust = { minerId, seq: 0, alpha: 0, beta: 0, score: 0, observedLatencyMs: null, observedSamples: 0 };
  const hear = (end: string) => applyTrust(world, trust, { id, end });
  await hear('confirmed');
  await hear('confirmed');
  assert.deepEqual(await reservedBy(world, 'job'), [[minerId, id]]);
  await hear('released');
  assert.equal((await world.miners.get(minerId))?.queue_len, '1', 'until its heartbeat');
  const [[other] = ['']] = await reservedBy(world, 'job');
  assert.notEqual(other, minerId);
  await hear('released');
  await hear('confirmed');
  assert.deepEqual((await reservedBy(world, 'job'))[0]?.[0], other);
  assert.deepEqual(await world.matching().reservations.end(id, 'confirmed'), {
    status: 'ended',
    how: 'released',
  });
});

test('releasing gives the place back at once, and only once', async () => {
  await enterEqual(world, 1, 2);
  const [first] = await reservedBy(world, 'job-1');
  await reservedBy(world, 'job-2');
  const { reservations } = world.matching();
  for (const _ of [1, 2]) {
    const ended = await reservations.end(first?.[1] ?? '', 'released');
    assert.equal(ended.status, 'ok');
  }
  assert.deepEqual(await places(world), [1]);
});

test('an unknown reservation is unknown, whatever its id looks like', async () => {
  await enterEqual(world, 1, 1);
  const { reservations } = world.matching();
  for (const id of [
    'x',
    '',
    '0.',
    '9999.AAAAAAAAAAAAAAAAAAAAAA',
    '0.AAAAAAAAAAAAAAAAAAAAAA',
    '0.{x}',
    '../..',
  ]) {
    assert.deepEqual(await reservations.end(id, 'released'), { status: 'unknown' });
  }
});

test('a place whose time ended in a long outage is freed by the first call after it', async () => {
  await enterEqual(world, 1, 1);
  const [held] = await reservedBy(world, 'job-1', 1, 1000);
  const key = world.registry.store.key(0, `reservation:${held?.[1]}`);
  assert.equal(await world.redis.pttl(key), -1, 'the hash must outlast any outage');
  world.nowMs += 86_400_000;
  await settleDue(world);
  assert.ok((await world.redis.pttl(key)) > 0, 'and go some time after its end');
  await assertVerified(world);
});

test('a miner that left and came back has all its places, and those held before are lost', async () => {
  await enterEqual(world, 1, 1);
  const { reservations } = world.matching();
  const [[, lost] = ['', '']] = await reservedBy(world, 'job-1', 1, 30_000);
  await world.miners.remove('m0', 'operator');
  assert.deepEqual(await reservedBy(world, 'job-1'), []);
  const [miner] = fleetOf({ style: 'equal', size: 1, seed: 5 });
  assert.ok(miner);
  await new Player(world, [miner]).enter({ ...miner, profile: { ...miner.profile, max_parallel: 1 } });
  assert.deepEqual(await places(world), [0]);
  const [held] = await reservedBy(world, 'job-2', 1, 60_000);
  assert.ok(held);
  assert.deepEqual(await reservations.end(lost, 'confirmed'), { status: 'ended', how: 'lost' });
  world.nowMs += 30_000;
  await settleDue(world);
  assert.deepEqual(await places(world), [1]);
  await assertVerified(world);
});
