import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import postgres from 'postgres';
import { harness } from '../support/harness.ts';
import type { TestProcess } from '../support/processes.ts';
import { waitFor } from '../support/wait-for.ts';
import { ALICE, type Answer, asMiner, type CallOptions, callsTo, replicaEnv } from './replica.ts';

const h = await harness();
let sql: postgres.Sql;
let current: { process: TestProcess; url: string } | undefined;

before(async () => {
  sql = postgres(await h.db(), { max: 2 });
  h.cleanup(() => sql.end());
  await restart();
});

/** A coordinator of its own process, in place of the one before. */
async function restart(): Promise<void> {
  const env = await replicaEnv(h, {
    LOG_LEVEL: 'info',
    RECEIPT_SIGNING_KEY_HEX: '11'.repeat(32),
    JOB_MAX_ATTEMPTS: '50',
    MINER_OFFLINE_SEC: '3',
    POLL_MAX_WAIT_SEC: '1',
  });
  const process = await h.startProcess('src/bin/coordinator.ts', { env, ready: /"url":"(http:[^"]+)"/ });
  current = { process, url: process.ready[1] as string };
}

async function killAndRestart(): Promise<void> {
  const { process } = current ?? assert.fail('nothing runs');
  process.signal('SIGKILL');
  await process.exited;
  await restart();
}

/** A call to whichever coordinator runs, again and again until one answers. */
function call(method: string, path: string, options: CallOptions): Promise<Answer> {
  return waitFor(
    async () => {
      const answer = await callsTo(current?.url ?? '')(method, path, options);
      return answer.status < 500 ? answer : undefined;
    },
    { timeoutMs: 60_000, what: `${method} ${path}` },
  );
}

const register = (minerId: string, region: string) =>
  call('POST', '/v1/miners/register', { headers: asMiner(minerId), body: { capabilities: {}, region } });

const submit = async (key: string, region: string): Promise<string> => {
  const headers = { ...ALICE, 'Idempotency-Key': key };
  const body = { payload: { key }, constraints: { region }, payment_amount: '0.25' };
  const answer = await call('POST', '/v1/jobs', { headers, body });
  assert.equal(answer.status, 201, answer.text);
  return answer.json.job_id;
};

const poll = (minerId: string, waitSec: number) =>
  call('POST', '/v1/miners/poll', { headers: asMiner(minerId), body: { max_wait_seconds: waitSec } });

const deliver = (minerId: string, jobId: string) =>
  call('POST', `/v1/miners/${jobId}/result`, { headers: asMiner(minerId), body: { result: { ok: true } } });

/** State, and how many receipts, settlements and usage records each job of a region has. */
async function books(region: string) {
  return sql<{ job_id: string; state: string; receipts: number; settlements: number; usage: number }[]>`
    select job_id, state,
      (select count(*)::int from coordinator.receipts r where r.job_id = j.job_id) as receipts,
      (select count(*)::int from coordinator.settlements s where s.job_id = j.job_id) as settlements,
      (select count(*)::int from coordinator.usage_records u where u.job_id = j.job_id) as usage
    from coordinator.jobs j where need_region = ${region}`;
}

test('killed at any moment under load, each job ends once, with one receipt, settlement and usage record', {
  timeout: 240_000,
}, async () => {
  const region = 'chaos';
  const total = 60;
  const miners = Array.from({ length: 6 }, (_, i) => `chaos-${i}`);
  await Promise.all(miners.map((id) => register(id, region)));
  let isOver = false;
  const work = miners.map(async (minerId) => {
    while (!isOver) {
      const answer = await poll(minerId, 0.5);
      if (answer.status !== 200) continue;
      await deliver(minerId, answer.json.job_id);
    }
  });
  const submitting = (async () => {
    for (let i = 0; i < total; i += 1) await submit(`chaos-${i}`, region);
  })();
  for (const share of [0.1, 0.4, 0.7]) {
    await waitFor(async () => (await books(region)).length >= total * share, { timeoutMs: 60_000 });
    await killAndRestart();
  }
  await submitting;
  await waitFor(async () => (await books(region)).every(({ state }) => state === 'COMPLETED'), {
    timeoutMs: 120_000,
  });
  isOver = true;
  await Promise.all(work);
  const rows = await books(region);
  assert.equal(rows.length, total);
  for (const { receipts, settlements, usage } of rows)
    assert.deepEqual([receipts, settlements, usage], [1, 1, 1]);
});
