import assert from 'node:assert/strict';
import { availableParallelism, loadavg } from 'node:os';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { match } from '../../src/hub/matching/match.ts';
import { REAP_BATCH } from '../../src/hub/miners/store.ts';
import { rebuildRegistry } from '../../src/hub/registry/rebuild.ts';
import { verifyRegistry } from '../../src/hub/registry/verify.ts';
import { CORRUPTIONS, corrupt } from '../support/corruptions.ts';
import { FLEET_STYLES, fleetOf } from '../support/fleets.ts';
import { harness } from '../support/harness.ts';
import { Player } from '../support/histories.ts';
import { openWorld, resetWorld, type World, worldRedis } from '../support/registry-world.ts';
import { matchRequests } from '../support/requests.ts';

const h = await harness();
const connect = await worldRedis(h);

/** Miners in the one shard; what is promised is promised for 100,000. */
const MINERS = process.env.POOLHUB_LONG === '1' ? 100_000 : 1_500;
const STYLES = FLEET_STYLES.filter((style) => style === 'mixed' || style === 'equal');
/** No call may hold the server longer. */
const LIMIT_MS = 5;
/** The server measures by the clock on the wall: a call that was slow is done again, for it may only have been interrupted. */
const TRIES = 6;
const SLOWLOG_SIZE = 512;

/** With more work than cores every call takes so many times longer. */
const contention = () => Math.max(1, (loadavg()[0] ?? 0) / availableParallelism());

/** Does some work, and again while calls are slow; fails with calls that are slow every time they are made. */
async function watched(redis: Redis, what: string, work: () => Promise<unknown>): Promise<void> {
  await redis.config('SET', 'slowlog-log-slower-than', Math.ceil(LIMIT_MS * 1000 * contention()));
  let suspects: Map<string, number> | undefined;
  for (let n = 0; n < TRIES && suspects?.size !== 0; n++) {
    await redis.slowlog('RESET');
    await work();
    const entries = (await redis.slowlog('GET', SLOWLOG_SIZE)) as [number, number, number, string[]][];
    const slow = new Map(entries.map(([, , us, words]) => [words.join(' '), us]));
    const before = suspects;
    suspects = new Map([...slow].filter(([call]) => before?.has(call) ?? true));
  }
  for (const [call, us] of suspects ?? [])
    assert.fail(`${what}: ${us} us, too long each time: ${call.slice(0, 200)}`);
}

async function enterFleet(world: World, style: (typeof STYLES)[number]): Promise<Player> {
  const fleet = fleetOf({ style, size: MINERS, seed: 4 });
  const player = new Player(world, fleet);
  for (let n = 0; n < fleet.length; n += 500) {
    await Promise.all(fleet.slice(n, n + 500).map((miner) => player.enter(miner)));
  }
  return player;
}

/** Mean microseconds of a script call since the statistics were reset. */
async function meanUs(redis: Redis): Promise<number> {
  const line = /^cmdstat_evalsha:calls=\d+,usec=\d+,usec_per_call=([\d.]+)/m.exec(
    await redis.info('commandstats'),
  );
  return Number(line?.[1]);
}

for (const style of STYLES) {
  test(`no call holds the server for long, a fleet of ${MINERS} (${style})`, async (t) => {
    const world = await resetWorld(openWorld(await connect(STYLES.indexOf(style))));
    const redis = world.redis as Redis;
    await redis.config('SET', 'slowlog-max-len', SLOWLOG_SIZE);
    const player = await enterFleet(world, style);
    await redis.config('RESETSTAT');

    const { matching } = world.matching();
    for (const request of fc.sample(matchRequests, { numRuns: 25, seed: 8 })) {
      await watched(redis, JSON.stringify(request), async () => {
        await matching.find(request, 0, request.top_k);
        await matching.explain(request, 0);
      });
    }
    t.diagnostic(`${style}: ${await meanUs(redis)} us a call`);
    let jobs = 0;
    await watched(redis, 'claims', () =>
      match(world.matching(), {
        job_id: `job-${jobs++}`,
        requirements: {},
        hints: {},
        top_k: 20,
        reserve: { count: 20, ttl_ms: 1000 },
      }),
    );
    await watched(redis, 'heartbeats and updates', async () => {
      for (let who = 0; who < 30; who++) await player.play({ do: 'beat', who, seed: jobs++ });
      for (let who = 0; who < 30; who++) await player.play({ do: 'update', who, seed: jobs++ });
    });
    await watched(redis, 'verify', () => verifyRegistry(world.registry));
    await watched(redis, 'rebuild', async () => {
      for (const [n, corruption] of CORRUPTIONS.entries()) await corrupt(world, corruption, n);
      await redis.slowlog('RESET');
      await rebuildRegistry(world.registry);
    });

    // All leases lapse together, and then all graces: the reaper takes them in the batches of its task.
    for (const ms of [world.leaseMs + 1000, world.graceMs + 1000]) {
      world.nowMs += ms;
      await watched(redis, 'a batch of the reaper', () => world.miners.reap(0, REAP_BATCH));
    }
  });
}
