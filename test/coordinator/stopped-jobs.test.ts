import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import postgres from 'postgres';
import { JobWorker } from '../../src/cli/job-runner/job-worker.ts';
import { CoordinatorClient } from '../../src/sdk/coordinator-client.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { ALICE, asMiner, jobOf, openReplica, pollOnce, type Replica, register, submit } from './replica.ts';

const h = await harness();
let replica: Replica;
let sql: postgres.Sql;
before(async () => {
  sql = postgres(await h.db(), { max: 1 });
  h.cleanup(() => sql.end());
  replica = await openReplica(h);
});

const beat = async (minerId: string, current_jobs: string[]) =>
  (
    await replica.call('POST', '/v1/miners/heartbeat', {
      headers: asMiner(minerId),
      body: { inflight: current_jobs.length, current_jobs },
    })
  ).json;

const cancel = (jobId: string) => replica.call('POST', `/v1/jobs/${jobId}/cancel`, { headers: ALICE });

test('a heartbeat tells a miner which of its jobs it may stop, and their results are refused', async () => {
  await register(replica, 'told', { region: 'told', concurrency: 4 });
  await register(replica, 'other', { region: 'told' });
  const constraints = { region: 'told' };
  const [kept, canceled, expired, others] = [
    await submit(replica, { constraints }),
    await submit(replica, { constraints }),
    await submit(replica, { constraints }),
    await submit(replica, { constraints }),
  ];
  for (const jobId of [kept, canceled, expired]) assert.equal(await pollOnce(replica, 'told'), jobId);
  assert.equal(await pollOnce(replica, 'other'), others);
  assert.deepEqual((await beat('told', [kept, canceled])).canceled_jobs, []);
  await cancel(canceled);
  await sql`update coordinator.jobs set expires_at = now() where job_id = ${expired}`;
  await waitFor(async () => (await jobOf(replica, expired)).state === 'EXPIRED');
  const answer = await beat('told', [kept, canceled, expired, others]);
  assert.deepEqual(answer.canceled_jobs.sort(), [canceled, expired, others].sort());
  assert.deepEqual((await beat('told', [])).canceled_jobs, []);
  const deliver = (jobId: string) =>
    replica.call('POST', `/v1/miners/${jobId}/result`, { headers: asMiner('told'), body: { result: {} } });
  const refused = await deliver(canceled);
  assert.deepEqual([refused.status, refused.json.error.message], [409, 'the job is CANCELED']);
  assert.equal((await deliver(expired)).status, 409);
  assert.equal((await deliver(others)).status, 404);
  assert.equal((await deliver(kept)).status, 200);
});

test('a job that its miner was sent and does not work on goes to others', async () => {
  await register(replica, 'dropper', { region: 'dropped', concurrency: 2 });
  const constraints = { region: 'dropped' };
  const [kept, dropped] = [await submit(replica, { constraints }), await submit(replica, { constraints })];
  for (const jobId of [kept, dropped]) assert.equal(await pollOnce(replica, 'dropper'), jobId);
  const stateOf = async () => (await jobOf(replica, dropped)).state;
  await beat('dropper', []);
  assert.equal(await stateOf(), 'RUNNING', 'it may be on its way');
  await waitFor(async () => {
    const aged = await sql`update coordinator.jobs set delivered_at = delivered_at - interval '1 hour'
      where need_region = 'dropped' and delivered_at is not null returning job_id`;
    return aged.length === 2;
  });
  await beat('dropper', [kept, dropped]);
  await replica.call('POST', '/v1/miners/heartbeat', { headers: asMiner('dropper'), body: { inflight: 0 } });
  assert.equal(await stateOf(), 'RUNNING', 'it works on it, or does not say');
  await beat('dropper', [kept]);
  assert.equal(await stateOf(), 'QUEUED');
  assert.equal((await jobOf(replica, kept)).state, 'RUNNING');
  assert.equal(await pollOnce(replica, 'dropper'), dropped);
});

test('the reference miner stops a canceled job and takes the next', async () => {
  const events: string[] = [];
  const worker = new JobWorker({
    client: new CoordinatorClient({ urls: [replica.url], apiKey: 'key-of-any-miner', minerId: 'stopper' }),
    registration: { capabilities: {}, region: 'stopper' },
    isDraining: () => false,
    onStart: () => {},
    onEnd: () => {},
    say: (event) => events.push(event),
    pollSec: 5,
    beatMs: 50,
  });
  const ended = worker.run();
  await waitFor(() => events.includes('coordinator_registered'));
  const constraints = { region: 'stopper' };
  const endless = await submit(replica, { payload: { type: 'sleep', ms: 3_600_000 }, constraints });
  const next = await submit(replica, { payload: { type: 'echo' }, constraints });
  await waitFor(() => events.includes('job_started'));
  await cancel(endless);
  await waitFor(async () => (await jobOf(replica, next)).state === 'COMPLETED');
  assert.equal((await jobOf(replica, endless)).state, 'CANCELED');
  worker.leave();
  await ended;
  const news = events.filter((event) => event.startsWith('job_'));
  assert.deepEqual(news, ['job_started', 'job_canceled', 'job_started', 'job_completed']);
});
