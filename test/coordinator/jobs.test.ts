import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import {
  ALICE,
  asMiner,
  BOB,
  jobOf,
  openReplica,
  pollOnce,
  type Replica,
  ROOT,
  register,
  submit,
} from './replica.ts';

const h = await harness();
let replica: Replica;
before(async () => {
  replica = await openReplica(h);
});

const UNKNOWN = '0'.repeat(32);
const nothingFits = { constraints: { gpu: 'no such gpu' } };

test('a submitted job is queued, and only its owner sees it', async () => {
  const body = { payload: { n: 1 }, ...nothingFits, ttl_seconds: 60 };
  const answer = await replica.call('POST', '/v1/jobs', { headers: ALICE, body });
  assert.equal(answer.status, 201);
  const { job_id, requested_at, expires_at, ...rest } = answer.json;
  assert.match(job_id, /^[0-9a-f]{32}$/);
  assert.deepEqual(rest, { state: 'QUEUED', assigned_miner_id: null, error: null });
  assert.equal(Date.parse(expires_at) - Date.parse(requested_at), 60_000);
  assert.deepEqual((await replica.call('GET', `/v1/jobs/${job_id}`, { headers: ALICE })).json, answer.json);
  for (const path of ['', '/result', '/receipt', '/receipts', '/events']) {
    const other = await replica.call('GET', `/v1/jobs/${job_id}${path}`, { headers: BOB });
    assert.equal(other.status, 404, path);
    const unknown = await replica.call('GET', `/v1/jobs/${UNKNOWN}${path}`, { headers: ALICE });
    assert.equal(unknown.status, 404, path);
  }
  assert.equal((await replica.call('POST', `/v1/jobs/${job_id}/cancel`, { headers: BOB })).status, 404);
  const early = await replica.call('GET', `/v1/jobs/${job_id}/result`, { headers: ALICE });
  assert.equal(early.status, 425);
  assert.equal(early.json.error.code, 'not_ready');
});

test('an Idempotency-Key gives the first job again, and no other request', async () => {
  const headers = { ...ALICE, 'Idempotency-Key': 'order-1' };
  const body = { payload: { a: 1, b: [2] }, ...nothingFits };
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => replica.call('POST', '/v1/jobs', { headers, body })),
  );
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [201]);
  assert.equal(new Set(answers.map(({ json }) => json.job_id)).size, 1);
  assert.equal(answers.filter((answer) => answer.headers.get('Idempotency-Replayed') === 'true').length, 7);
  const reordered = await replica.call('POST', '/v1/jobs', {
    headers,
    body: ` {"constraints": {"gpu": "no such gpu"}, "payload": {"b": [2], "a": 1}}`,
  });
  assert.equal(reordered.json.job_id, answers[0]?.json.job_id);
  // As doubles, these two are the same.
  const long = { headers: { ...ALICE, 'Idempotency-Key': 'order-2' } };
  const [first, next] = ['12345678901234567890', '12345678901234567891'].map(
    (n) => `{"payload":{"n":${n}},"constraints":{"gpu":"no such gpu"}}`,
  );
  assert.equal((await replica.call('POST', '/v1/jobs', { ...long, body: first })).status, 201);
  assert.equal((await replica.call('POST', '/v1/jobs', { ...long, body: next })).status, 409);
  const other = await replica.call('POST', '/v1/jobs', { headers, body: { payload: {} } });
  assert.equal(other.status, 409);
  const ofBob = await replica.call('POST', '/v1/jobs', {
    headers: { ...BOB, 'Idempotency-Key': 'order-1' },
    body,
  });
  assert.notEqual(ofBob.json.job_id, answers[0]?.json.job_id);
  const bad = await replica.call('POST', '/v1/jobs', {
    headers: { ...ALICE, 'Idempotency-Key': 'a b' },
    body,
  });
  assert.equal(bad.status, 422);
});

test('bad requests are refused, path by path', async () => {
  const bad: [unknown, string[]][] = [
    [{}, ['payload']],
    [{ payload: [] }, ['payload']],
    [{ payload: {}, extra: 1, ttl_seconds: 0 }, ['ttl_seconds', 'extra']],
    [
      { payload: {}, constraints: { min_vram_gb: -1, region: 'a b' } },
      ['constraints.min_vram_gb', 'constraints.region'],
    ],
    [{ payload: {}, payment_amount: '-1' }, ['payment_amount']],
  ];
  for (const [body, paths] of bad) {
    const answer = await replica.call('POST', '/v1/jobs', { headers: ALICE, body });
    assert.equal(answer.status, 422, JSON.stringify(body));
    const found = answer.json.error.details.map(({ path }: { path: string }) => path);
    assert.deepEqual(found.sort(), paths.sort());
  }
  assert.equal((await replica.call('POST', '/v1/jobs', { headers: ALICE, body: '{' })).status, 400);
  for (const id of ['nonsense', 'A'.repeat(32), '%00', encodeURIComponent("' or 1=1")]) {
    for (const [method, rest] of [
      ['GET', ''],
      ['GET', '/result'],
      ['GET', '/receipts'],
      ['POST', '/cancel'],
    ] as const) {
      const answer = await replica.call(method, `/v1/jobs/${id}${rest}`, { headers: ALICE });
      assert.deepEqual([answer.status, answer.json.error.code], [404, 'not_found'], `${id}${rest}`);
    }
  }
  assert.equal((await replica.call('GET', '/v1/jobs?limit=0', { headers: ALICE })).status, 422);
});

