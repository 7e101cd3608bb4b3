import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import postgres from 'postgres';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { ALICE, asMiner, jobOf, openReplica, pollOnce, type Replica, register, submit } from './replica.ts';

const h = await harness();
let one: Replica;
let two: Replica;
before(async () => {
  const settings = { POLL_MAX_WAIT_SEC: '2' };
  [one, two] = await Promise.all([openReplica(h, settings), openReplica(h, settings)]);
});

/** Jobs for the miners of one test only. */
const inRegion = (region: string) => ({ constraints: { region } });

const held = async (replica: Replica) => (await replica.call('GET', '/health')).json.polls_held;

async function finish(replica: Replica, minerId: string, jobId: string) {
  const path = `/v1/miners/${jobId}/result`;
  return replica.call('POST', path, { headers: asMiner(minerId), body: { result: {} } });
}

test('a held poll is woken by a job that comes in on another replica', async () => {
  await register(one, 'sleeper', { region: 'wake' });
  for (const [poller, submitter] of [
    [one, two],
    [two, one],
    [one, one],
  ] as const) {
    const poll = pollOnce(poller, 'sleeper', 2);
    await waitFor(async () => (await held(poller)) === 1);
    const jobId = await submit(submitter, inRegion('wake'));
    assert.equal(await poll, jobId);
    assert.equal((await finish(submitter, 'sleeper', jobId)).status, 200);
  }
});

test('a poll ends with 204 when its time is over, which is never more than the most', async () => {
  await register(one, 'patient', { region: 'empty' });
  assert.equal(await pollOnce(one, 'patient'), undefined);
  assert.equal(await pollOnce(one, 'patient', 0.05), undefined);
  assert.equal(await pollOnce(one, 'patient', 3600), undefined);
});

test('many miners and jobs on two replicas: each job is given once, none is left', {
  timeout: 60_000,
}, async () => {
  const miners = Array.from({ length: 20 }, (_, i) => `crowd-${i}`);
  await Promise.all(miners.map((id) => register(one, id, { region: 'crowd' })));
  const given: string[] = [];
  const total = 200;
  const work = miners.map(async (minerId, i) => {
    const replica = i % 2 === 0 ? one : two;
    while (given.length < total) {
      const jobId = await pollOnce(replica, minerId, 0.3);
      if (jobId === undefined) continue;
      given.push(jobId);
      assert.equal((await finish(replica, minerId, jobId)).status, 200);
    }
  });
  const submitted = Promise.all(
    Array.from({ length: total }, (_, i) => submit(i % 3 === 0 ? two : one, inRegion('crowd'))),
  );
  const ids = await submitted;
  await Promise.all(work);
  assert.equal(new Set(given).size, total);
  assert.deepEqual([...given].sort(), [...ids].sort());
});

test('a miner never has more than its concurrency, however it polls', async () => {
  await register(one, 'pair', { region: 'pair', concurrency: 2 });
  const ids = await Promise.all(Array.from({ length: 5 }, () => submit(one, inRegion('pair'))));
  const polls = await Promise.all(
    Array.from({ length: 10 }, (_, i) => pollOnce(i % 2 === 0 ? one : two, 'pair')),
  );
  const got = polls.filter((jobId) => jobId !== undefined);
  assert.equal(got.length, 2);
  assert.equal(new Set(got).size, 2);
  assert.equal((await finish(one, 'pair', got[0] as string)).status, 200);
  const next = await pollOnce(two, 'pair');
  assert.ok(next !== undefined && ids.includes(next) && !got.includes(next));
});

test('the oldest job that fits comes first', async () => {
  await register(one, 'small', {
    region: 'order',
    capabilities: { gpus: [{ name: 'T4', memory_mb: 16_384 }] },
  });
  const large = await submit(one, { constraints: { region: 'order', min_vram_gb: 24 } });
  const first = await submit(one, { constraints: { region: 'order', gpu: 't4' } });
  const second = await submit(one, { constraints: { region: 'order', min_vram_gb: 16 } });
  assert.equal(await pollOnce(one, 'small'), first);
  await finish(one, 'small', first);
  assert.equal(await pollOnce(one, 'small'), second);
  await finish(one, 'small', second);
  assert.equal(await pollOnce(one, 'small'), undefined);
  assert.equal((await jobOf(one, large)).state, 'QUEUED');
});

test('a draining miner gets nothing new, finishes, or gives back what it lets go', async () => {
  await register(one, 'drainer', { region: 'drain', concurrency: 2 });
  const headers = asMiner('drainer');
  const ids = [await submit(one, inRegion('drain')), await submit(one, inRegion('drain'))] as const;
  assert.deepEqual([await pollOnce(one, 'drainer'), await pollOnce(one, 'drainer')], ids);
  assert.equal((await one.call('POST', '/v1/miners/drain', { headers })).json.miner_status, 'DRAINING');
  const waiting = await submit(one, inRegion('drain'));
  assert.equal(await pollOnce(two, 'drainer', 0.2), undefined);
  const busy = await one.call('POST', '/v1/miners/heartbeat', { headers, body: { inflight: 2 } });
  assert.equal(busy.json.miner_status, 'DRAINING');
  for (const body of [{ status: 'DRAINING', current_jobs: ids }, { inflight: 0, current_jobs: ids }, {}]) {
    const named = await one.call('POST', '/v1/miners/heartbeat', { headers, body });
    assert.deepEqual(named.json.canceled_jobs, [], 'nothing is taken from one that works, or does not say');
    assert.equal((await jobOf(one, ids[1])).state, 'RUNNING');
  }
  assert.equal((await finish(one, 'drainer', ids[0])).status, 200);
  await one.call('POST', '/v1/miners/heartbeat', { headers, body: { inflight: 0 } });
  assert.equal((await jobOf(one, ids[1])).state, 'QUEUED');
  await register(one, 'drainer', { region: 'drain', concurrency: 2 });
  assert.deepEqual([await pollOnce(one, 'drainer'), await pollOnce(one, 'drainer')], [ids[1], waiting]);
});

