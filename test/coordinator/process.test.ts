import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { loadCoordinatorConfig } from '../../src/coordinator/environment.ts';
import { ConfigError } from '../../src/platform/config.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import {
  ALICE,
  asMiner,
  callsTo,
  openReplica,
  pollOnce,
  type Replica,
  ROOT,
  register,
  replicaEnv,
  submit,
} from './replica.ts';

const h = await harness();
let replica: Replica;
before(async () => {
  replica = await openReplica(h);
});

test('a coordinator starts as a process, stops with 0, and logs no key', { timeout: 60_000 }, async () => {
  const env = await replicaEnv(h, { LOG_LEVEL: 'trace' });
  const running = await h.startProcess('src/bin/coordinator.ts', { env, ready: /"url":"(http:[^"]+)"/ });
  const call = callsTo(running.ready[1] as string);
  assert.equal((await call('GET', '/readyz')).status, 200);
  assert.equal(
    (await call('POST', '/v1/jobs', { headers: ALICE, body: { payload: {}, nope: 'key-of-alice' } })).status,
    422,
  );
  assert.equal((await call('GET', '/v1/jobs', { headers: { 'X-Api-Key': 'a-wrong-key' } })).status, 401);
  running.signal('SIGTERM');
  assert.deepEqual(await running.exited, { code: 0, signal: null });
  for (const secret of ['key-of-alice', 'key-of-any-miner', 'key-of-root', 'a-wrong-key']) {
    assert.ok(!running.output().includes(secret), secret);
  }
});

const REQUIRED = {
  DB_DSN: 'postgres://poolhub@127.0.0.1/poolhub',
  CLIENT_API_KEYS: 'a',
  MINER_API_KEYS: 'b',
  ADMIN_API_KEYS: 'c',
};

test('bad settings stop the start by their names, without their values', () => {
  const problemsOf = (env: Record<string, string>): string[] => {
    try {
      loadCoordinatorConfig(env);
      return [];
    } catch (error) {
      assert.ok(error instanceof ConfigError);
      assert.doesNotMatch(error.message, /hunter2/);
      return error.problems.map(({ name }) => name);
    }
  };
  assert.deepEqual(problemsOf({}).sort(), ['ADMIN_API_KEYS', 'CLIENT_API_KEYS', 'DB_DSN', 'MINER_API_KEYS']);
  const bad: [string, string][] = [
    ['COORDINATOR_PORT', '70000'],
    ['CLIENT_API_KEYS', 'hunter2 hunter2'],
    ['MINER_API_KEYS', ' , '],
    ['SIGNATURES', 'maybe'],
    ['RECEIPT_SIGNING_KEY_HEX', 'hunter2'],
    ['POOLHUB_URL', 'ftp://hub'],
    ['MINER_OFFLINE_SEC', '25'],
    ['SETTLEMENT_DRIVER', 'cash'],
  ];
  for (const [name, value] of bad) {
    const given: Record<string, string> = { ...REQUIRED, POOLHUB_SECRET: 'secret', [name]: value };
    assert.deepEqual(problemsOf(given), [name]);
  }
  assert.deepEqual(problemsOf({ ...REQUIRED, POOLHUB_URL: 'http://hub' }), ['POOLHUB_SECRET']);
  assert.deepEqual(problemsOf({ ...REQUIRED, SETTLEMENT_DRIVER: 'rpc' }), ['SETTLEMENT_RPC_URL']);
  assert.deepEqual(problemsOf(REQUIRED), []);
});

test('administrators see counts, jobs and miners', async () => {
  await register(replica, 'counted', { region: 'admin' });
  const jobId = await submit(replica, { constraints: { region: 'admin' } });
  await submit(replica, { constraints: { region: 'admin' } });
  assert.equal(await pollOnce(replica, 'counted'), jobId);
  const miner = await replica.call('GET', '/v1/admin/miners?status=ONLINE&limit=1', { headers: ROOT });
  const [counted] = miner.json.items;
  assert.deepEqual([counted.miner_id, counted.running, counted.concurrency], ['counted', 1, 1]);
  await replica.call('POST', `/v1/miners/${jobId}/result`, {
    headers: asMiner('counted'),
    body: { result: {} },
  });
  const stats = (await replica.call('GET', '/v1/admin/stats', { headers: ROOT })).json;
  assert.deepEqual([stats.total_jobs, stats.active_jobs, stats.online_miners], [2, 1, 1]);
  assert.equal(stats.jobs_by_state.COMPLETED, 1);
  assert.ok(stats.avg_miner_job_duration_ms >= 0);
  const jobs = await replica.call('GET', '/v1/admin/jobs?state=COMPLETED&miner_id=counted&client_id=alice', {
    headers: ROOT,
  });
  assert.deepEqual(
    jobs.json.items.map(({ job_id, client_id }: { job_id: string; client_id: string }) => [
      job_id,
      client_id,
    ]),
    [[jobId, 'alice']],
  );
});

