import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import fc from 'fast-check';
import { startWorker } from '../../src/bin/worker.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { openReplica } from '../coordinator/replica.ts';
import { uniqueId } from '../durable/fleet.ts';
import { openApp, type TestApp } from '../hub/edge/app.ts';
import { harness, TEST_SECRETS } from '../support/harness.ts';
import { billedMiner, feedback, recordsOf, unitsOf } from './world.ts';

const h = await harness();
const headers = { 'X-Admin-Key': TEST_SECRETS.ADMIN_API_KEY };
let app: TestApp;

before(async () => {
  const coordinator = await openReplica(h);
  const settings = {
    COORDINATOR_BILLING_URL: coordinator.url,
    COORDINATOR_API_KEY: 'key-of-root',
    SHUTDOWN_TIMEOUT_SEC: '60',
    BILLING_PRICE_GPU_HOURS: '0.12345679',
  };
  app = await openApp(h, settings);
  const worker = await startWorker(app.deps.config, createLogger('silent', 'test'));
  h.cleanup(() => worker.stop());
});

const post = (path: string, body: object, more: Record<string, string> = {}) =>
  app.call('POST', `/sla/billing/${path}`, { headers: { ...headers, ...more }, body });

const period = () => ({
  period_start: new Date(Date.now() - 86_400_000).toISOString(),
  period_end: new Date(Date.now() + 60_000).toISOString(),
});

test('property: the records of a tenant add up to its invoice, to the eighth decimal', {
  timeout: 120_000,
}, async () => {
  const job = fc.record({
    latencyMs: fc.double({ min: 0, max: 86_400_000, noNaN: true }),
    isAccepted: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(job, { minLength: 1, maxLength: 8 }), fc.nat(16), async (jobs, gpuCount) => {
      const tenantId = uniqueId('tenant');
      const id = await billedMiner(app.deps, { tenantId, gpuCount });
      // Never without anything to bill.
      await feedback(app.deps, id, 'accepted');
      for (const { latencyMs, isAccepted } of jobs) {
        if (isAccepted) await feedback(app.deps, id, 'accepted');
        await feedback(app.deps, id, 'completed', { latencyMs });
      }
      const answer = await post('invoice/generate', { tenant_id: tenantId, ...period() });
      assert.equal(answer.status, 200, answer.text);
      const records = await recordsOf(app.deps, id);
      const sum = records.reduce((total, record) => total + unitsOf(record.totalAmount), 0n);
      assert.equal(unitsOf(answer.json.total_amount), sum);
      const items = answer.json.line_items as { amount: string; records: number }[];
      assert.equal(
        items.reduce((total, { amount }) => total + unitsOf(amount), 0n),
        sum,
      );
      assert.equal(
        items.reduce((total, item) => total + item.records, 0),
        records.length,
      );
      const usage = await app.call('GET', `/sla/billing/usage?tenant_id=${tenantId}`, { headers });
      assert.equal(unitsOf(usage.json.total_amount), sum);
      assert.deepEqual(usage.json.sync, {
        sent: records.length,
        unsent: 0,
        failing: 0,
        refused: 0,
        last_error: null,
      });
    }),
    { numRuns: 8, endOnFailure: true },
  );
});

test('a reported use counts once under its key, and is billed', async () => {
  const tenant_id = uniqueId('tenant');
  const use = { tenant_id, resource_type: 'gpu_hours', quantity: 1.5, unit_price: '2', job_id: 'job 1' };
  const key = { 'Idempotency-Key': uniqueId('use') };
  const first = await post('usage/record', use, key);
  assert.equal(first.status, 200, first.text);
  assert.equal(first.json.duplicate, false);
  assert.equal(first.json.total_amount, '3');
  assert.deepEqual((await post('usage/record', use, key)).json, { ...first.json, duplicate: true });
  assert.equal((await post('usage/record', { ...use, quantity: 2 }, key)).status, 409);
  const synced = await post('sync', { hours_back: 1 });
  assert.equal(synced.status, 200, synced.text);
  assert.equal(synced.json.status, 'synced');
  const invoice = await post('invoice/generate', { tenant_id, ...period() });
  assert.equal(invoice.json.total_amount, '3');
  const again = await post('invoice/generate', { tenant_id: uniqueId('nobody'), ...period() });
  assert.equal(again.status, 404, again.text);
});

test('what cannot be stored or priced is refused', async () => {
  const use = { tenant_id: 'tenant-x', resource_type: 'tokens', quantity: '1' };
  for (const [body, path] of [
    [use, 'unit_price'],
    [{ ...use, unit_price: '-1' }, 'unit_price'],
    [{ ...use, quantity: '0.000000001', unit_price: '1' }, 'quantity'],
    [{ ...use, quantity: '999999999999', unit_price: '999999999999' }, 'quantity'],
    [{ ...use, unit_price: '1', metadata: { a: 'nul \u0000' } }, 'metadata'],
    [{ ...use, unit_price: '1', timestamp: '2026-13-01T00:00:00Z' }, 'timestamp'],
    [{ ...use, unit_price: '1', timestamp: '2026-02-30T00:00:00Z' }, 'timestamp'],
    // The coordinator would refuse it for good.
    [{ ...use, unit_price: '1', timestamp: '9999-12-31T00:00:00Z' }, 'timestamp'],
  ] as const) {
    const answer = await post('usage/record', body);
    assert.equal(answer.status, 422, answer.text);
    assert.equal(answer.json.error.details[0].path, path);
  }
  assert.equal((await post('usage/record', use, { 'Idempotency-Key': 'a b' })).status, 422);
});

test('the usage report sums by resource and names the ten largest tenants', async () => {
  const answer = await app.call('GET', '/v1/sla/billing/usage?hours=1', { headers });
  assert.equal(answer.status, 200, answer.text);
  const { by_resource, by_tenant, total_amount, records } = answer.json;
  const sumOf = (rows: { total_amount: string }[]) =>
    rows.reduce((total, row) => total + unitsOf(row.total_amount), 0n);
  assert.equal(sumOf(by_resource), unitsOf(total_amount));
  assert.ok(by_tenant.length <= 10 && sumOf(by_tenant) <= unitsOf(total_amount));
  assert.ok(records > 0);
  const nobody = await app.call('GET', '/sla/billing/usage?tenant_id=nobody', { headers });
  assert.deepEqual([nobody.json.records, nobody.json.total_amount, nobody.json.by_resource], [0, '0', []]);
});
