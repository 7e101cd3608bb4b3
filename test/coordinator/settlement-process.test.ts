import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { ALICE, asMiner, callsTo, type Replica, ROOT, register, replicaEnv, submit } from './replica.ts';
import { answer, startNode } from './settlement-node.ts';
import { OTHER_SEED, openDatabase, SIGNING_SEED } from './settlement-world.ts';

const h = await harness();
const db = await openDatabase(h);
const node = await startNode(h);

async function startCoordinatorProcess(): Promise<Replica & { kill(): Promise<void> }> {
  const env = await replicaEnv(h, {
    LOG_LEVEL: 'info',
    RECEIPT_SIGNING_KEY_HEX: SIGNING_SEED,
    RECEIPT_ATTESTATION_KEY_HEX: OTHER_SEED,
    SETTLEMENT_DRIVER: 'rpc',
    SETTLEMENT_RPC_URL: node.url,
    SETTLEMENT_RPC_TIMEOUT_MS: '60000',
  });
  const started = await h.startProcess('src/bin/coordinator.ts', {
    env,
    ready: /"url":"([^"]+)","msg":"listening"/,
  });
  const url = started.ready[1] as string;
  return {
    url,
    call: callsTo(url),
    stop: async () => void (await started.stop()),
    kill: async () => {
      started.signal('SIGKILL');
      await started.exited;
    },
  };
}

const settlementOf = async (replica: Replica, jobId: string) => {
  const { json } = await replica.call('GET', '/v1/admin/settlements', { headers: ROOT });
  return json.items.find((item: { job_id: string }) => item.job_id === jobId);
};

test('a coordinator that is killed in the middle of a payment: the next one pays, once', {
  timeout: 120_000,
}, async () => {
  let isHanging = true;
  node.misbehave((call, response, accept) => {
    // The node does what it is told, and the coordinator does not live to hear of it.
    const [status, body] = accept();
    if (call.step !== 'release' || !isHanging) answer(response, status, body);
  });

  const first = await startCoordinatorProcess();
  await register(first, 'miner-1');
  const jobId = await submit(first, { payload: { z: 1 }, payment_amount: '2.50', payment_currency: 'USD' });
  const polled = await first.call('POST', '/v1/miners/poll', {
    headers: asMiner('miner-1'),
    body: { max_wait_seconds: 5 },
  });
  assert.equal(polled.json?.job_id, jobId);
  const body = '{"result":{"n":1.0,"big":12345678901234567890},"metrics":{"units":1.90}}';
  const delivered = await first.call('POST', `/v1/miners/${jobId}/result`, {
    headers: asMiner('miner-1'),
    body,
  });
  assert.equal(delivered.status, 200, delivered.text);
  assert.ok(delivered.text.includes('"big":12345678901234567890'), delivered.text);
  await waitFor(() => node.escrows.get(jobId) === 'released', { what: 'the release reaches the node' });
  await first.kill();

  isHanging = false;
  await db.run((orm) => orm.execute(sql`update coordinator.settlements set due_at = now()`));
  const second = await startCoordinatorProcess();
  await waitFor(async () => (await settlementOf(second, jobId))?.state === 'released', {
    what: 'the settlement',
  });
  assert.deepEqual([node.moves.get(`${jobId}:create`), node.moves.get(`${jobId}:release`)], [1, 1]);

  // What the job has left behind is whole: a receipt that verifies, and one line on the invoice.
  const receipt = await second.call('GET', `/v1/jobs/${jobId}/receipt`, { headers: ALICE });
  assert.ok(receipt.text.includes('"units":1.90') && receipt.text.includes('"n":1.0'), receipt.text);
  const verified = await second.call('POST', '/v1/receipts/verify', { headers: ALICE, body: receipt.text });
  assert.deepEqual(verified.json.problems, []);
  const period = { period_start: '2020-01-01', period_end: '2190-01-01' };
  const invoice = await second.call('POST', '/api/billing/invoice', {
    headers: ROOT,
    body: { tenant_id: 'alice', ...period },
  });
  assert.deepEqual(
    [invoice.json.total_amount, invoice.json.line_items],
    ['2.5', [{ resource_type: 'jobs', quantity: '1', unit_price: '2.5', amount: '2.5', records: 1 }]],
  );
  const metrics = await second.call('GET', '/metrics');
  assert.match(metrics.text, /coordinator_settlements\{state="pending"\} 0/);
  await second.stop();
});