test('health, readiness and metrics are open, and name no one', async () => {
  for (const path of ['/v1/health', '/health', '/livez', '/readyz']) {
    const answer = await replica.call('GET', path);
    assert.deepEqual([answer.status, answer.json.status], [200, 'ok'], path);
  }
  const metrics = await replica.call('GET', '/v1/metrics');
  assert.match(metrics.text, /^coordinator_jobs\{state="QUEUED"\} \d+$/m);
  assert.match(metrics.text, /^coordinator_job_transitions_total\{transition="submit"\} \d+$/m);
  assert.doesNotMatch(metrics.text, /alice|counted/);
});

test('the OpenAPI document and its page are complete and need nothing from elsewhere', async () => {
  const { json: document } = await replica.call('GET', '/openapi.json');
  assert.match(document.openapi, /^3\.1/);
  const events = document.paths['/v1/jobs/{job_id}/events'].get;
  assert.deepEqual(Object.keys(events.responses['200'].content), ['text/event-stream']);
  assert.equal(events.responses['204'].content, undefined);
  assert.ok(events.parameters.some(({ name }: { name: string }) => name === 'Last-Event-ID'));
  for (const path of [
    '/v1/jobs',
    '/v1/jobs/{job_id}/events',
    '/v1/miners/poll',
    '/v1/admin/stats',
    '/v1/receipts/keys',
  ]) {
    assert.ok(document.paths[path], path);
  }
  for (const [path, operations] of Object.entries<Record<string, { summary: string; responses: object }>>(
    document.paths,
  )) {
    for (const [method, { summary, responses }] of Object.entries(operations)) {
      assert.ok(summary.length > 4 && Object.keys(responses).length > 0, `${method} ${path}`);
    }
  }
  for (const [, name] of JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)) {
    assert.ok(document.components.schemas[name as string], name);
  }
  const [example] = document.components.schemas.SubmitRequest.examples;
  assert.equal((await replica.call('POST', '/v1/jobs', { headers: ALICE, body: example })).status, 201);
  const page = await replica.call('GET', '/docs');
  assert.match(page.text, /<title>Coordinator API<\/title>/);
  assert.doesNotMatch(page.text, /https?:\/\//);
});

test('before Postgres is there a replica is not ready; while it is away calls fail fast, polls wait, and all works again by itself', {
  timeout: 90_000,
}, async () => {
  const server = await h.privatePostgres();
  await server.stop();
  const own = await openReplica(h, { DB_DSN: server.dsn, DB_CONNECT_TIMEOUT_SEC: '1', LOG_LEVEL: 'silent' });
  assert.equal((await own.call('GET', '/readyz')).status, 503);
  await server.start();
  await waitFor(async () => (await own.call('GET', '/readyz')).status === 200, { timeoutMs: 30_000 });
  await register(own, 'outage');
  const poll = pollOnce(own, 'outage', 20);
  await waitFor(async () => (await own.call('GET', '/health')).json.polls_held === 1);
  await server.stop();

  await waitFor(async () => (await own.call('GET', '/readyz')).status === 503);
  const refused = await own.call('GET', '/v1/jobs', { headers: ALICE });
  assert.equal(refused.status, 503);
  assert.ok(refused.headers.get('Retry-After'));
  assert.equal((await own.call('GET', '/livez')).status, 200);
  await server.start();
  await waitFor(async () => (await own.call('GET', '/readyz')).status === 200, { timeoutMs: 30_000 });
  const jobId = await waitFor(() => submit(own));
  assert.equal(await poll, jobId);
});
