import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import { createSigner } from '../../src/coordinator/receipts/ed25519.ts';
import { checkReceipt } from '../../src/coordinator/receipts/verify.ts';
import { openMoney } from '../../src/coordinator/settlement/effects.ts';
import { harness } from '../support/harness.ts';
import {
  complete,
  count,
  insertRunning,
  jobOf,
  OTHER_SEED,
  openDatabase,
  outcomeOf,
  SIGNING_SEED,
} from './settlement-world.ts';

const h = await harness();
const db = await openDatabase(h);
const money = openMoney({
  receipt_signing_key_hex: SIGNING_SEED,
  receipt_attestation_key_hex: OTHER_SEED,
  settlement_driver: 'rpc',
});
const unsigned = openMoney({
  receipt_signing_key_hex: undefined,
  receipt_attestation_key_hex: undefined,
  settlement_driver: 'none',
});
const ownKeys = [createSigner(SIGNING_SEED).keyId, createSigner(OTHER_SEED).keyId];

test('a completion writes a receipt, what is owed and a use, with the texts as they came', async () => {
  const job = jobOf();
  const text = await db.run(async (orm) => {
    await insertRunning(orm, job);
    return complete(orm, money, job);
  });
  assert.ok(typeof text === 'string');
  assert.ok(text.includes('"units":1.90,') && text.includes('"price":0.00001,'), text);
  assert.ok(text.includes('"job_payload":{"task":"echo","x":1.0},'), text);
  assert.ok(text.includes('"result":{"ok":true,"n":1e16}'), text);
  const receipt = JSON.parse(text);
  assert.match(receipt.receipt_id, /^[0-9a-f]{32}$/);
  assert.deepEqual(
    [receipt.version, receipt.job_id, receipt.provider, receipt.client, receipt.unit_type],
    ['1.0', job.jobId, 'miner-1', 'client-1', 'gpu_seconds'],
  );
  assert.deepEqual([receipt.started_at, receipt.completed_at], [1767607200, 1767607202]);
  const checked = checkReceipt(text, (keyId) => ownKeys.includes(keyId));
  assert.deepEqual(checked.problems, []);
  assert.equal(checked.attestations.length, 1);

  const [stored] = await db.run((orm) =>
    orm.execute(sql`select r.body, s.amount, s.state, s.buyer, s.provider, u.quantity, u.total_amount, u.tenant_id, u.currency
      from coordinator.receipts r join coordinator.settlements s using (job_id) join coordinator.usage_records u using (job_id)
      where job_id = ${job.jobId}`),
  );
  assert.deepEqual(stored, {
    body: text,
    amount: '4.20000000',
    state: 'pending',
    buyer: 'client-1',
    provider: 'miner-1',
    quantity: '1.00000000',
    total_amount: '4.20000000',
    tenant_id: 'client-1',
    currency: 'USD',
  });
});

test('deliveries at the same moment complete a job once, and write once', async () => {
  const job = jobOf();
  await db.run((orm) => insertRunning(orm, job));
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => db.run((orm) => complete(orm, money, job))),
  );
  assert.equal(answers.filter((answer) => answer !== undefined).length, 1);
  for (const table of ['receipts', 'settlements', 'usage_records'])
    assert.equal(await db.run((orm) => count(orm, table, job.jobId)), 1, table);
});

test('what is not completed writes nothing', async () => {
  const job = jobOf();
  assert.equal(await db.run((orm) => complete(orm, money, job)), undefined);
  for (const table of ['receipts', 'settlements', 'usage_records'])
    assert.equal(await db.run((orm) => count(orm, table, job.jobId)), 0, table);
});

