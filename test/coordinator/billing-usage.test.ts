import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import { billingRoutes } from '../../src/coordinator/billing/routes.ts';
import { harness } from '../support/harness.ts';
import { CLIENT, OPERATOR, openRoutes } from './settlement-app.ts';

const h = await harness();
const app = await openRoutes(h, {}, billingRoutes);

const USE = {
  tenant_id: 'tenant-1',
  event_type: 'usage',
  resource_type: 'gpu_hours',
  quantity: '1.25',
  unit_price: '0.5',
  total_amount: '0.625',
  currency: 'USD',
  timestamp: '2026-01-31T12:00:00Z',
  metadata: { miner_id: 'm' },
};

const post = (body: unknown, key?: string) =>
  app.call('POST', '/api/billing/usage', {
    body,
    headers: { ...OPERATOR, ...(key === undefined ? {} : { 'Idempotency-Key': key }) },
  });

const stored = (id: string) =>
  app.db.run((orm) =>
    orm.execute(
      sql`select quantity, unit_price, total_amount, used_at, metadata from coordinator.usage_records where id = ${id}`,
    ),
  );

test('a record is taken once for its key', async () => {
  const key = randomUUID();
  const first = await post(USE, key);
  assert.deepEqual(first.json, {
    status: 'ok',
    id: key,
    duplicate: false,
    tenant_id: 'tenant-1',
    total_amount: '0.625',
    currency: 'USD',
  });
  const again = await post(USE, key);
  assert.deepEqual([again.status, again.json.duplicate], [200, true]);
  const reordered = '{"version":1,"miner_id":"m"}';
  const use = (metadata: string) => JSON.stringify({ ...USE, metadata: '?' }).replace('"?"', metadata);
  assert.equal((await post(use('{"miner_id":"m","version":1}'), 'ordered')).status, 200);
  assert.equal(
    (await post(use(reordered), 'ordered')).json.duplicate,
    true,
    'the order of keys means nothing',
  );
  assert.equal((await post(use(reordered.replace('1', '1.0')), 'ordered')).status, 409, 'their numbers do');
  const inBody = await post({ ...USE, record_id: key });
  assert.deepEqual([inBody.status, inBody.json.duplicate], [200, true]);
  const other = await post({ ...USE, quantity: '2.5', total_amount: '1.25' }, key);
  assert.deepEqual([other.status, other.json.error.code], [409, 'conflict']);
  assert.equal((await stored(key)).length, 1);
});

test('the same record at the same moment from several senders is taken once', async () => {
  const key = randomUUID();
  const answers = await Promise.all(Array.from({ length: 10 }, () => post(USE, key)));
  assert.ok(answers.every(({ status }) => status === 200));
  assert.equal(answers.filter(({ json }) => !json.duplicate).length, 1);
});

test('without a key the same body is the same record', async () => {
  const use = { ...USE, tenant_id: 'keyless' };
  const first = await post(use);
  const again = await post(use);
  const later = await post({ ...use, timestamp: '2026-01-31T12:00:00.001Z' });
  assert.deepEqual([first.json.duplicate, again.json.duplicate, later.json.duplicate], [false, true, false]);
  assert.equal(first.json.id, again.json.id);
});

test('numbers count by their digits, not as doubles', async () => {
  const key = randomUUID();
  const body = `{"tenant_id":"tenant-1","resource_type":"compute_hours","quantity":123456789.12345678,
    "unit_price":1E0,"timestamp":"2026-01-31T12:00:00","metadata":{"n":1.0}}`;
  const { status, json } = await post(body, key);
  assert.deepEqual([status, json.total_amount], [200, '123456789.12345678']);
  const [row] = await stored(key);
  assert.deepEqual([row?.quantity, row?.metadata], ['123456789.12345678', '{"n":1.0}']);
  assert.equal(new Date(row?.used_at as string).toISOString(), '2026-01-31T12:00:00.000Z');
  // The same in strings is the same record.
  const again = await post(
    { ...JSON.parse(body), quantity: '123456789.12345678', unit_price: '1', metadata: undefined },
    randomUUID(),
  );
  assert.equal(again.json.total_amount, '123456789.12345678');
});

const REFUSED: ReadonlyArray<readonly [change: Record<string, unknown>, path: string]> = [
  [{ quantity: '-1' }, 'quantity'],
  [{ quantity: -1 }, 'quantity'],
  [{ quantity: '1.123456789' }, 'quantity'],
  [{ quantity: 1e12 }, 'quantity'],
  [{ quantity: null }, 'quantity'],
  [{ total_amount: '0.7' }, 'total_amount'],
  [{ quantity: '999999999999', unit_price: '10', total_amount: undefined }, 'total_amount'],
  [{ tenant_id: '' }, 'tenant_id'],
  [{ tenant_id: 'a\u0000b' }, 'tenant_id'],
  [{ resource_type: 'GPU hours' }, 'resource_type'],
  [{ timestamp: 'yesterday' }, 'timestamp'],
  [{ timestamp: '2026-02-31T99:00:00Z' }, 'timestamp'],
  [{ timestamp: '2026-02-30T12:00:00Z' }, 'timestamp'],
  [{ timestamp: '1800-01-01' }, 'timestamp'],
  [{ timestamp: undefined }, 'timestamp'],
  [{ metadata: [] }, 'metadata'],
  [{ metadata: { a: 'x'.repeat(20_000) } }, 'metadata'],
  [{ event_type: 'gift' }, 'event_type'],
  [{ surprise: 1 }, 'surprise'],
  [{ id: 'job:1' }, 'id'],
  [{ id: 'content:1' }, 'id'],
];

