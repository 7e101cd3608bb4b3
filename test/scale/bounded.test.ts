import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import * as v from 'valibot';
import { match } from '../../src/hub/matching/match.ts';
import { MatchRequest } from '../../src/hub/matching/schema.ts';
import { REAP_BATCH } from '../../src/hub/miners/store.ts';
import { rebuildRegistry } from '../../src/hub/registry/rebuild.ts';
import { verifyRegistry } from '../../src/hub/registry/verify.ts';
import { readPage } from '../../src/hub/sla/store.ts';
import { CORRUPTIONS } from '../support/corruptions.ts';
import { FLEET_STYLES, fleetOf, POOLS } from '../support/fleets.ts';
import { harness } from '../support/harness.ts';
import { Player } from '../support/histories.ts';
import { openWorld, resetWorld, type World, worldRedis } from '../support/registry-world.ts';
import { matchRequests } from '../support/requests.ts';
import { meterScripts } from './processor-time.ts';

const h = await harness();
const connect = await worldRedis(h);

/** Miners in the one shard; what is promised is promised for 100,000. */
const MINERS = process.env.POOLHUB_LONG === '1' ? 100_000 : 1_000;
const STYLES = FLEET_STYLES.filter((style) => style === 'mixed' || style === 'equal');
/** No call may hold the server longer. */
const LIMIT_MS = 5;
/** What took long is done again: it may be the first of its kind, or the machine was at something else. */
const TRIES = 6;
const SLOWLOG_SIZE = 512;
const STEP_MS = 20_000;
/** What the meter itself calls, and what it measures better than SLOWLOG does. */
const COMMANDS_OF_METER = new Set(['info', 'eval', 'evalsha']);

type Watch = (what: string, work: () => Promise<unknown>) => Promise<void>;

