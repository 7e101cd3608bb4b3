import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eq, sql } from 'drizzle-orm';
import { listMetrics } from '../../src/hub/sla/queries.ts';
import { capacitySnapshots, slaMetrics } from '../../src/hub/sla/tables.ts';
import { harness } from '../support/harness.ts';
import { openWorld, type World } from './world.ts';

const h = await harness();

/** What all rows of a miner add up to. */
async function totals(world: World, minerId: string) {
  const rows = await world.deps.db.run((orm) =>
    orm.select().from(slaMetrics).where(eq(slaMetrics.minerId, minerId)),
  );
  const sum = (part: 'onlineMs' | 'expectedMs' | 'completed' | 'failed') =>
    rows.reduce((total, row) => total + row[part], 0);
  return {
    online: sum('onlineMs'),
    expected: sum('expectedMs'),
    completed: sum('completed'),
    failed: sum('failed'),
  };
}

test('online time is exact, however often and when it is collected, and through lives in the registry', async () => {
  const world = await openWorld(h, { SESSION_TTL_SEC: '60', HEARTBEAT_GRACE_SEC: '60' });
  const steady = await world.register();
  const flapping = await world.register();
  let lives = 1;
  await world.run(1200, async (at) => {
    await world.beat(steady);
    // Comes for a moment, is online for its lease of 60 s, then gone; back after 300 s.
    if (at % 300 === 0) {
      await world.register(flapping);
      lives += 1;
    }
    if ([20, 40, 500, 520, 1040].includes(at)) await world.collect();
  });
  await world.collect();
  assert.deepEqual(await totals(world, steady), {
    online: 1_200_000,
    expected: 1_200_000,
    completed: 0,
    failed: 0,
  });
  // The last life has just begun.
  assert.deepEqual(await totals(world, flapping), {
    online: (lives - 1) * 60_000,
    expected: 1_200_000,
    completed: 0,
    failed: 0,
  });
});

test('an outage of all hubs counts against nobody', async () => {
  const world = await openWorld(h, { SESSION_TTL_SEC: '60' });
  const miner = await world.register();
  const each = () => world.beat(miner);
  await world.run(300, each);
  world.away(200);
  await world.collect();
  world.away(200);
  await world.run(300, each);
  await world.collect();
  const { online, expected } = await totals(world, miner);
  assert.ok(online / expected > 0.95 && expected <= 640_000, `${online} of ${expected}`);
});

test('collections at the same time, and one that starts again, count everything once', async () => {
  const world = await openWorld(h);
  const miner = await world.register();
  await world.run(100, () => world.beat(miner));
  await world.job(miner, 'completed', 100);
  await world.job(miner, 'failed');
  await Promise.all([world.collect(), world.collect(), world.collect()]);
  await world.run(100, () => world.beat(miner));
  await world.collect();
  assert.deepEqual(await totals(world, miner), {
    online: 200_000,
    expected: 200_000,
    completed: 1,
    failed: 1,
  });
});

test('a clock that was far ahead for a while stops no measurement', async () => {
  const world = await openWorld(h);
  const miner = await world.register();
  await world.collect();
  world.away(5 * 86_400);
  await world.collect();
  world.away(1 - 5 * 86_400);
  await world.collect(); // From here on it goes by the right clock.
  const before = await totals(world, miner);
  await world.run(40, () => world.beat(miner));
  await world.collect();
  const after = await totals(world, miner);
  assert.deepEqual([after.online - before.online, after.expected - before.expected], [40_000, 40_000]);
});

test('a scheduled collection runs once per interval, whoever asks and however late', async () => {
  const world = await openWorld(h, { SLA_COLLECTION_INTERVAL_SECONDS: '300' });
  await world.register();
  const snapshots = async () =>
    (await world.deps.db.run((orm) => orm.select().from(capacitySnapshots))).map(({ at }) => at.getTime());
  const before = new Set(await snapshots());
  // Runs are due a moment before the end of each interval: most come to run in the one after it.
  world.away(300 - ((world.nowMs() / 1000) % 300));
  const startMs = world.nowMs();
  for (const [n, lateMs] of [5, 250_000, 1, 40].entries()) {
    const dueMs = startMs + n * 300_000 + 299_980;
    world.away((dueMs + lateMs - world.nowMs()) / 1000);
    const first = await world.collect(false, dueMs);
    assert.deepEqual(await world.collect(false, dueMs), first);
  }
  // Nobody was there for three intervals: what is measured then is not the past.
  world.away(900);
  await world.collect(false, world.nowMs() - 800_000);
  const added = (await snapshots()).filter((at) => !before.has(at)).sort((a, b) => a - b);
  assert.deepEqual(
    added.map((at) => (at - startMs) / 300_000),
    [0, 1, 2, 3, 7],
  );
});

test('what was not measured is absent', async () => {
  const world = await openWorld(h);
  const miner = await world.register();
  world.away(10);
  await world.collect();
  assert.deepEqual(await world.levels(miner), { uptime: 100 });
});

test('pages leave out no row, also where SLA_WINDOW_SEC has changed', async () => {
  const { deps } = await openWorld(h);
  await deps.db.run((orm) =>
    orm.execute(sql`
      insert into ${slaMetrics} (miner_id, starts_at, span_sec, collected_at, online_ms, expected_ms)
      select m, date_trunc('hour', now()) - make_interval(hours => i), s, now(), 1, 1
      from unnest(array['a.b', 'a.c']) m, unnest(array[600, 3600]) s, generate_series(0, 2) i`),
  );
  for (const minerId of ['a.b', undefined]) {
    const list = (limit: number, cursor: string | undefined) =>
      listMetrics(deps.db, deps.config, {
        ...(minerId === undefined ? {} : { minerId }),
        hours: 24,
        metricType: undefined,
        limit,
        cursor,
      });
    const whole = await list(1000, undefined);
    const paged: typeof whole.items = [];
    let cursor: string | undefined;
    do {
      const page = await list(1, cursor);
      paged.push(...page.items);
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    assert.ok(paged.length >= 6);
    assert.deepEqual(paged, whole.items);
  }
});