for (const [change, path] of REFUSED) {
  test(`a record with ${JSON.stringify(change).slice(0, 60)} is refused`, async () => {
    const { status, json } = await post({ ...USE, ...change });
    assert.equal(status, 422);
    assert.ok(
      json.error.details.some(
        (detail: { path: string }) => detail.path === path || detail.path.startsWith(`${path}.`),
      ),
      JSON.stringify(json.error.details),
    );
  });
}

test('bodies and keys that are none', async () => {
  assert.equal((await post('{')).status, 400);
  assert.equal((await post('[]')).status, 422);
  assert.equal((await post(`{"a":${'['.repeat(60)}${']'.repeat(60)}}`)).status, 400);
  assert.equal((await post(USE, 'a b')).status, 422);
  assert.equal((await post({ ...USE, id: 'a' }, 'b')).status, 422);
  const asClient = await app.call('POST', '/api/billing/usage', { body: USE, headers: CLIENT });
  assert.equal(asClient.status, 403);
});

test('a plan limits a month of a resource, to the last decimal, however many records come at once', async () => {
  const put = (path: string, body: unknown) =>
    app.call('PUT', `/api/billing/${path}`, { body, headers: OPERATOR });
  const use = { ...USE, tenant_id: 'planned', quantity: '1', total_amount: '0.5' };
  await post(use, 'planned-0');
  assert.equal((await put('tenants/planned', { plan: 'none-such' })).status, 404);
  assert.equal((await put('plans/small', { limits: { gpu_hours: '10.5', api_calls: 3 } })).status, 200);
  assert.equal((await put('tenants/planned', { plan: 'small' })).json.plan, 'small');

  const ids = Array.from({ length: 20 }, (_, i) => `planned-${i + 1}`);
  const answers = await Promise.all(ids.map((id) => post(use, id)));
  const taken = answers.filter(({ status }) => status === 200);
  const refused = answers.filter(({ status }) => status === 429);
  assert.deepEqual([taken.length, refused.length], [9, 11]);
  assert.ok(
    refused.every(({ json, headers }) => json.error.code === 'quota_exceeded' && headers.get('Retry-After')),
  );
  // What was taken may be sent again; what is left fits exactly.
  assert.equal((await post(use, taken[0]?.json.id)).json.duplicate, true);
  assert.equal((await post({ ...use, quantity: '0.50000001', total_amount: '0.25' }, 'over')).status, 429);
  assert.equal((await post({ ...use, quantity: '0.5', total_amount: '0.25' }, 'fits')).status, 200);
  // Another month, another resource and another tenant have room.
  for (const change of [
    { timestamp: '2026-02-01T00:00:00Z' },
    { resource_type: 'compute_hours' },
    { tenant_id: 'unplanned' },
  ])
    assert.equal((await post({ ...use, ...change }, randomUUID())).status, 200);
  // A larger plan lets the refused one in, and the count goes on from the records.
  await put('plans/small', { limits: { gpu_hours: '11' } });
  const retried = answers.findIndex(({ status }) => status === 429);
  assert.equal((await post({ ...use, quantity: '0.5', total_amount: '0.25' }, ids[retried])).status, 200);
  assert.equal(
    (await post({ ...use, quantity: '0.00000001', total_amount: '0.00000001' }, 'over')).status,
    429,
  );
  await put('tenants/planned', { plan: null });
  assert.equal((await post(use, 'free')).status, 200);
  const view = await app.call('GET', '/api/billing/tenants/planned', { headers: OPERATOR });
  assert.deepEqual([view.json.plan, view.json.limits], [null, []]);
});

test('a tenant sees its plan and what of it is used this month', async () => {
  const headers = OPERATOR;
  await app.call('PUT', '/api/billing/plans/mini', {
    body: { limits: { gpu_hours: 5, jobs: '2' } },
    headers,
  });
  await app.call('PUT', '/api/billing/tenants/seen', { body: { plan: 'mini' }, headers });
  const timestamp = new Date().toISOString();
  await post({ ...USE, tenant_id: 'seen', timestamp }, randomUUID());
  const { json } = await app.call('GET', '/api/billing/tenants/seen', { headers });
  assert.deepEqual(json, {
    tenant_id: 'seen',
    plan: 'mini',
    month: `${timestamp.slice(0, 7)}-01`,
    limits: [
      { resource_type: 'gpu_hours', limit: '5', used: '1.25' },
      { resource_type: 'jobs', limit: '2', used: '0' },
    ],
  });
  for (const limits of [{}, { 'a b': 1 }, { jobs: -1 }, null])
    assert.equal(
      (await app.call('PUT', '/api/billing/plans/mini', { body: { limits }, headers })).status,
      422,
    );
});