/** What does some work, and again while calls are slow, and fails with calls that are slow every time they are made. */
async function watchOf(redis: Redis): Promise<Watch> {
  await redis.config('SET', 'slowlog-max-len', SLOWLOG_SIZE);
  await redis.config('SET', 'slowlog-log-slower-than', LIMIT_MS * 1000);
  const meter = meterScripts(redis, LIMIT_MS * 1000);
  return async (what, work) => {
    let suspects: Map<string, number> | undefined;
    for (let n = 0; n < TRIES && suspects?.size !== 0; n++) {
      await redis.slowlog('RESET');
      const { slow, slowness } = await meter.during(work);
      const entries = (await redis.slowlog('GET', SLOWLOG_SIZE)) as [number, number, number, string[]][];
      for (const [, , us, words] of entries) {
        const commandOfWork = !COMMANDS_OF_METER.has(words[0] ?? '');
        if (commandOfWork && us > LIMIT_MS * 1000 * slowness) slow.set(words.join(' '), us);
      }
      const before = suspects;
      suspects = new Map([...slow].filter(([call]) => before?.has(call) ?? true));
    }
    for (const [call, us] of suspects ?? [])
      assert.fail(`${what}: ${us} us, too long each time: ${call.slice(0, 200)}`);
  };
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

const WIDE = {
  capabilities_any: POOLS.capabilities.slice(0, 16),
  tags_any: POOLS.tags.slice(0, 16),
  min_vram_gb: 0.5,
  min_ram_gb: 0.5,
};
/** What is dear by design: nothing asked for, all that may be asked for at once, the longest lists, the most answers. */
const WORST = [
  { top_k: 100 },
  { top_k: 100, requirements: { exclude_miners: Array.from({ length: 100 }, (_, n) => `m${n}`) } },
  ...['balanced', 'cheapest', 'fastest', 'trusted'].map((strategy) => ({
    top_k: 50,
    requirements: WIDE,
    hints: { strategy, max_price: '0.5', deadline_ms: 300 },
  })),
  { top_k: 50, requirements: { min_vram_gb: 24.5 }, hints: { max_price: '0.505', deadline_ms: 40 } },
].map((request) => v.parse(MatchRequest, { job_id: 'job', ...request }));

async function watchMatches(world: World, watched: Watch, t: TestContext): Promise<void> {
  const redis = world.redis as Redis;
  const { matching } = world.matching();
  await redis.config('RESETSTAT');
  for (const request of [...fc.sample(matchRequests, { numRuns: 25, seed: 8 }), ...WORST]) {
    await watched(JSON.stringify(request), async () => {
      await matching.find(request, 0, request.top_k);
      await matching.explain(request, 0);
    });
  }
  t.diagnostic(`matches: ${await meanUs(redis)} us a call`);
  let jobs = 0;
  await watched('claims', () =>
    match(world.matching(), {
      job_id: `job-${jobs++}`,
      requirements: {},
      hints: {},
      top_k: 20,
      reserve: { count: 20, ttl_ms: 1000 },
    }),
  );
}

async function watchMiners(world: World, watched: Watch, player: Player): Promise<void> {
  let seed = 0;
  await watched('heartbeats in full batches, and updates', async () => {
    const beats = Array.from({ length: 64 }, (_, who) => player.play({ do: 'beat', who, seed: seed++ }));
    await Promise.all(beats);
    for (let who = 0; who < 30; who++) await player.play({ do: 'update', who, seed: seed++ });
  });
  await watched('pages and totals', async () => {
    await world.miners.list({ state: 'online' }, undefined, 200);
    await world.miners.stats();
    await readPage(world.scripts, 0, 0, 100);
  });
}

async function watchRepairs(world: World, watched: Watch): Promise<void> {
  const redis = world.redis as Redis;
  await watched('rebuild, and verify, which is its last round', async () => {
    for (const [n, { damage }] of CORRUPTIONS.entries()) {
      const hash = await redis.hgetall(world.registry.store.key(0, `miner:m${n}`));
      await damage(world, { id: `m${n}`, shard: 0, hash }, (name) => world.registry.store.key(0, name));
    }
    await redis.slowlog('RESET');
    await rebuildRegistry(world.registry);
  });
}

/** The whole fleet falls silent: all leases lapse together, then all graces; the reaper takes them in the batches of its task. */
async function watchSilence(world: World, watched: Watch): Promise<void> {
  const redis = world.redis as Redis;
  const batch = () => world.miners.reap(0, REAP_BATCH);
  world.nowMs += world.leaseMs + 1000;
  await watched('leases that lapse', batch);
  while ((await batch()).stepped > 0);
  world.nowMs += world.graceMs + 1000;
  await watched('removals that are held back', batch);
  // Hubs are there all the time: it is no outage, and after three graces the fleet is taken for dead.
  for (let passedMs = 0; passedMs < 4 * world.graceMs; passedMs += STEP_MS) {
    world.nowMs += STEP_MS;
    await world.miners.alive();
    await batch();
  }
  await watched('removals', batch);
  while ((await world.miners.stats()).registered > 0) {
    world.nowMs += STEP_MS;
    await world.miners.alive();
    while ((await batch()).removed > 0);
  }
  // Now the list of free slots is as long as it gets.
  await watched('slots', async () => {
    const name = (key: string) => world.registry.store.key(0, key);
    await redis.rpush(name('slots:free'), 1, 2, 3);
    await redis.incrby(name('slots:next'), 3);
    await redis.slowlog('RESET');
    await rebuildRegistry(world.registry);
  });
  assert.deepEqual((await verifyRegistry(world.registry)).counts, {});
}

for (const style of STYLES) {
  test(`no call holds the server for long, a fleet of ${MINERS} (${style})`, async (t) => {
    const world = await resetWorld(openWorld(await connect(STYLES.indexOf(style))));
    const player = await enterFleet(world, style);
    const watched = await watchOf(world.redis as Redis);
    await watchMatches(world, watched, t);
    await watchMiners(world, watched, player);
    await watchRepairs(world, watched);
    await watchSilence(world, watched);
  });
}
