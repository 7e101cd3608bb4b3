import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { harness } from '../../support/harness.ts';
import { ADMIN, COORDINATOR, openApp, type TestApp } from './app.ts';

const h = await harness();
let app: TestApp;
before(async () => {
  app = await openApp(h, { REDIS_SHARDS: '3' });
});

const get = async (path: string) => (await app.call('GET', path, { headers: ADMIN })).json;
const post = (path: string, body?: unknown, headers: Record<string, string> = ADMIN) =>
  app.call('POST', path, { headers, ...(body === undefined ? {} : { body }) });

test('pages lead through the whole registry, once each, with totals and filters', async () => {
  const ids = Array.from({ length: 12 }, (_, i) => `page-${i}`);
  await Promise.all(
    ids.map((id, i) =>
      app.register(id, {
        region: i % 3 === 0 ? 'eu-west-1' : 'us-east',
        tags: i < 5 ? ['paged', 'few'] : ['paged'],
      }),
    ),
  );
  const seen: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await get(`/v1/miners?tag=paged&limit=5${cursor === undefined ? '' : `&cursor=${cursor}`}`);
    assert.ok(page.miners.length <= 5);
    assert.equal(page.total, 12);
    assert.ok(page.totals.registered >= 12);
    seen.push(...page.miners.map((miner: { miner_id: string }) => miner.miner_id));
    cursor = page.next_cursor;
  } while (cursor !== undefined);
  assert.deepEqual(seen.sort(), [...ids].sort());
  assert.equal((await get('/v1/miners?tag=few&region=eu')).total, 2);
  assert.equal((await get('/v1/miners?tag=paged&region=EU-West-1')).total, 4);
  assert.equal((await get('/v1/miners?tag=paged&state=degraded')).total, 0);
  assert.equal((await get('/v1/miners?tag=paged&capability=none')).total, 0);
});

test('the detail shows state, price, trust, scores, commands and the last feedback', async () => {
  const token = await app.register('detail-1', { tenant_id: 'tenant-7', price_token_per_ksec: '0.5' });
  await post(
    '/v1/miners/heartbeat',
    { session_token: token, queue_len: 1, avg_latency_ms: 80, temp_c: 61.5 },
    {},
  );
  await post(
    '/v1/feedback',
    { job_id: 'job-1', miner_id: 'detail-1', outcome: 'failed', fail_code: 'oom' },
    COORDINATOR,
  );
  await post(
    '/v1/feedback',
    { job_id: 'job-2', miner_id: 'detail-1', outcome: 'completed', latency_ms: 120 },
    COORDINATOR,
  );
  await post('/v1/miners/detail-1/commands', { name: 'update_tags', args: { tags: ['x'] } });
  await post('/v1/miners/detail-1/drain');
  const expires_at = '2099-01-01T00:00:00.000Z';
  await app.call('PUT', '/v1/miners/detail-1/price-override', {
    headers: ADMIN,
    body: { price: 0.25, expires_at },
  });

  const detail = await get('/v1/miners/detail-1');
  assert.equal(detail.state, 'online');
  assert.equal(detail.draining, 'admin');
  assert.equal(detail.tenant_id, 'tenant-7');
  assert.equal(detail.wallet_address, null);
  assert.deepEqual(
    [detail.base_price, detail.price, detail.price_override],
    ['0.5', '0.25', { price: '0.25', expires_at }],
  );
  assert.deepEqual(
    [detail.queue_len, detail.max_parallel, detail.temp_c, detail.latency_ms],
    [1, 2, 61.5, 80],
  );
  assert.equal(detail.trust.updates, 2);
  assert.ok(
    Math.abs(detail.trust_score - detail.trust.alpha / (detail.trust.alpha + detail.trust.beta)) < 1e-9,
  );
  assert.deepEqual(
    detail.pending_commands.map(({ name }: { name: string }) => name),
    ['update_tags', 'drain'],
  );
  assert.deepEqual(
    [detail.last_feedback.job_id, detail.last_feedback.outcome, detail.last_feedback.latency_ms],
    ['job-2', 'completed', 120],
  );
  assert.deepEqual(Object.keys(detail.scores), ['balanced', 'cheapest', 'fastest', 'trusted']);
  const { score, ...parts } = detail.scores.balanced;
  const weights = app.deps.config.strategies.balanced as unknown as Record<string, number>;
  const sum = Object.entries(parts as Record<string, number>).reduce(
    (total, [part, value]) => total + value * (weights[part] ?? 0),
    0,
  );
  assert.ok(Math.abs(score - sum) < 1e-9);
  assert.equal(parts.load, 1 / 3);

  await app.call('DELETE', '/v1/miners/detail-1/price-override', { headers: ADMIN });
  assert.deepEqual(
    [(await get('/v1/miners/detail-1')).price, (await get('/v1/miners/detail-1')).price_override],
    ['0.5', null],
  );
});