test('pages go through all jobs of a client, newest first', async () => {
  const own = await openReplica(h, { CLIENT_API_KEYS: 'pages=key-of-alice' });
  const ids: string[] = [];
  for (let i = 0; i < 7; i += 1) ids.push(await submit(own, nothingFits));
  await own.call('POST', `/v1/jobs/${ids[3]}/cancel`, { headers: ALICE });
  const read = async (filter: string) => {
    const found: string[] = [];
    for (let cursor = ''; ; ) {
      const page = await own.call('GET', `/v1/jobs?limit=3${filter}${cursor}`, { headers: ALICE });
      assert.equal(page.status, 200, page.text);
      found.push(...page.json.items.map(({ job_id }: { job_id: string }) => job_id));
      if (!('next_cursor' in page.json)) return found;
      cursor = `&cursor=${page.json.next_cursor}`;
    }
  };
  const newestFirst = [...ids].sort().reverse();
  assert.deepEqual(await read(''), newestFirst);
  assert.deepEqual(await read('&state=CANCELED'), [ids[3]]);
  assert.deepEqual(
    await read('&state=QUEUED'),
    newestFirst.filter((id) => id !== ids[3]),
  );
});

test('a job runs once: result, receipt, and no second word', async () => {
  await register(replica, 'worker-1');
  const jobId = await submit(replica, { payload: { text: 'hello', n: 1.0 } });
  assert.equal(await pollOnce(replica, 'worker-1', 5), jobId);
  assert.equal((await jobOf(replica, jobId)).state, 'RUNNING');
  const headers = asMiner('worker-1');
  const path = `/v1/miners/${jobId}/result`;
  const other = await replica.call('POST', path, { headers: asMiner('worker-2'), body: { result: {} } });
  assert.equal(other.status, 404);
  const done = await replica.call('POST', path, {
    headers,
    body: '{"result": {"x": 1.50, "big": 1e400000}}',
  });
  assert.equal(done.status, 200, done.text);
  assert.match(done.text, /^\{"status":"ok","receipt":null\}$/);
  for (const verb of ['result', 'fail']) {
    const again = await replica.call('POST', `/v1/miners/${jobId}/${verb}`, {
      headers,
      body: { ...(verb === 'result' ? { result: {} } : {}) },
    });
    assert.equal(again.status, 409, verb);
  }
  const result = await replica.call('GET', `/v1/jobs/${jobId}/result`, { headers: ALICE });
  assert.match(result.text, /"result":\{"x":1\.50,"big":1e400000\}/);
  assert.equal((await replica.call('POST', `/v1/jobs/${jobId}/cancel`, { headers: ALICE })).status, 409);
  assert.equal((await jobOf(replica, jobId)).assigned_miner_id, 'worker-1');
});

test('the time of a job is taken by one clock, whatever that of the replica says', async (t) => {
  await register(replica, 'timed', { region: 'timed' });
  const jobId = await submit(replica, { constraints: { region: 'timed' } });
  assert.equal(await pollOnce(replica, 'timed', 5), jobId);
  const now = Date.now;
  t.mock.method(Date, 'now', () => now() + 3_600_000);
  const path = `/v1/miners/${jobId}/result`;
  const done = await replica.call('POST', path, { headers: asMiner('timed'), body: { result: {} } });
  assert.equal(done.status, 200);
  const page = await replica.call('GET', '/v1/admin/miners?cursor=timec&limit=1', { headers: ROOT });
  assert.equal(page.json.items[0].miner_id, 'timed');
  assert.ok(page.json.items[0].avg_job_duration_ms < 600_000);
});

