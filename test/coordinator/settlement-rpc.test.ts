import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { sql } from 'drizzle-orm';
import type { CompletedJob } from '../../src/coordinator/receipts/receipt.ts';
import { openMoney } from '../../src/coordinator/settlement/effects.ts';
import { createChainNode } from '../../src/coordinator/settlement/rpc.ts';
import { type SettleDeps, settleDue } from '../../src/coordinator/settlement/settle.ts';
import { claimDue, findSettlement, redirect } from '../../src/coordinator/settlement/store.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { harness } from '../support/harness.ts';
import { answer, type Mischief, startNode } from './settlement-node.ts';
import { complete, insertRunning, jobOf, openDatabase } from './settlement-world.ts';

const TIMEOUT_MS = 300;

const h = await harness();
const db = await openDatabase(h);
const node = await startNode(h);
const money = openMoney({
  receipt_signing_key_hex: undefined,
  receipt_attestation_key_hex: undefined,
  settlement_driver: 'rpc',
});
const log = createLogger('silent', 'test');
const deps: SettleDeps = {
  db,
  log,
  node: createChainNode({ url: `${node.url}/`, timeoutMs: TIMEOUT_MS }),
  timeoutMs: TIMEOUT_MS,
};

afterEach(() => node.misbehave(undefined));

async function owe(more: Partial<CompletedJob> = {}): Promise<string> {
  const job = jobOf(more);
  await db.run(async (orm) => {
    await insertRunning(orm, job);
    await complete(orm, money, job);
  });
  return job.jobId;
}

const stateOf = async (jobId: string) => (await db.run((orm) => findSettlement(orm, jobId)))?.state;
const rowOf = (jobId: string) => db.run((orm) => findSettlement(orm, jobId));

/** Lets every wait be over, also that of claims whose process died. */
const hurry = () =>
  db.run((orm) => orm.execute(sql`update coordinator.settlements set due_at = now() - interval '1 second'`));

async function settleAll(tries = 20): Promise<void> {
  for (let i = 0; i < tries; i += 1) {
    await hurry();
    const { settled, postponed, rejected } = await settleDue(deps);
    if (settled + postponed + rejected === 0) return;
  }
  throw new Error(`not settled after ${tries} passes`);
}

function assertPaidOnce(jobId: string): void {
  assert.equal(node.escrows.get(jobId), 'released');
  assert.deepEqual([node.moves.get(`${jobId}:create`), node.moves.get(`${jobId}:release`)], [1, 1]);
}

test('what is owed is put into escrow and released, with exact amounts', async () => {
  const jobId = await owe({ paymentAmount: '0.10000001' });
  const result = await settleDue(deps);
  assert.deepEqual(result, { settled: 1, postponed: 0, rejected: 0 });
  assert.equal(await stateOf(jobId), 'released');
  assertPaidOnce(jobId);
  const [create, release] = node.calls.filter((call) => call.jobId === jobId);
  assert.deepEqual(create?.body, {
    job_id: jobId,
    buyer: 'client-1',
    provider: 'miner-1',
    amount: '0.10000001',
  });
  assert.deepEqual(
    [create?.idempotencyKey, release?.idempotencyKey],
    [`${jobId}:create`, `${jobId}:release`],
  );
  assert.deepEqual(await settleDue(deps), { settled: 0, postponed: 0, rejected: 0 });
});

