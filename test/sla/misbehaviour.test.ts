import assert from 'node:assert/strict';
import { test } from 'node:test';
import { and, eq, sql } from 'drizzle-orm';
import { slaAlerts, slaViolations } from '../../src/hub/sla/tables.ts';
import { applyVerdicts, verdictOf } from '../../src/hub/sla/violations.ts';
import { harness } from '../support/harness.ts';
import { openWorld } from './world.ts';

const h = await harness();

test('miners that misbehave are in exactly the violations they earned, until they behave', async () => {
  const world = await openWorld(h, { SESSION_TTL_SEC: '60', HEARTBEAT_GRACE_SEC: '120' });
  const good = await Promise.all(Array.from({ length: 7 }, () => world.register()));
  const [flaps, slow, fails] = await Promise.all([world.register(), world.register(), world.register()]);
  let behave = false;
  const live = async (at: number) => {
    await Promise.all([...good, slow, fails].map((miner) => world.beat(miner)));
    if (behave || at % 160 === 0) await world.register(flaps);
    if (at % 100 !== 0) return;
    const n = at / 100;
    const isFailure = !behave && n % 3 === 0;
    await Promise.all([
      ...[...good, flaps].map((miner) => world.job(miner, 'completed', 200)),
      world.job(slow, 'completed', behave ? 200 : 2500),
      isFailure ? world.job(fails, 'failed') : world.job(fails, 'completed', 200),
    ]);
    if (at % 300 === 0) await world.collect();
  };
  await world.run(1800, live);
  const expected = [`${flaps} uptime`, `${slow} response_time`, `${fails} completion_rate`].sort();
  assert.deepEqual(await world.open(), expected);
  behave = true;
  await world.run(2400, live);
  assert.deepEqual(await world.open(), []);

  const history = await world.deps.db.run((orm) => orm.select().from(slaViolations));
  assert.deepEqual(history.map((row) => `${row.minerId} ${row.violationType}`).sort(), expected);
  const alerts = await world.deps.db.run((orm) => orm.select().from(slaAlerts));
  const types = alerts.map((alert) => alert.type);
  assert.equal(types.filter((type) => type === 'violation.opened').length, 3);
  assert.equal(types.filter((type) => type === 'violation.resolved').length, 3);
});

test('severity grows with the distance and an open violation is not opened again', async () => {
  const world = await openWorld(h);
  const miner = await world.register();
  const severities: number[] = [];
  for (const latencyMs of [1040, 1300, 4000, 20_000]) {
    await world.run(20, () => world.beat(miner));
    await world.job(miner, 'completed', latencyMs);
    await world.collect();
    const rows = await world.deps.db.run((orm) =>
      orm
        .select()
        .from(slaViolations)
        .where(and(eq(slaViolations.minerId, miner), eq(slaViolations.violationType, 'response_time'))),
    );
    assert.equal(rows.length, 1);
    severities.push(rows[0]?.severity ?? 0);
  }
  assert.deepEqual(severities, [1, 2, 4, 4]);
});

test('collections that find the same violation at once open it once', async () => {
  const world = await openWorld(h);
  const miner = 'found-by-four';
  const found = (value: number) => [verdictOf(miner, 'uptime', value, 95)];
  await Promise.all(
    [51, 52, 53, 54].map((value) =>
      world.deps.db.run((orm) => applyVerdicts(orm, found(value), world.nowMs())),
    ),
  );
  const told = await world.deps.db.run((orm) =>
    orm.select().from(slaAlerts).where(sql`${slaAlerts.data}->>'miner_id' = ${miner}`),
  );
  assert.deepEqual(
    told.map(({ type }) => type),
    ['violation.opened'],
  );
});

test('the use of a pool in which nobody is online is not known, so not too high', async () => {
  const world = await openWorld(h);
  const isOpen = async () => (await world.open()).includes('pool capacity_use');
  await world.deps.db.run((orm) =>
    applyVerdicts(orm, [verdictOf('', 'capacity_use', 100, 80)], world.nowMs()),
  );
  assert.ok(await isOpen());
  assert.ok((await world.collect()).violations_resolved >= 1);
  assert.ok(!(await isOpen()));
});

test('a miner that never comes back is in violation, and after a day no member of the pool', async () => {
  const world = await openWorld(h);
  const [stays, leaves] = [await world.register(), await world.register()];
  await world.collect();
  await world.run(600, () => world.beat(stays));
  await world.collect();
  assert.deepEqual(
    (await world.open()).filter((line) => line.startsWith(leaves)),
    [`${leaves} uptime`],
  );
  world.away(90_000);
  await world.register(stays);
  await world.collect();
  assert.deepEqual(
    (await world.open()).filter((line) => line.startsWith(leaves)),
    [],
  );
});
