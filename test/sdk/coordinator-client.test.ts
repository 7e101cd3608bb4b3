import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { CoordinatorClient } from '../../src/sdk/coordinator-client.ts';
import { HubError } from '../../src/sdk/errors.ts';
import { openReplica, type Replica } from '../coordinator/replica.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';

const h = await harness();
let replica: Replica;
let alice: CoordinatorClient;
let root: CoordinatorClient;

const clientOf = (apiKey: string, more: { minerId?: string; sign?: boolean } = {}) =>
  new CoordinatorClient({ urls: [replica.url], apiKey, ...more });
const minerOf = (minerId: string) => clientOf('key-of-any-miner', { minerId });

before(async () => {
  replica = await openReplica(h, { RECEIPT_SIGNING_KEY_HEX: '22'.repeat(32) });
  alice = clientOf('key-of-alice');
  root = clientOf('key-of-root');
});

const failsWith = (code: HubError['code']) => (error: unknown) =>
  error instanceof HubError && error.code === code;

test('a job from its submission to its receipt', async () => {
  const miner = minerOf('whole');
  const session = await miner.registerMiner({ capabilities: {}, region: 'whole' });
  const request = { payload: { type: 'echo' }, constraints: { region: 'whole' } };
  const job = await alice.submit(request, { idempotencyKey: 'whole-1' });
  assert.equal((await alice.submit(request, { idempotencyKey: 'whole-1' })).job_id, job.job_id);
  await assert.rejects(alice.getResult(job.job_id), failsWith('not_ready'));
  const assigned = await miner.poll(session, 5);
  assert.deepEqual([assigned?.job_id, assigned?.payload], [job.job_id, { type: 'echo' }]);
  assert.equal((await miner.beat(session, { inflight: 1 })).miner_status, 'ONLINE');
  assert.equal((await miner.deliver(session, job.job_id, { result: { text: 'hello' } })).status, 'ok');
  await assert.rejects(miner.deliver(session, job.job_id, { result: {} }), failsWith('conflict'));
  const { result, receipt } = await alice.getResult(job.job_id);
  assert.deepEqual(result, { text: 'hello' });
  assert.deepEqual(JSON.parse(await alice.receiptText(job.job_id)), receipt);
  assert.equal((await alice.listReceipts(job.job_id)).items.length, 1);
  assert.equal((await alice.receiptKeys()).keys[0]?.current, true);
  assert.equal((await alice.getJob(job.job_id)).state, 'COMPLETED');
});

test('a poll without a job is undefined, and a poll is held for longer than other calls may take', async () => {
  const miner = new CoordinatorClient({
    urls: [replica.url],
    apiKey: 'key-of-any-miner',
    minerId: 'idle',
    timeoutMs: 300,
  });
  const session = await miner.registerMiner({ capabilities: {}, region: 'idle' });
  assert.equal(await miner.poll(session, 0), undefined);
  const held = miner.poll(session, 20);
  await waitFor(async () => /"polls_held":1/.test((await replica.call('GET', '/v1/health')).text));
  const late = AbortSignal.timeout(600);
  await new Promise((resolve) => late.addEventListener('abort', resolve, { once: true }));
  const job = await alice.submit({ payload: {}, constraints: { region: 'idle' } });
  assert.equal((await held)?.job_id, job.job_id);
  await miner.fail(session, job.job_id, { error_code: 'broken', error_message: 'no' });
  assert.equal((await alice.getJob(job.job_id)).error?.code, 'broken');
});

test('a poll that is given up leaves the job to others', async () => {
  const miner = minerOf('leaver');
  const session = await miner.registerMiner({ capabilities: {}, region: 'leaver' });
  const leaving = new AbortController();
  const held = miner.poll(session, 20, { signal: leaving.signal });
  leaving.abort();
  await assert.rejects(held, { name: 'AbortError' });
  assert.equal((await miner.drainMiner(session)).miner_status, 'DRAINING');
  const job = await alice.submit({ payload: {}, constraints: { region: 'leaver' } });
  assert.equal(await miner.poll(session, 0), undefined);
  assert.equal((await alice.cancel(job.job_id)).state, 'CANCELED');
  await assert.rejects(alice.cancel(job.job_id), failsWith('conflict'));
});

test('signed calls are taken, however fast they follow each other', async () => {
  const signing = clientOf('key-of-bob', { sign: true });
  const request = { payload: { n: 1 }, constraints: { region: 'signed' } };
  const jobs = await Promise.all(Array.from({ length: 20 }, () => signing.submit(request)));
  assert.equal(new Set(jobs.map(({ job_id }) => job_id)).size, 20);
  const page = await signing.listJobs({ limit: '15' });
  assert.equal(page.items.length, 15);
  assert.equal((await signing.listJobs({ cursor: page.next_cursor })).items.length, 5);
});

test('the calls of an administrator', async () => {
  const stats = await root.stats();
  assert.equal(typeof stats.total_jobs, 'number');
  assert.ok((await root.listMiners({ status: 'ONLINE' })).items.length >= 0);
  assert.deepEqual((await root.listAllJobs({ client_id: 'nobody' })).items, []);
  assert.ok(Array.isArray((await root.listSettlements({ limit: '1' })).items));
  await assert.rejects(alice.stats(), failsWith('forbidden'));
});

test('usage, plan, metrics and invoice of a tenant', async () => {
  const record = {
    tenant_id: 'sdk tenant',
    resource_type: 'gpu_hours',
    quantity: '2',
    unit_price: '0.5',
    timestamp: new Date().toISOString(),
  };
  assert.equal((await root.recordUsage('sdk-1', record)).duplicate, false);
  assert.equal((await root.recordUsage('sdk-1', record)).duplicate, true);
  const metrics = await root.billingMetrics({ tenant_id: 'sdk tenant' });
  assert.deepEqual([metrics.totals.records, metrics.totals.cost], [1, '1']);
  const period = {
    tenant_id: 'sdk tenant',
    period_start: new Date(Date.now() - 3_600_000).toISOString(),
    period_end: new Date(Date.now() + 3_600_000).toISOString(),
  };
  const invoice = await root.invoice(period);
  assert.equal(invoice.total_amount, '1');
  assert.equal((await root.invoice(period)).invoice_number, invoice.invoice_number);
  await root.setPlan('sdk-plan', { gpu_hours: '100' });
  await root.setTenantPlan('sdk tenant', 'sdk-plan');
  assert.equal((await root.getTenant('sdk tenant')).plan, 'sdk-plan');
});