test('a statement that fails at its last insert leaves the job running', async () => {
  const job = jobOf();
  await db.run((orm) => insertRunning(orm, job));
  await db.run((orm) =>
    orm.execute(sql`insert into coordinator.usage_records (id, tenant_id, resource_type, quantity, unit_price, total_amount,
      currency, digest, used_at) values (${`job:${job.jobId}`}, 't', 'r', 1, 1, 1, 'USD', 'd', now())`),
  );
  await assert.rejects(db.run((orm) => complete(orm, money, job)));
  assert.equal(await db.run((orm) => count(orm, 'receipts', job.jobId)), 0);
  const [row] = await db.run((orm) =>
    orm.execute(sql`select state from coordinator.jobs where job_id = ${job.jobId}`),
  );
  assert.equal(row?.state, 'RUNNING');
});

test('without a key there is no receipt; without an offer nothing is owed', async () => {
  const job = jobOf({ paymentAmount: null, paymentCurrency: null });
  const text = await db.run(async (orm) => {
    await insertRunning(orm, job);
    return complete(orm, unsigned, job);
  });
  assert.equal(text, null);
  const [row] = await db.run((orm) =>
    orm.execute(sql`select s.state, s.amount, u.total_amount, u.currency from coordinator.settlements s
      join coordinator.usage_records u using (job_id) where job_id = ${job.jobId}`),
  );
  assert.deepEqual(row, { state: 'kept', amount: '0.00000000', total_amount: '0.00000000', currency: 'USD' });
  const owing = jobOf({ paymentAmount: '0.00' });
  await db.run(async (orm) => {
    await insertRunning(orm, owing);
    await complete(orm, money, owing);
  });
  const [kept] = await db.run((orm) =>
    orm.execute(sql`select state from coordinator.settlements where job_id = ${owing.jobId}`),
  );
  assert.equal(kept?.state, 'kept');
});

/** Terms come from the metrics, then the result, then the clock. */
const TERMS: ReadonlyArray<
  readonly [metrics: string | null, result: string, units: string, unitType: string, price: string]
> = [
  ['{"units":3,"unit_type":"tokens","price":"0.50"}', '{"units":9}', '3', 'tokens', '"0.50"'],
  ['{"units":"3","price":true}', '{"units":9.0,"unit_type":"images","price":1E1}', '9.0', 'images', '1E1'],
  [null, '{}', '2.5', 'gpu_seconds', 'null'],
  ['{"unit_type":"","price":"free"}', '{"units":null}', '2.5', 'gpu_seconds', 'null'],
];

for (const [metricsText, resultText, units, unitType, price] of TERMS) {
  test(`terms of metrics ${metricsText} and result ${resultText}`, async () => {
    const job = jobOf();
    const text = await db.run(async (orm) => {
      await insertRunning(orm, job);
      return complete(orm, money, job, outcomeOf({ metricsText, resultText }));
    });
    assert.ok(text?.includes(`"units":${units},"unit_type":"${unitType}","price":${price},`), text ?? '');
  });
}

test('completed jobs count against a plan that limits jobs, exactly', async () => {
  const before = jobOf({ clientId: 'limited' });
  await db.run(async (orm) => {
    await insertRunning(orm, before);
    await complete(orm, money, before);
    await orm.execute(sql`insert into coordinator.plan_limits values ('small', 'jobs', 6)`);
    await orm.execute(sql`insert into coordinator.tenants (tenant_id, plan) values ('limited', 'small')`);
  });
  const jobs = Array.from({ length: 4 }, () => jobOf({ clientId: 'limited' }));
  for (const job of jobs) await db.run((orm) => insertRunning(orm, job));
  await Promise.all(jobs.map((job) => db.run((orm) => complete(orm, money, job))));
  const used = async () => {
    const rows = await db.run((orm) =>
      orm.execute(sql`select used from coordinator.quota_use where tenant_id = 'limited'`),
    );
    return rows.map((row) => row.used);
  };
  assert.deepEqual(await used(), ['5.00000000']);
  // What was done is counted, past the plan too.
  for (const job of [jobOf({ clientId: 'limited' }), jobOf({ clientId: 'limited' })])
    await db.run(async (orm) => {
      await insertRunning(orm, job);
      assert.notEqual(await complete(orm, money, job), undefined);
    });
  assert.deepEqual(await used(), ['7.00000000']);
});
