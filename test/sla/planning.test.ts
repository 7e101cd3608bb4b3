import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import { miners } from '../../src/hub/miners/tables.ts';
import { setCapacityAlertPct } from '../../src/hub/sla/capacity.ts';
import { forecastCapacity, recommend } from '../../src/hub/sla/planning.ts';
import { capacitySnapshots } from '../../src/hub/sla/tables.ts';
import { ADMIN, openApp } from '../hub/edge/app.ts';
import { harness } from '../support/harness.ts';
import { openWorld } from './world.ts';

const h = await harness();

test('forecast and advice follow from the stored snapshots, and from nothing else', async () => {
  const world = await openWorld(h, { CAPACITY_FORECAST_HOURS: '48' });
  const { db } = world.deps;
  assert.deepEqual((await forecastCapacity(world.deps, 24)).points, []);
  const nothing = await recommend(world.deps);
  assert.deepEqual([nothing.places_needed, nothing.recommendations], [null, []]);

  // Ten days with a daily season, a snapshot every half hour; the middle day is missing.
  await db.run((orm) =>
    orm.execute(sql`
      insert into ${capacitySnapshots} (at, miners, miners_online, places_total, places_online, places_used)
      select date_trunc('hour', now()) - i * interval '30 minutes', 25, 25, 100, 100, round(40 + 30 * sin(i / 48.0 * 2 * pi()))
      from generate_series(1, 480) i where i not between 239 and 286`),
  );
  await world.register('planned');
  await db.run((orm) => orm.update(miners).set({ gpuName: 'rtx 4090', maxParallel: 4 }));
  const forecast = await forecastCapacity(world.deps, 24);
  assert.equal(forecast.method, 'holt_winters_daily');
  assert.deepEqual([forecast.history_hours, forecast.missing_hours, forecast.points.length], [216, 24, 24]);
  const mean = forecast.points.reduce((sum, { expected }) => sum + expected, 0) / 24;
  assert.ok(Math.abs(mean - 40) < 5, `mean ${mean}`);

  const calm = await recommend(world.deps);
  const upper = calm.peak_upper_95 as number;
  assert.ok(upper >= 65 && (calm.peak_expected as number) <= upper);
  const needed = calm.places_needed as number;
  assert.ok(
    (100 * upper) / needed < 80 && (100 * upper) / (needed - 1) >= 80,
    `${needed} places for ${upper}`,
  );
  const [advice] = calm.recommendations;
  assert.deepEqual([advice?.gpu_name, advice?.places_each], ['rtx 4090', 4]);
  if (needed > 100)
    assert.deepEqual([advice?.action, advice?.miners], ['add', Math.ceil((needed - 100) / 4)]);

  await db.run((orm) => setCapacityAlertPct(orm, 40));
  const strict = await recommend(world.deps);
  assert.ok((100 * upper) / (strict.places_needed as number) < 40);

  await db.run((orm) => orm.update(capacitySnapshots).set({ placesUsed: sql`places_used * 3` }));
  const busy = await recommend(world.deps);
  const missing = (busy.places_needed as number) - 100;
  assert.ok(
    Math.abs((busy.peak_upper_95 as number) / upper - 3) < 0.2,
    'three times the use, three times the peak',
  );
  const [more] = busy.recommendations;
  assert.deepEqual([more?.action, more?.miners], ['add', Math.ceil(missing / 4)]);
  assert.match(
    more?.reason ?? '',
    new RegExp(`${busy.places_needed} places; 100 are online, so ${missing} are missing`),
  );
});

test('a page of snapshots that begins in a far future is the first', async () => {
  const app = await openApp(h, { REDIS_PREFIX: `${h.prefix}-snapshots` });
  const { db } = app.deps;
  const inserted = sql`insert into ${capacitySnapshots} select now(), 1, 1, 1, 1, 1 on conflict do nothing`;
  await db.run((orm) => orm.execute(inserted));
  const list = (query: string) =>
    app.call('GET', `/sla/capacity/snapshots?limit=2${query}`, { headers: ADMIN });
  const first = await list('');
  const answer = await list('&cursor=999999999999999');
  assert.deepEqual([answer.status, answer.json], [200, first.json]);
});

test('threshold and webhooks are set over the API, secrets never shown, and a URL that cannot be called is refused', async () => {
  const app = await openApp(h, { REDIS_PREFIX: `${h.prefix}-alerts` });
  const configure = (body: object) =>
    app.call('POST', '/sla/capacity/alerts/configure', { headers: ADMIN, body });
  const secret = 'a secret of sixteen or more';
  const url = 'https://ops.example/hook';
  const answer = await configure({ threshold_pct: 70, webhooks: [{ url, secret }] });
  assert.deepEqual(answer.json, { status: 'ok', threshold_pct: 70, webhooks: [{ url }] });
  for (const wrong of ['ops.example/hook', 'ftp://ops.example', 'https://user:password@ops.example/hook']) {
    const refused = await configure({ webhooks: [{ url: wrong, secret }] });
    assert.equal(refused.status, 422, wrong);
    assert.equal(refused.json.error.details[0].path, 'webhooks.0.url');
    assert.doesNotMatch(refused.text, /password@/);
  }
  assert.deepEqual((await configure({})).json, answer.json);
  assert.deepEqual((await configure({ webhooks: [] })).json.webhooks, []);
});
