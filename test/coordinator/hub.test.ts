import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { before, test } from 'node:test';
import postgres from 'postgres';
import { HubClient } from '../../src/sdk/hub-client.ts';
import { harness, TEST_SECRETS } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { ALICE, asMiner, jobOf, openReplica, pollOnce, type Replica, register, submit } from './replica.ts';

const h = await harness();
let hubUrl: string;
let hub: HubClient;
let sql: postgres.Sql;

// Replicas of one database share the outbox, and the tests have different hubs: each stops its replicas.
const SECRET = { POOLHUB_SECRET: TEST_SECRETS.COORDINATOR_SHARED_SECRET };
/** Longer than any test: what is offered to some is open to others only when a test says so. */
const LONG_WINDOW = '120000';

before(async () => {
  const env = await h.env({
    MINER_ENROLLMENT: 'open',
    LOG_LEVEL: 'info',
    RATE_LIMIT_REGISTER_PER_SEC: '100000',
    RATE_LIMIT_MATCH_PER_SEC: '100000',
    RATE_LIMIT_DEFAULT_PER_SEC: '100000',
  });
  const process = await h.startProcess('src/bin/hub.ts', { env, ready: /"url":"(http:[^"]+)"/ });
  hubUrl = process.ready[1] as string;
  hub = new HubClient({
    urls: [hubUrl],
    coordinatorSecret: TEST_SECRETS.COORDINATOR_SHARED_SECRET,
    adminKey: TEST_SECRETS.ADMIN_API_KEY,
  });
  sql = postgres(await h.db(), { max: 1 });
  h.cleanup(() => sql.end());
});

/** Makes a miner known to both, with a tag of its own among its capabilities. @returns its session token */
async function join(replica: Replica, minerId: string, model: string, price = 0.5) {
  await hub.register({
    miner_id: minerId,
    api_key: 'key-of-a-test-miner',
    addr: '192.0.2.10:9000',
    proto: 'http',
    gpu_vram: 24,
    gpu_name: 'NVIDIA RTX 4090',
    cpu_cores: 8,
    ram_gb: 64,
    price_token_per_ksec: price,
    max_parallel: 1,
    tags: [],
    capabilities: [model],
    region: 'eu-west-1',
  });
  const gpus = [{ name: 'NVIDIA RTX 4090', memory_mb: 24_576 }];
  return register(replica, minerId, {
    capabilities: { gpus, cuda: '12.4', models: [model], price },
    region: 'eu-west-1',
  });
}

const forModel = (model: string) => ({
  constraints: { models: [model], cuda: true, region: 'eu', min_vram_gb: 8 },
});

/** What the hub has of a job, in the order it got it. */
const feedbackOf = async (jobId: string) => {
  const rows =
    await sql`select miner_id, outcome, fail_code from poolhub.feedback where job_id = ${jobId} order by id`;
  return rows.map(({ miner_id, outcome, fail_code }) => [miner_id, outcome, fail_code]);
};

const reservedOn = async (minerId: string) => (await hub.getMiner(minerId)).reserved;

test('a job goes to a miner that the hub chose, and the hub hears how it went', {
  timeout: 60_000,
}, async () => {
  const replica = await openReplica(h, {
    ...SECRET,
    POOLHUB_URL: hubUrl,
    OFFER_WINDOW_MS: LONG_WINDOW,
    OFFER_COUNT: '1',
  });
  await join(replica, 'cheap', 'model-a', 0.1);
  await join(replica, 'dear', 'model-a', 10);
  const jobId = await submit(replica, forModel('model-a'));
  await waitFor(async () => (await reservedOn('cheap')) === 1);
  assert.equal(await pollOnce(replica, 'dear'), undefined, 'it is not offered to this one');
  assert.equal(await pollOnce(replica, 'cheap', 5), jobId);
  const path = `/v1/miners/${jobId}/result`;
  await replica.call('POST', path, { headers: asMiner('cheap'), body: { result: {} } });
  await waitFor(async () => (await feedbackOf(jobId)).length === 2);
  assert.deepEqual(await feedbackOf(jobId), [
    ['cheap', 'accepted', null],
    ['cheap', 'completed', null],
  ]);
  assert.equal(await reservedOn('cheap'), 0);
  await replica.stop();
});