test('the scores of the detail are those that a match gives', async () => {
  const token = await app.register('scored-1', { capabilities: ['only-scored-1'] });
  await post('/v1/miners/heartbeat', { session_token: token, avg_latency_ms: 30 }, {});
  const { scores } = await get('/v1/miners/scored-1');
  for (const strategy of Object.keys(scores)) {
    const body = {
      job_id: 'job',
      requirements: { capabilities_any: ['only-scored-1'] },
      hints: { strategy },
    };
    const { candidates } = (await post('/v1/match', body, COORDINATOR)).json;
    assert.equal(candidates.length, 1);
    // The index keeps the part that no request changes in 1,024 steps; the reference price is up to 3 s old.
    assert.ok(
      Math.abs(candidates[0].score - scores[strategy].score) < 0.01,
      `${strategy}: ${candidates[0].score} ${scores[strategy].score}`,
    );
  }
});

test('what waits is bounded, what is unknown is 404', async () => {
  await app.register('bounded-1');
  const { commands_max_pending } = app.deps.config;
  for (let i = 0; i < commands_max_pending; i++)
    assert.equal((await post('/v1/miners/bounded-1/commands', { name: 'custom' })).status, 202);
  assert.equal((await post('/v1/miners/bounded-1/commands', { name: 'custom' })).status, 409);
  for (const path of ['commands', 'drain', 'resume']) {
    assert.equal((await post(`/v1/miners/nobody/${path}`, { name: 'custom' })).status, 404, path);
  }
  assert.equal((await app.call('GET', '/v1/miners/nobody', { headers: ADMIN })).status, 404);
  assert.equal((await app.call('DELETE', '/v1/miners/nobody', { headers: ADMIN })).status, 404);
  assert.equal(
    (await app.call('PUT', '/v1/miners/nobody/price-override', { headers: ADMIN, body: { price: 1 } }))
      .status,
    404,
  );
  assert.equal(
    (await app.call('DELETE', '/v1/miners/bounded-1/price-override', { headers: ADMIN })).status,
    404,
  );
  assert.equal(
    (await post('/v1/feedback', { job_id: 'j', miner_id: 'nobody', outcome: 'completed' }, COORDINATOR))
      .status,
    404,
  );
  assert.equal(
    (await post('/v1/match/explain', { job_id: 'j', miner_id: 'nobody' }, COORDINATOR)).status,
    404,
  );
  assert.equal(
    (await post('/v1/reservations/0.AAAAAAAAAAAAAAAAAAAAAA/confirm', undefined, COORDINATOR)).status,
    404,
  );
});

test('the arguments of a command keep every key, tags as an object lose none', async () => {
  await app.register('keys-1');
  const args = JSON.parse('{"constructor":1,"__proto__":{"x":2},"prototype":3,"plain":4}');
  await post('/v1/miners/keys-1/commands', { name: 'custom', args });
  const { pending_commands: pending } = await get('/v1/miners/keys-1');
  assert.deepEqual(pending[0].args, args);
  assert.equal((await post('/v1/miners/keys-1/commands', { name: 'drain', args })).status, 422);

  const token = await app.register('keys-2', { tags: { constructor: 'x', plain: 'y' } });
  assert.deepEqual((await get('/v1/miners/keys-2')).tags.sort(), ['constructor:x', 'plain:y']);
  for (const tags of [{ a: 'x'.repeat(64) }, { a: ['b'] }, ['x'.repeat(65)]]) {
    const refusal = await post('/v1/miners/update', { session_token: token, tags }, {});
    assert.equal(refusal.status, 422, JSON.stringify(tags));
  }
});

test('an update moves region and accel with tags and capabilities, unless the miner named them', async () => {
  const update = async (session_token: string, change: object) =>
    assert.equal((await post('/v1/miners/update', { session_token, ...change }, {})).status, 200);
  const shown = async (id: string) => {
    const { region, accel } = await get(`/v1/miners/${id}`);
    return [region, accel];
  };
  const token = await app.register('follows-1', { tags: ['region:eu'], region: undefined });
  assert.deepEqual(await shown('follows-1'), ['eu', ['cuda']]);
  const changes = [{ tags: ['region:us', 'accel:rocm'] }, { capabilities: ['vulkan'] }];
  await Promise.all(changes.map((change) => update(token, change)));
  assert.deepEqual(await shown('follows-1'), ['us', ['rocm', 'vulkan']], 'both, whichever came first');
  await update(token, { tags: [] });
  assert.deepEqual(await shown('follows-1'), ['global', ['vulkan']]);
  const named = await app.register('named-1', { accel: ['opencl'] });
  await update(named, { tags: ['region:us', 'accel:rocm'], capabilities: ['vulkan'] });
  assert.deepEqual(await shown('named-1'), ['eu-west-1', ['opencl']]);
});

