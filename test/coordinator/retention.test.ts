import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import postgres from 'postgres';
import { firstIdOf, newJobId } from '../../src/coordinator/jobs/job-id.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { ALICE, asMiner, BOB, openReplica, pollOnce, type Replica, ROOT, register } from './replica.ts';

const h = await harness();
const RECEIPTS = { RECEIPT_SIGNING_KEY_HEX: '55'.repeat(32) };
const DAY_MS = 86_400_000;
let sql: postgres.Sql;
let first: Replica;

before(async () => {
  sql = postgres(await h.db(), { max: 1 });
  h.cleanup(() => sql.end());
  first = await openReplica(h, RECEIPTS);
  await register(first, 'keeper');
});

const submitAs = (replica: Replica, key: string) =>
  replica.call('POST', '/v1/jobs', {
    headers: { ...ALICE, 'Idempotency-Key': key },
    body: { payload: { key }, payment_amount: '0.5', ttl_seconds: 2_000_000 },
  });

async function completed(key: string): Promise<string> {
  const jobId = (await submitAs(first, key)).json.job_id;
  assert.equal(await pollOnce(first, 'keeper'), jobId);
  const headers = asMiner('keeper');
  const { status } = await first.call('POST', `/v1/miners/${jobId}/result`, {
    headers,
    body: { result: {} },
  });
  assert.equal(status, 200);
  return jobId;
}

/** As if the job had been submitted, and was over, so many days ago. @returns its id of that time */
async function age(jobId: string, days: number): Promise<string> {
  const oldId = newJobId(Date.now() - days * DAY_MS);
  await sql`update coordinator.jobs set job_id = ${oldId}, requested_at = now() - ${days} * interval '1 day',
    finished_at = finished_at - ${days} * interval '1 day' where job_id = ${jobId}`;
  for (const table of ['receipts', 'settlements', 'usage_records'])
    await sql`update ${sql('coordinator')}.${sql(table)} set job_id = ${oldId} where job_id = ${jobId}`;
  return oldId;
}

test('jobs that are over are forgotten after their time, with their keys; what they came to is kept', async () => {
  const old = await age(await completed('old'), 31);
  const young = await age(await completed('young'), 29);
  const pending = await age((await submitAs(first, 'pending')).json.job_id, 40);
  // More than a batch, so that batches follow each other.
  await sql`insert into coordinator.jobs (job_id, client_id, request_digest, payload, constraints, state, expires_at, finished_at)
    select ${firstIdOf(Date.now() - 50 * DAY_MS)}::text || lpad(to_hex(n), 20, '0'), 'bob', '', '{}', '{}', 'FAILED', now(),
      now() - interval '49 days' from generate_series(1, 450) n`;
  const second = await openReplica(h, RECEIPTS);
  const kept = async () => {
    const rows = await sql<{ job_id: string }[]>`select job_id from coordinator.jobs order by job_id`;
    return rows.map(({ job_id }) => job_id);
  };
  await waitFor(async () => (await kept()).length === 2);
  assert.deepEqual(await kept(), [pending, young]);

  assert.equal((await second.call('GET', `/v1/jobs/${old}`, { headers: ALICE })).status, 404);
  assert.equal((await second.call('GET', `/v1/jobs/${old}/result`, { headers: ALICE })).status, 404);
  const receipt = await second.call('GET', `/v1/jobs/${old}/receipt`, { headers: ALICE });
  const verdict = await second.call('POST', '/v1/receipts/verify', { headers: ALICE, body: receipt.text });
  assert.equal(verdict.json.valid, true);
  const history = await second.call('GET', `/v1/jobs/${old}/receipts`, { headers: ALICE });
  assert.equal(history.json.items.length, 1);
  assert.equal((await second.call('GET', `/v1/jobs/${old}/receipt`, { headers: BOB })).status, 404);

  assert.equal((await submitAs(second, 'young')).json.job_id, young);
  assert.equal((await submitAs(second, 'pending')).json.job_id, pending);
  const anew = await submitAs(second, 'old');
  assert.deepEqual([anew.status, anew.headers.get('Idempotency-Replayed')], [201, null]);

  const settlements = await second.call('GET', '/v1/admin/settlements', { headers: ROOT });
  assert.ok(settlements.json.items.some(({ job_id }: { job_id: string }) => job_id === old));
  const period = { tenant_id: 'alice', period_start: '2020-01-01', period_end: '2190-01-01' };
  const invoice = await second.call('POST', '/api/billing/invoice', { headers: ROOT, body: period });
  assert.equal(invoice.json.total_amount, '1');
});

test('miners that stay away and the counters of former days are forgotten', async () => {
  for (const id of ['gone', 'away']) await register(first, id);
  await sql`update coordinator.miners set status = 'OFFLINE', last_seen_at = now() - interval '91 days' where miner_id = 'gone'`;
  await sql`update coordinator.miners set status = 'OFFLINE', last_seen_at = now() - interval '89 days' where miner_id = 'away'`;
  await sql`insert into coordinator.invoice_numbers values
    ('bob', current_date - 31, 5), ('bob', current_date - 30, 6), ('bob', current_date, 7)`;
  await openReplica(h, RECEIPTS);
  const left = () =>
    sql<{ miner_id: string }[]>`select miner_id from coordinator.miners where miner_id in ('gone', 'away')`;
  const counters = () =>
    sql<{ last: number }[]>`select last from coordinator.invoice_numbers where tenant_id = 'bob' order by 1`;
  await waitFor(async () => (await left()).length === 1 && (await counters()).length === 2);
  assert.deepEqual((await left())[0]?.miner_id, 'away');
  assert.deepEqual(
    (await counters()).map(({ last }) => last),
    [6, 7],
  );
  const beat = () =>
    first.call('POST', '/v1/miners/heartbeat', { headers: asMiner('gone'), body: { inflight: 0 } });
  assert.equal((await beat()).status, 401);
  await register(first, 'gone');
  assert.equal((await beat()).status, 200);
});
