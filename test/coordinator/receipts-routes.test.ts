import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSigner } from '../../src/coordinator/receipts/ed25519.ts';
import { signReceipt } from '../../src/coordinator/receipts/receipt.ts';
import { receiptRoutes } from '../../src/coordinator/receipts/routes.ts';
import { openMoney } from '../../src/coordinator/settlement/effects.ts';
import { harness } from '../support/harness.ts';
import { CLIENT, OPERATOR, OTHER_CLIENT, openRoutes } from './settlement-app.ts';
import { complete, insertRunning, jobOf, OTHER_SEED, outcomeOf, SIGNING_SEED } from './settlement-world.ts';

const NEW_SEED = '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb';

const h = await harness();
const app = await openRoutes(h, {}, receiptRoutes);

/** A nasty job: its texts change when they are parsed and written again. */
async function completed(money = app.money) {
  const job = jobOf({ payloadText: '{"z":1.0,"a":[1E400,null,{"\\ud800":-0}],"é":"\\u0000"}' });
  const outcome = outcomeOf({ resultText: '{"big":123456789012345678901234567890,"f":1.10}' });
  const text = await app.db.run(async (orm) => {
    await insertRunning(orm, job);
    return complete(orm, money, job, outcome);
  });
  assert.ok(typeof text === 'string');
  return { jobId: job.jobId, text };
}

const verify = (body: string) => app.call('POST', '/v1/receipts/verify', { body, headers: CLIENT });

test('a receipt comes back to the byte, and verifies as it came', async () => {
  const { jobId, text } = await completed();
  const answer = await app.call('GET', `/v1/jobs/${jobId}/receipt`, { headers: CLIENT });
  assert.equal(answer.status, 200);
  assert.equal(answer.text, text);
  assert.ok(answer.text.includes('123456789012345678901234567890') && answer.text.includes('1.10'));
  const checked = await verify(answer.text);
  assert.deepEqual(checked.json, {
    valid: true,
    receipt_id: answer.json.receipt_id,
    job_id: jobId,
    signature: { key_id: createSigner(SIGNING_SEED).keyId, valid: true, known: true },
    attestations: [{ key_id: createSigner(OTHER_SEED).keyId, valid: true, known: true }],
    problems: [],
  });
  // Blanks and order do not matter; a digit does.
  assert.equal((await verify(` ${answer.text.replace(',"provider"', ' , "provider"')} `)).json.valid, true);
  for (const changed of [
    answer.text.replace('"f":1.10', '"f":1.11'),
    answer.text.replace('901234567890', '901234567891'),
    answer.text.replace('"version":"1.0"', '"version":1.0'),
    answer.text.replace('{', '{"extra":0,'),
  ]) {
    const { json } = await verify(changed);
    assert.deepEqual([json.valid, json.signature.valid, json.problems.length], [false, false, 2]);
  }
});

test('history has the receipt of its job, in pages', async () => {
  const { jobId, text } = await completed();
  const page = await app.call('GET', `/v1/jobs/${jobId}/receipts?limit=1`, { headers: CLIENT });
  assert.equal(page.text, `{"items":[${text}]}`);
  const empty = await app.call('GET', `/v1/jobs/${jobId}/receipts?cursor=999999999`, { headers: CLIENT });
  assert.equal(empty.text, '{"items":[]}');
  for (const bad of ['limit=0', 'limit=x', 'cursor=-1', 'what=1']) {
    const refused = await app.call('GET', `/v1/jobs/${jobId}/receipts?${bad}`, { headers: CLIENT });
    assert.equal(refused.status, 422, bad);
  }
});

test("a receipt is its client's, and a job without one says so", async () => {
  const { jobId } = await completed();
  const waiting = jobOf();
  await app.db.run((orm) => insertRunning(orm, waiting));
  for (const [id, headers] of [
    [jobId, OTHER_CLIENT],
    ['0'.repeat(32), CLIENT],
  ] as const) {
    for (const what of ['receipt', 'receipts']) {
      const answer = await app.call('GET', `/v1/jobs/${id}/${what}`, { headers });
      assert.deepEqual([answer.status, answer.json.error.message], [404, 'no such job']);
    }
  }
  const none = await app.call('GET', `/v1/jobs/${waiting.jobId}/receipt`, { headers: CLIENT });
  assert.deepEqual([none.status, none.json.error.message], [404, 'the job has no receipt']);
  const list = await app.call('GET', `/v1/jobs/${waiting.jobId}/receipts`, { headers: CLIENT });
  assert.deepEqual(list.json, { items: [] });
  assert.equal((await app.call('GET', `/v1/jobs/${jobId}/receipt`)).status, 401);
  assert.equal((await app.call('GET', `/v1/jobs/${jobId}/receipt`, { headers: OPERATOR })).status, 403);
});