test('registering the same profile again begins without jobs, and a heartbeat is of the miner that it names', async () => {
  const beat = (session_token: string, more: object) =>
    post('/v1/miners/heartbeat', { session_token, ...more }, {});
  await beat(await app.register('again-1'), { queue_len: 2, current_jobs: ['a', 'b'] });
  const token = await app.register('again-1');
  const { queue_len, current_jobs } = await get('/v1/miners/again-1');
  assert.deepEqual([queue_len, current_jobs], [0, 0]);
  assert.equal((await beat(token, { miner_id: 'again-1' })).status, 200);
  const refused = await beat(token, { miner_id: 'detail-1' });
  assert.deepEqual([refused.status, refused.json.error.details[0].path], [422, 'miner_id']);
});

test('a price override ends on an existing day that is to come', async () => {
  await app.register('override-1');
  const put = (expires_at: string) =>
    app.call('PUT', '/v1/miners/override-1/price-override', {
      headers: ADMIN,
      body: { price: 1, expires_at },
    });
  const year = new Date().getUTCFullYear() + 1;
  assert.equal((await put('2020-01-01T00:00:00Z')).status, 422);
  assert.equal((await put(`${year}-02-30T00:00:00Z`)).status, 422);
  assert.equal((await get('/v1/miners/override-1')).price_override, null);
  assert.equal((await put(`${year}-02-28T00:00:00Z`)).status, 200);
});

test('a command that is known is checked, and a removed miner is gone', async () => {
  await app.register('removed-1');
  assert.equal(
    (await post('/v1/miners/removed-1/commands', { name: 'set_price_cap', args: { cap: 'a lot' } })).status,
    422,
  );
  assert.equal((await app.call('DELETE', '/v1/miners/removed-1', { headers: ADMIN })).status, 200);
  assert.equal((await app.call('GET', '/v1/miners/removed-1', { headers: ADMIN })).status, 404);
});

test('matches are counted by result, and empty ones by the clause to blame', async () => {
  await app.register('counted-1', { capabilities: ['only-counted-1'], gpu_vram: 16 });
  const requirements = { capabilities_any: ['only-counted-1'] };
  const match = (more: object, hints: object = {}) =>
    post('/v1/match', { job_id: 'job', requirements: { ...requirements, ...more }, hints }, COORDINATOR);
  assert.equal((await match({})).json.candidates.length, 1);
  const empty = (await match({ min_vram_gb: 80 })).json;
  assert.deepEqual(empty.candidates, []);
  assert.match(empty.explain, /min_vram_gb/);
  const unknown = await match({}, { strategy: 'bold' });
  assert.equal(unknown.status, 422);
  assert.equal(unknown.json.error.details[0].path, 'hints.strategy');
  const { text } = await app.call('GET', '/metrics');
  assert.match(text, /poolhub_match_requests_total\{result="matched"\} [1-9]/);
  assert.match(text, /poolhub_match_requests_total\{result="empty"\} [1-9]/);
  assert.match(text, /poolhub_match_rejections_total\{clause="min_vram_gb"\} [1-9]/);
  assert.doesNotMatch(text, /counted-1/, 'no miner id is ever a label');
});

test('a place may be confirmed again, but not released after', async () => {
  await app.register('held-1', { capabilities: ['only-held-1'] });
  const body = {
    job_id: 'job-held',
    requirements: { capabilities_any: ['only-held-1'] },
    reserve: { count: 1, ttl_ms: 60_000 },
  };
  const id = (await post('/v1/match', body, COORDINATOR)).json.candidates[0].reservation_id;
  assert.equal(
    (await post('/v1/match', body, COORDINATOR)).json.candidates[0].reservation_id,
    id,
    'the same job, the same place',
  );
  const end = (verb: string) => post(`/v1/reservations/${id}/${verb}`, undefined, COORDINATOR);
  assert.equal((await end('confirm')).status, 200);
  assert.equal((await end('confirm')).status, 200);
  const release = await end('release');
  assert.deepEqual([release.status, release.json.error.code], [409, 'conflict']);
});

test('a reservation longer than the setting allows is 422', async () => {
  const answer = await post(
    '/v1/match',
    { job_id: 'j', reserve: { count: 1, ttl_ms: app.deps.config.reservation_max_ttl_ms + 1 } },
    COORDINATOR,
  );
  assert.equal(answer.status, 422);
});