test('miners that another one was quicker than are let go, not blamed', { timeout: 60_000 }, async () => {
  const replica = await openReplica(h, {
    ...SECRET,
    POOLHUB_URL: hubUrl,
    OFFER_WINDOW_MS: LONG_WINDOW,
    OFFER_COUNT: '2',
  });
  await join(replica, 'quick', 'model-b');
  await join(replica, 'slow', 'model-b');
  const jobId = await submit(replica, forModel('model-b'));
  await waitFor(async () => (await reservedOn('quick')) + (await reservedOn('slow')) === 2);
  assert.equal(await pollOnce(replica, 'quick', 5), jobId);
  await waitFor(async () => (await reservedOn('slow')) === 0);
  const fail = { error_code: 'timeout' };
  await replica.call('POST', `/v1/miners/${jobId}/fail`, { headers: asMiner('quick'), body: fail });
  await waitFor(async () => (await feedbackOf(jobId)).length === 2);
  assert.deepEqual(await feedbackOf(jobId), [
    ['quick', 'accepted', null],
    ['quick', 'failed', 'timeout'],
  ]);
  await replica.stop();
});

test('a miner that hangs up before it is sent its job has not accepted it', { timeout: 60_000 }, async () => {
  const replica = await openReplica(h, { ...SECRET, POOLHUB_URL: hubUrl, OFFER_WINDOW_MS: LONG_WINDOW });
  const headers = { ...asMiner('leaver'), 'X-Session-Token': await join(replica, 'leaver', 'model-f') };
  // From now on its offer is known, and a poll is one statement.
  assert.equal((await replica.call('POST', '/v1/miners/poll', { headers, body: {} })).status, 204);
  const jobId = await submit(replica, forModel('model-f'));
  await waitFor(async () => (await reservedOn('leaver')) === 1);
  const giveUp = new AbortController();
  const [poll] = await sql.begin(async (tx) => {
    await tx`select from coordinator.miners where miner_id = 'leaver' for update`;
    const { signal } = giveUp;
    const refused = assert.rejects(replica.call('POST', '/v1/miners/poll', { headers, body: {}, signal }));
    await waitFor(async () => {
      const [row] = await tx`select from pg_stat_activity where wait_event_type = 'Lock'
        and datname = current_database() and application_name = 'coordinator'`;
      return row !== undefined;
    });
    giveUp.abort();
    return [refused];
  });
  await poll;
  await waitFor(async () => (await reservedOn('leaver')) === 0);
  const rest = async () => {
    const rows = await sql`select state, attempts from coordinator.jobs where job_id = ${jobId}`;
    return JSON.stringify(rows) === '[{"state":"QUEUED","attempts":0}]';
  };
  await waitFor(rest);
  assert.deepEqual([...(await sql`select outcome from coordinator.hub_outbox where job_id = ${jobId}`)], []);
  await replica.stop();
});

test('an offer that nobody takes is open to all after its window, and reported', {
  timeout: 60_000,
}, async () => {
  const replica = await openReplica(h, {
    ...SECRET,
    POOLHUB_URL: hubUrl,
    OFFER_WINDOW_MS: '1000',
    OFFER_COUNT: '1',
  });
  await join(replica, 'absent', 'model-c');
  await register(replica, 'unknown-to-the-hub', {
    region: 'eu-x',
    capabilities: { models: ['model-c'], cuda: true, gpus: [{ memory_mb: 9000 }] },
  });
  const jobId = await submit(replica, forModel('model-c'));
  assert.equal(await pollOnce(replica, 'unknown-to-the-hub', 20), jobId);
  await waitFor(async () => (await feedbackOf(jobId)).length === 1);
  assert.deepEqual(await feedbackOf(jobId), [['absent', 'rejected', null]]);
  await replica.stop();
});

