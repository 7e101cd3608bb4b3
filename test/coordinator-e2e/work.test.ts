import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { before, test } from 'node:test';
import { CoordinatorClient } from '../../src/sdk/coordinator-client.ts';
import type { JobResult } from '../../src/sdk/coordinator-types.ts';
import { HubClient } from '../../src/sdk/hub-client.ts';
import { replicaEnv } from '../coordinator/replica.ts';
import { startHubProcess } from '../sdk/hub-process.ts';
import { harness, TEST_SECRETS } from '../support/harness.ts';
import type { TestProcess } from '../support/processes.ts';
import { waitFor } from '../support/wait-for.ts';

const h = await harness();
const WAIT = { timeoutMs: 60_000 };
let hub: HubClient;
let alice: CoordinatorClient;
let root: CoordinatorClient;
let settings: Record<string, string>;
let coordinator: { process: TestProcess; url: string };
let hubUrl: string;

before(async () => {
  hubUrl = (await startHubProcess(h)).url;
  hub = new HubClient({ urls: [hubUrl], adminKey: TEST_SECRETS.ADMIN_API_KEY });
  settings = await replicaEnv(h, {
    LOG_LEVEL: 'info',
    POOLHUB_URL: hubUrl,
    POOLHUB_SECRET: TEST_SECRETS.COORDINATOR_SHARED_SECRET,
  });
  coordinator = await startCoordinator(settings);
  alice = new CoordinatorClient({ urls: [coordinator.url], apiKey: 'key-of-alice' });
  root = new CoordinatorClient({ urls: [coordinator.url], apiKey: 'key-of-root' });
});

async function startCoordinator(env: Record<string, string>) {
  const process = await h.startProcess('src/bin/coordinator.ts', { env, ready: /"url":"(http:[^"]+)"/ });
  return { process, url: process.ready[1] as string };
}

/** `poolhub miner --work`, ready for jobs. */
async function startMiner(id: string, ...more: string[]): Promise<TestProcess> {
  const args = ['miner', '--work', '--id', id, '--capability', `model-of-${id}`, '--json', ...more];
  const env = await h.env({
    POOLHUB_URL: hubUrl,
    COORDINATOR_URL: coordinator.url,
    MINER_API_KEY: 'key-of-the-reference-miner',
    COORDINATOR_MINER_KEY: 'key-of-any-miner',
  });
  const miner = await h.startProcess('src/cli/poolhub.ts', { args, env, ready: /"event":"connected"/ });
  await waitFor(() => /coordinator_registered/.test(miner.output()), WAIT);
  return miner;
}

const submitFor = async (id: string, payload: Record<string, unknown>) =>
  (await alice.submit({ payload, constraints: { models: [`model-of-${id}`] } })).job_id;

async function resultOf(jobId: string): Promise<JobResult> {
  await alice.waitFor(jobId, { signal: AbortSignal.timeout(60_000) });
  return alice.getResult(jobId);
}

test('a reference miner does every built-in job, and the hub hears of each', async () => {
  await startMiner('worker', '--max-parallel', '2', '--gpu-name', 'NVIDIA RTX 4090', '--gpu-vram-gb', '24');
  const good: Array<[Record<string, unknown>, Record<string, unknown>]> = [
    [
      { type: 'echo', text: 'hello', n: 1 },
      { text: 'hello', n: 1 },
    ],
    [{ type: 'sum', values: [1, 2.5, -1] }, { sum: 2.5 }],
    [{ type: 'sleep', ms: 5 }, { slept_ms: 5 }],
    [{ type: 'sha256', data: 'abc' }, { sha256: createHash('sha256').update('abc').digest('hex') }],
  ];
  for (const [payload, expected] of good) {
    assert.deepEqual((await resultOf(await submitFor('worker', payload))).result, expected);
  }
  const bad: Array<[Record<string, unknown>, string]> = [
    [{ type: 'fail', error_code: 'on_purpose', error_message: 'no' }, 'on_purpose'],
    [{ type: 'fail' }, 'asked_to_fail'],
    [{ type: 'sum', values: 'many' }, 'bad_payload'],
    [{ type: 'sleep', ms: -1 }, 'bad_payload'],
    [{ type: 'sha256' }, 'bad_payload'],
    [{ type: 'toString' }, 'unknown_type'],
    [{}, 'unknown_type'],
  ];
  for (const [payload, code] of bad) {
    assert.equal((await resultOf(await submitFor('worker', payload))).error?.code, code);
  }
  await waitFor(async () => (await root.stats()).hub_reports_waiting === 0, WAIT);
  await waitFor(async () => (await hub.getMiner('worker')).last_feedback !== null, WAIT);
});