test('registering anew gives the jobs of the former session back, and locks its token out', async () => {
  const former = await register(one, 'twice', { region: 'twice' });
  const jobId = await submit(one, inRegion('twice'));
  assert.equal(await pollOnce(one, 'twice'), jobId);
  await register(one, 'twice', { region: 'twice' });
  assert.equal((await jobOf(one, jobId)).state, 'QUEUED');
  const headers = { ...asMiner('twice'), 'X-Session-Token': former };
  for (const [path, body] of [
    ['heartbeat', {}],
    ['poll', {}],
    ['drain', undefined],
  ] as const) {
    const answer = await one.call('POST', `/v1/miners/${path}`, { headers, body });
    assert.equal(answer.status, 401, path);
    assert.equal(answer.json.error.code, 'session_unknown');
  }
  assert.equal(await pollOnce(one, 'twice'), jobId, 'the present session has the same job');
  for (const [verb, body] of [
    ['fail', {}],
    ['result', { result: { status: 'failed' } }],
    ['result', { result: {} }],
  ] as const) {
    const answer = await one.call('POST', `/v1/miners/${jobId}/${verb}`, { headers, body });
    assert.deepEqual([answer.status, answer.json.error?.code], [401, 'session_unknown'], verb);
  }
  assert.equal((await finish(one, 'twice', jobId)).status, 200);
  const stranger = await one.call('POST', '/v1/miners/poll', { headers: asMiner('never-seen'), body: {} });
  assert.equal(stranger.status, 401);
});

test('a held poll of a former session gets nothing any more, and the job goes to the new one', async () => {
  const as = (session: string) => ({ ...asMiner('reborn'), 'X-Session-Token': session });
  const polling = (session: string) =>
    one.call('POST', '/v1/miners/poll', { headers: as(session), body: { max_wait_seconds: 2 } });
  const before = await held(one);
  const former = polling(await register(one, 'reborn', { region: 'reborn' }));
  await waitFor(async () => (await held(one)) === before + 1);
  const session = await register(two, 'reborn', { region: 'reborn' });
  const present = polling(session);
  await waitFor(async () => (await held(one)) === before + 2);
  const jobId = await submit(one, inRegion('reborn'));
  assert.equal((await present).json.job_id, jobId);
  const refused = await former;
  assert.deepEqual([refused.status, refused.json.error.code], [401, 'session_unknown']);
});

test('a miner that hangs up while it polls gets no job', async () => {
  await register(one, 'hasty', { region: 'hasty' });
  const before = await held(one);
  const giveUp = new AbortController();
  const poll = one.call('POST', '/v1/miners/poll', {
    headers: asMiner('hasty'),
    body: { max_wait_seconds: 2 },
    signal: giveUp.signal,
  });
  await waitFor(async () => (await held(one)) === before + 1);
  giveUp.abort();
  await assert.rejects(poll);
  await waitFor(async () => (await held(one)) === before);
  const jobId = await submit(one, inRegion('hasty'));
  assert.equal((await jobOf(one, jobId)).state, 'QUEUED');
  assert.equal(await pollOnce(one, 'hasty'), jobId);
});

test('the payload arrives as it was sent, to the digit', async () => {
  await register(one, 'exact', { region: 'exact' });
  const payload = '{"a":1.0,"big":12345678901234567890,"tiny":1e-999,"text":"\\u0000 ü"}';
  await one.call('POST', '/v1/jobs', {
    headers: ALICE,
    body: `{"payload":${payload},"constraints":{"region":"exact"}}`,
  });
  const poll = await one.call('POST', '/v1/miners/poll', { headers: asMiner('exact'), body: {} });
  assert.equal(poll.status, 200);
  assert.match(poll.text, /"payload":\{"a":1\.0,"big":12345678901234567890,"tiny":1e-999,/);
});

test('a job that was assigned and never sent is found; one that was sent is left alone', async () => {
  const sql = postgres(await h.db(), { max: 1 });
  try {
    await register(one, 'lost', { region: 'lost', concurrency: 2 });
    const [sent, lost] = [await submit(one, inRegion('lost')), await submit(one, inRegion('lost'))];
    assert.deepEqual([await pollOnce(one, 'lost'), await pollOnce(one, 'lost')], [sent, lost]);
    await waitFor(async () => {
      const rows =
        await sql`select 1 from coordinator.jobs where job_id in (${sent}, ${lost}) and delivered_at is not null`;
      return rows.length === 2;
    });
    // As if the process had died before it answered the second poll.
    await sql`update coordinator.jobs set started_at = now() - interval '1 hour' where job_id in (${sent}, ${lost})`;
    await sql`update coordinator.jobs set delivered_at = null where job_id = ${lost}`;
    await waitFor(async () => (await jobOf(one, lost)).state === 'QUEUED');
    assert.equal((await jobOf(one, sent)).state, 'RUNNING');
    assert.equal(await pollOnce(two, 'lost', 2), lost);
    const [row] = await sql`select attempts from coordinator.jobs where job_id = ${lost}`;
    assert.equal(row?.attempts, 1, 'it counts as one attempt');
  } finally {
    await sql.end();
  }
});