test('a failed job says why', async () => {
  await register(replica, 'worker-3', { concurrency: 2 });
  const headers = asMiner('worker-3');
  const first = await submit(replica);
  const second = await submit(replica);
  assert.deepEqual(
    [await pollOnce(replica, 'worker-3'), await pollOnce(replica, 'worker-3')],
    [first, second],
  );
  const failed = await replica.call('POST', `/v1/miners/${first}/fail`, {
    headers,
    body: { error_code: 'oom', error_message: 'no memory left', metrics: { peak: 1 } },
  });
  assert.deepEqual(failed.json, { status: 'ok' });
  const told = await replica.call('POST', `/v1/miners/${second}/result`, {
    headers,
    body: { result: { status: 'failed', error: 'bad input' } },
  });
  assert.equal(told.status, 200);
  const results = await Promise.all(
    [first, second].map((id) => replica.call('GET', `/v1/jobs/${id}/result`, { headers: ALICE })),
  );
  assert.deepEqual(results[0]?.json, {
    result: null,
    receipt: null,
    error: { code: 'oom', message: 'no memory left' },
  });
  assert.deepEqual(results[1]?.json.error, { code: 'failed', message: 'bad input' });
  assert.equal((await jobOf(replica, first)).state, 'FAILED');
});

test('cancel ends a queued and a running job; its miner is told with the result', async () => {
  await register(replica, 'worker-4');
  const queued = await submit(replica, nothingFits);
  const answer = await replica.call('POST', `/v1/jobs/${queued}/cancel`, { headers: ALICE });
  assert.equal(answer.json.state, 'CANCELED');
  const running = await submit(replica);
  assert.equal(await pollOnce(replica, 'worker-4'), running);
  assert.equal((await replica.call('POST', `/v1/jobs/${running}/cancel`, { headers: ALICE })).status, 200);
  const late = await replica.call('POST', `/v1/miners/${running}/result`, {
    headers: asMiner('worker-4'),
    body: { result: {} },
  });
  assert.equal(late.status, 409);
  const next = await submit(replica);
  assert.equal(await pollOnce(replica, 'worker-4'), next, 'its place is free again');
  await replica.call('POST', `/v1/miners/${next}/result`, {
    headers: asMiner('worker-4'),
    body: { result: {} },
  });
});

test('jobs expire, queued or running', async () => {
  await register(replica, 'worker-5');
  const running = await submit(replica, { ttl_seconds: 0.5 });
  assert.equal(await pollOnce(replica, 'worker-5'), running);
  const queued = await submit(replica, { ...nothingFits, ttl_seconds: 0.05 });
  await waitFor(async () => (await jobOf(replica, queued)).state === 'EXPIRED');
  await waitFor(async () => (await jobOf(replica, running)).state === 'EXPIRED');
  const late = await replica.call('POST', `/v1/miners/${running}/result`, {
    headers: asMiner('worker-5'),
    body: { result: {} },
  });
  assert.equal(late.status, 409);
  const { error } = (await replica.call('GET', `/v1/jobs/${queued}/result`, { headers: ALICE })).json;
  assert.equal(error.code, 'expired');
});

test('a plan of jobs is not exceeded, however many are submitted at once on whichever replica', async () => {
  const other = await openReplica(h);
  const put = (path: string, body: object) =>
    replica.call('PUT', `/api/billing/${path}`, { headers: ROOT, body });
  await put('plans/six', { limits: { jobs: 6 } });
  await put('tenants/bob', { plan: 'six' });
  const send = (n: number, more: object = nothingFits) =>
    (n % 2 === 0 ? replica : other).call('POST', '/v1/jobs', {
      headers: { ...BOB, 'Idempotency-Key': `quota-${n}` },
      body: { payload: { n }, ...more },
    });
  await register(replica, 'quota', { region: 'quota' });
  const done = await send(0, { constraints: { region: 'quota' } });
  assert.equal(await pollOnce(replica, 'quota'), done.json.job_id);
  const result = `/v1/miners/${done.json.job_id}/result`;
  await replica.call('POST', result, { headers: asMiner('quota'), body: { result: {} } });
  const underWay = (await replica.call('GET', '/v1/jobs?state=QUEUED', { headers: BOB })).json.items.length;
  const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => send(n + 1)));
  const taken = answers.filter(({ status }) => status === 201);
  assert.equal(taken.length + underWay, 5);
  for (const { status, json } of answers)
    if (status !== 201) assert.deepEqual([status, json.error.code], [429, 'quota_exceeded']);
  const repeated = answers.findIndex(({ status }) => status === 201);
  assert.equal((await send(repeated + 1)).json.job_id, answers[repeated]?.json.job_id);
  assert.equal((await send(21)).status, 429);
  // What does not complete is not used.
  await replica.call('POST', `/v1/jobs/${taken[0]?.json.job_id}/cancel`, { headers: BOB });
  assert.deepEqual([(await send(22)).status, (await send(23)).status], [201, 429]);
  await put('tenants/bob', { plan: null });
  assert.equal((await send(24)).status, 201);
  await other.stop();
});