test('a canceled job holds no places', { timeout: 60_000 }, async () => {
  const replica = await openReplica(h, { ...SECRET, POOLHUB_URL: hubUrl, OFFER_WINDOW_MS: LONG_WINDOW });
  await join(replica, 'held', 'model-d');
  const jobId = await submit(replica, forModel('model-d'));
  await waitFor(async () => (await reservedOn('held')) === 1);
  await replica.call('POST', `/v1/jobs/${jobId}/cancel`, { headers: ALICE });
  await waitFor(async () => (await reservedOn('held')) === 0);
  await replica.stop();
});

test('a hub that is empty, away or broken holds no job up', { timeout: 60_000 }, async () => {
  const broken = await listenOn(createServer((_, response) => response.writeHead(500).end('oh')));
  const urls = { empty: hubUrl, away: 'http://127.0.0.1:9', broken };
  for (const [name, url] of Object.entries(urls)) {
    const replica = await openReplica(h, { ...SECRET, POOLHUB_URL: url, OFFER_WINDOW_MS: LONG_WINDOW });
    await register(replica, `free-${name}`, { region: name });
    const poll = pollOnce(replica, `free-${name}`, 20);
    const jobId = await submit(replica, { constraints: { region: name } });
    assert.equal(await poll, jobId, name);
    await replica.stop();
  }
});

test('a hub that is silent holds a job up for its window at most', { timeout: 60_000 }, async () => {
  const silent = await listenOn(createServer(() => {}));
  const replica = await openReplica(h, {
    ...SECRET,
    POOLHUB_URL: silent,
    OFFER_WINDOW_MS: '500',
    POOLHUB_TIMEOUT_MS: '60000',
  });
  await register(replica, 'waits', { region: 'silent-hub' });
  const poll = pollOnce(replica, 'waits', 20);
  const jobId = await submit(replica, { constraints: { region: 'silent-hub' } });
  assert.equal((await jobOf(replica, jobId)).state, 'QUEUED');
  assert.equal(await poll, jobId);
  await replica.stop();
});

test('reports wait until the hub is back, and are sent once each', { timeout: 60_000 }, async () => {
  const seen: string[] = [];
  let isUp = false;
  const flaky = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      if (!isUp) response.writeHead(503).end();
      else {
        if (request.url === '/v1/feedback')
          seen.push(`${JSON.parse(body).job_id} ${JSON.parse(body).outcome}`);
        response
          .writeHead(200, { 'Content-Type': 'application/json' })
          .end('{"status":"ok","candidates":[]}');
      }
    });
  });
  const url = await listenOn(flaky);
  // One that is not answered in time is sent once more.
  const own = { ...SECRET, POOLHUB_URL: url, POOLHUB_TIMEOUT_MS: '30000' };
  const [one, two] = await Promise.all([openReplica(h, own), openReplica(h, own)]);
  await register(one, 'reported', { region: 'flaky', concurrency: 10 });
  const expected: string[] = [];
  for (let i = 0; i < 10; i += 1) {
    const jobId = await submit(one, { constraints: { region: 'flaky' } });
    assert.equal(await pollOnce(two, 'reported', 10), jobId);
    const path = `/v1/miners/${jobId}/result`;
    await two.call('POST', path, { headers: asMiner('reported'), body: { result: {} } });
    expected.push(`${jobId} accepted`, `${jobId} completed`);
  }
  isUp = true;
  await waitFor(() => expected.every((report) => seen.includes(report)), { timeoutMs: 30_000 });
  await waitFor(
    async () => {
      const [row] =
        await sql`select count(*)::int as waiting from coordinator.hub_outbox where done_at is null`;
      return row?.waiting === 0;
    },
    { timeoutMs: 30_000 },
  );
  const ours = seen.filter((report) => expected.includes(report));
  assert.equal(ours.length, expected.length);
  for (const report of expected.filter((text) => text.endsWith('accepted'))) {
    assert.ok(seen.indexOf(report) < seen.indexOf(report.replace('accepted', 'completed')), 'in their order');
  }
  await Promise.all([one.stop(), two.stop()]);
});

async function listenOn(server: Server): Promise<string> {
  h.cleanup(() => {
    server.close();
    server.closeAllConnections();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