/** Ways to fail that may pass; each is tried on the first two calls of every step. */
const PASSING: Readonly<Record<string, Mischief>> = {
  'answers 500': (_call, response) => answer(response, 500, { error: 'no' }),
  'answers 401': (_call, response) => answer(response, 401, { error: 'who are you' }),
  'answers 408': (_call, response) => answer(response, 408, {}),
  'answers 429 with Retry-After': (_call, response) => {
    response.setHeader('Retry-After', '7');
    answer(response, 429, { error: 'slow down' });
  },
  'answers a page of a proxy': (_call, response) => response.end('<html>welcome</html>'),
  'answers an empty 200': (_call, response) => response.end(),
  'answers a redirect': (_call, response) => response.writeHead(307, { Location: '/elsewhere' }).end(),
  'closes the connection': (_call, response) => response.destroy(),
  'does it and closes the connection': (_call, response, accept) => {
    accept();
    response.destroy();
  },
  'does it and answers 500': (_call, response, accept) => {
    accept();
    answer(response, 500, { error: 'after the fact' });
  },
  'does it and hangs': (_call, _response, accept) => void accept(),
  'cuts the body off': (_call, response) => {
    response.writeHead(200, { 'Content-Length': '100' });
    response.write('{"state":');
    setImmediate(() => response.destroy());
  },
  'never ends the body': (_call, response) => void response.write('{"state":"held"'),
  floods: (_call, response) => response.end(`"${'x'.repeat(100_000)}"`),
  'talks nonsense': (_call, response) => response.socket?.end('ICY 200 OK\r\n\r\n'),
};

for (const [name, fail] of Object.entries(PASSING)) {
  test(`a node that ${name} is asked again, and pays once`, async () => {
    const jobId = await owe();
    const failures = new Map<string, number>();
    node.misbehave((call, response, accept) => {
      const failed = failures.get(call.step) ?? 0;
      failures.set(call.step, failed + 1);
      if (failed < 2) fail(call, response, accept);
      else answer(response, ...accept());
    });
    assert.deepEqual(await settleDue(deps), { settled: 0, postponed: 1, rejected: 0 });
    const row = await rowOf(jobId);
    assert.ok(row !== undefined && row.lastError !== null && row.claim === null);
    if (name.includes('Retry-After')) assert.ok(row.dueAt.getTime() > Date.now() + 5000);
    await settleAll();
    assert.equal(await stateOf(jobId), 'released');
    assert.equal((await rowOf(jobId))?.lastError, null);
    assertPaidOnce(jobId);
  });
}

for (const status of [400, 422]) {
  test(`a settlement that the node refuses with ${status} waits for somebody to look`, async () => {
    const jobId = await owe();
    node.misbehave((_call, response) => answer(response, status, { error: 'no funds' }));
    assert.deepEqual(await settleDue(deps), { settled: 0, postponed: 0, rejected: 1 });
    const row = await rowOf(jobId);
    assert.deepEqual([row?.state, row?.lastError], ['rejected', `create: status ${status}, no funds`]);
    await hurry();
    assert.deepEqual(await settleDue(deps), { settled: 0, postponed: 0, rejected: 0 });
    node.misbehave(undefined);
    assert.ok(await db.run((orm) => redirect(orm, jobId, 'release')));
    await settleAll();
    assertPaidOnce(jobId);
    assert.ok(!(await db.run((orm) => redirect(orm, jobId, 'release'))));
  });
}

test('a refusal inside of a 200 is a refusal', async () => {
  const jobId = await owe();
  node.misbehave((_call, response) => answer(response, 200, { success: false, message: 'no' }));
  await settleDue(deps);
  assert.equal(await stateOf(jobId), 'rejected');
});

test('an error that says nothing is none', async () => {
  const jobId = await owe();
  node.misbehave((_call, response, accept) => {
    const [status, body] = accept();
    answer(response, status, { ...(body as object), error: '' });
  });
  await settleDue(deps);
  assertPaidOnce(jobId);
  assert.equal(await stateOf(jobId), 'released');
});

test('a node that has lost the escrow is asked to create it again', async () => {
  const jobId = await owe();
  let lost = false;
  node.misbehave((call, response, accept) => {
    if (call.step === 'release' && !lost) {
      lost = true;
      node.escrows.delete(jobId);
      node.moves.clear();
    }
    answer(response, ...accept());
  });
  assert.equal((await settleDue(deps)).postponed, 1);
  assert.equal(await stateOf(jobId), 'pending');
  await settleAll();
  assertPaidOnce(jobId);
});