test('keys rotate: what an older key has signed still verifies, and strangers do not', async () => {
  const { text: old } = await completed();
  const rotated = await openRoutes(
    h,
    { RECEIPT_SIGNING_KEY_HEX: NEW_SEED, RECEIPT_ATTESTATION_KEY_HEX: '' },
    receiptRoutes,
  );
  const before = await rotated.call('GET', '/v1/receipts/keys');
  assert.deepEqual(
    before.json.keys.map((key: Record<string, unknown>) => [
      key.key_id,
      key.use,
      key.current,
      key.created_at === null,
    ]),
    [
      [createSigner(NEW_SEED).keyId, 'signing', true, true],
      [createSigner(SIGNING_SEED).keyId, 'signing', false, false],
      [createSigner(OTHER_SEED).keyId, 'attestation', false, false],
    ],
  );
  assert.match(before.json.keys[0].public_key_hex, /^[0-9a-f]{64}$/);
  const { text: young } = await completed(rotated.money);
  for (const text of [old, young]) {
    const { json } = await rotated.call('POST', '/v1/receipts/verify', { body: text, headers: CLIENT });
    assert.deepEqual(json.problems, []);
  }
  assert.equal(JSON.parse(young).attestations.length, 0);
  // The other replicas, still with the old key, know the new one from its first receipt on.
  assert.equal((await verify(young)).json.valid, true);

  const stranger = openMoney({
    receipt_signing_key_hex: 'ab'.repeat(32),
    receipt_attestation_key_hex: undefined,
    settlement_driver: 'none',
  });
  const { text: forged } = completedElsewhere(stranger);
  const { json } = await verify(forged);
  assert.deepEqual([json.valid, json.signature.valid, json.signature.known], [false, true, false]);
  assert.deepEqual(json.problems, ['the signing key is not known']);
});

/** Signs with keys that this database never saw. */
function completedElsewhere(money: ReturnType<typeof openMoney>) {
  assert.ok(money.signers !== undefined);
  return signReceipt(money.signers, jobOf(), outcomeOf());
}

test('whatever is asked about gets an answer', async () => {
  const signature = { alg: 'Ed25519', key_id: 'A'.repeat(43), sig: 'A'.repeat(86) };
  const cases: ReadonlyArray<readonly [body: string, status: number]> = [
    ['', 400],
    ['{', 400],
    ['[]', 422],
    ['1', 422],
    [`${'['.repeat(100_000)}`, 400],
    ['{}', 200],
    ['{"signature":null,"attestations":{}}', 200],
    ['{"signature":{"alg":"none","key_id":"","sig":""}}', 200],
    [JSON.stringify({ signature: { ...signature, alg: 'RS256' } }), 200],
    [JSON.stringify({ signature, attestations: Array(1000).fill(signature) }), 200],
    [JSON.stringify({ signature: { ...signature, key_id: { a: 1 } }, attestations: [null, 1, []] }), 200],
  ];
  for (const [body, status] of cases) {
    const answer = await verify(body);
    assert.equal(answer.status, status, body.slice(0, 60));
    if (status === 200) assert.equal(answer.json.valid, false);
  }
  assert.equal((await app.call('POST', '/v1/receipts/verify', { body: '{}' })).status, 401);
});

test('without a signing key there are no keys but old ones', async () => {
  const bare = await openRoutes(
    h,
    { RECEIPT_SIGNING_KEY_HEX: '', RECEIPT_ATTESTATION_KEY_HEX: '' },
    receiptRoutes,
  );
  await completed();
  const { json } = await bare.call('GET', '/v1/receipts/keys');
  assert.ok(json.keys.length > 0 && json.keys.every((key: { current: boolean }) => !key.current));
});