test('it is chosen through the hub: with CUDA, by its memory and price', async () => {
  await startMiner(
    'chosen',
    '--gpu-name',
    'RTX 4090',
    '--gpu-vram-gb',
    '24',
    '--price',
    '0.2',
    '--region',
    'eu-west',
  );
  const models = ['model-of-chosen'];
  const constraints = {
    models,
    cuda: true,
    min_vram_gb: 24,
    gpu: 'RTX 4090',
    region: 'eu',
    max_price: '0.2',
  };
  const job = await alice.submit({ payload: { type: 'echo', a: 1 }, constraints });
  assert.deepEqual((await resultOf(job.job_id)).result, { a: 1 });
  assert.equal((await alice.getJob(job.job_id)).assigned_miner_id, 'chosen');
});

test('stopped, it finishes its job and takes no other', async () => {
  const miner = await startMiner('finisher');
  const running = await submitFor('finisher', { type: 'sleep', ms: 3000 });
  await waitFor(() => /job_started/.test(miner.output()), WAIT);
  miner.signal('SIGTERM');
  const left = await submitFor('finisher', { type: 'echo' });
  assert.deepEqual(await miner.exited, { code: 0, signal: null }, miner.output());
  assert.match(miner.output(), /job_completed[\s\S]*logged_out/);
  assert.equal((await alice.getJob(running)).state, 'COMPLETED');
  assert.equal((await alice.getJob(left)).state, 'QUEUED');
});

test('with no time to finish, it gives its job back at once', async () => {
  const miner = await startMiner('breaker', '--drain-sec', '0');
  const jobId = await submitFor('breaker', { type: 'sleep', ms: 600_000 });
  await waitFor(() => /job_started/.test(miner.output()), WAIT);
  miner.signal('SIGTERM');
  assert.deepEqual(await miner.exited, { code: 0, signal: null }, miner.output());
  assert.equal((await alice.getJob(jobId)).state, 'QUEUED');
});

test('a drain by the hub ends its polls until it is resumed', async () => {
  const miner = await startMiner('drained');
  await hub.drain('drained');
  await waitFor(() => /"name":"drain"/.test(miner.output()), WAIT);
  await hub.resume('drained');
  await waitFor(() => /"name":"resume"/.test(miner.output()), WAIT);
  const jobId = await submitFor('drained', { type: 'echo', b: 2 });
  assert.deepEqual((await resultOf(jobId)).result, { b: 2 });
});

test('it outlives a coordinator that is killed, and one that does not know its session', async () => {
  const miner = await startMiner('survivor');
  const { port } = new URL(coordinator.url);
  coordinator.process.signal('SIGKILL');
  await coordinator.process.exited;
  await waitFor(() => /coordinator_interrupted/.test(miner.output()), WAIT);
  coordinator = await startCoordinator({ ...settings, COORDINATOR_PORT: port });
  assert.deepEqual((await resultOf(await submitFor('survivor', { type: 'echo', c: 3 }))).result, { c: 3 });
  // Another process under its id, which then goes away.
  const twin = new CoordinatorClient({
    urls: [coordinator.url],
    apiKey: 'key-of-any-miner',
    minerId: 'survivor',
  });
  await twin.registerMiner({ capabilities: { models: ['model-of-survivor'] } });
  await waitFor(() => miner.output().match(/coordinator_registered/g)?.length === 2, WAIT);
  assert.deepEqual((await resultOf(await submitFor('survivor', { type: 'echo', d: 4 }))).result, { d: 4 });
});

test('a key that the coordinator refuses ends it with one line', async () => {
  const args = ['miner', '--work', '--id', 'refused', '--json'];
  const env = await h.env({
    POOLHUB_URL: hubUrl,
    COORDINATOR_URL: coordinator.url,
    MINER_API_KEY: 'a-key-of-nobody',
  });
  const miner = await h.startProcess('src/cli/poolhub.ts', {
    args,
    env,
    ready: /poolhub miner: .*unauthenticated/,
  });
  assert.equal((await miner.exited).code, 1);
  assert.doesNotMatch(miner.output(), /a-key-of-nobody/);
});