test('a conflict at the release counts only when the node says it is released', async () => {
  const done = await owe();
  node.misbehave((call, response, accept) => {
    const [status, body] = accept();
    if (call.step === 'release') answer(response, 409, { error: 'again?', state: 'released' });
    else answer(response, status, body);
  });
  await settleDue(deps);
  assert.equal(await stateOf(done), 'released');
  const other = await owe();
  node.misbehave((call, response, accept) => {
    if (call.step === 'release') node.escrows.set(other, 'refunded');
    answer(response, ...accept());
  });
  await settleDue(deps);
  assert.equal(await stateOf(other), 'rejected');
});

test('refunds: of what is held, of what never was, of what is released', async () => {
  const held = await owe();
  node.misbehave((call, response, accept) =>
    call.step === 'release' ? answer(response, 500, {}) : answer(response, ...accept()),
  );
  await settleDue(deps);
  assert.equal(await stateOf(held), 'escrowed');
  const never = await owe();
  for (const jobId of [held, never]) assert.ok(await db.run((orm) => redirect(orm, jobId, 'refund')));
  await settleAll();
  assert.deepEqual([await stateOf(held), node.escrows.get(held)], ['refunded', 'refunded']);
  assert.deepEqual([await stateOf(never), node.escrows.get(never)], ['refunded', undefined]);
  node.misbehave(undefined);
  const released = await owe();
  await settleDue(deps);
  assert.ok(!(await db.run((orm) => redirect(orm, released, 'refund'))));
  assert.equal(node.escrows.get(released), 'released');
});

test('what a dead process has claimed is settled when its claim lapses, and not before', async () => {
  const jobId = await owe();
  const claimed = await db.run((orm) => claimDue(orm, 'a process that dies', 10, 60_000));
  assert.equal(claimed.length, 1);
  assert.deepEqual(await settleDue(deps), { settled: 0, postponed: 0, rejected: 0 });
  assert.ok(!(await db.run((orm) => redirect(orm, jobId, 'refund'))), 'a try is under way');
  await settleAll();
  assertPaidOnce(jobId);
});

test('a node that is away ends the pass; the rest is given back untried', async () => {
  const jobIds = await Promise.all(Array.from({ length: 20 }, () => owe()));
  node.misbehave((_call, response) => response.destroy());
  const before = node.calls.length;
  const { postponed } = await settleDue(deps);
  assert.ok(postponed < 10, String(postponed));
  assert.ok(node.calls.length - before < 10);
  const rows = await Promise.all(jobIds.map(rowOf));
  assert.equal(rows.filter((row) => row?.claim === null).length, 20);
  assert.equal(rows.filter((row) => row?.attempts === 0).length, 20 - postponed);
  node.misbehave(undefined);
  await settleAll();
  for (const jobId of jobIds) assertPaidOnce(jobId);
});

test('replicas settle side by side: each job once, one call of a job at a time', async () => {
  const jobIds = await Promise.all(Array.from({ length: 60 }, () => owe()));
  let calls = 0;
  node.misbehave((_call, response, accept) => {
    calls += 1;
    if (calls % 5 === 0) answer(response, 500, {});
    else if (calls % 7 === 0) {
      accept();
      response.destroy();
    } else answer(response, ...accept());
  });
  const isOver = async () => (await Promise.all(jobIds.map(stateOf))).every((state) => state === 'released');
  for (let pass = 0; pass < 30 && !(await isOver()); pass += 1) {
    // Only those that wait: a claim of a replica that lives must not lapse.
    await db.run((orm) =>
      orm.execute(sql`update coordinator.settlements set due_at = now() where claim is null`),
    );
    await Promise.all([settleDue(deps), settleDue(deps), settleDue(deps)]);
  }
  for (const jobId of jobIds) assertPaidOnce(jobId);
  assert.equal(node.mostAtOnce(), 1);
});

test('a stop ends the pass between two settlements and gives the rest back', async () => {
  const jobIds = await Promise.all(Array.from({ length: 5 }, () => owe()));
  assert.deepEqual(await settleDue(deps, AbortSignal.abort()), { settled: 0, postponed: 0, rejected: 0 });
  const rows = await Promise.all(jobIds.map(rowOf));
  assert.ok(rows.every((row) => row?.claim === null && row.attempts === 0));
});
