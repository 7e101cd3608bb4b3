import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { asMiner, jobOf, openReplica, pollOnce, type Replica, ROOT, register, submit } from './replica.ts';

const h = await harness();
let one: Replica;
let two: Replica;
before(async () => {
  const settings = { JOB_MAX_ATTEMPTS: '2', MINER_OFFLINE_SEC: '3', POLL_MAX_WAIT_SEC: '2' };
  [one, two] = await Promise.all([openReplica(h, settings), openReplica(h, settings)]);
});

const inRegion = (region: string) => ({ constraints: { region } });

async function finish(replica: Replica, minerId: string, jobId: string) {
  const path = `/v1/miners/${jobId}/result`;
  return replica.call('POST', path, { headers: asMiner(minerId), body: { result: {} } });
}

test('jobs of a silent miner go to others, and have failed after JOB_MAX_ATTEMPTS', {
  timeout: 60_000,
}, async () => {
  await register(one, 'silent-1', { region: 'silent' });
  const jobId = await submit(one, inRegion('silent'));
  assert.equal(await pollOnce(one, 'silent-1'), jobId);
  await waitFor(async () => (await jobOf(one, jobId)).state === 'QUEUED');
  assert.equal((await finish(one, 'silent-1', jobId)).status, 404, 'it is not its job any more');
  await register(one, 'silent-2', { region: 'silent' });
  await register(one, 'silent-drained');
  await one.call('POST', '/v1/miners/drain', { headers: asMiner('silent-drained') });
  assert.equal(await pollOnce(two, 'silent-2', 2), jobId);
  await waitFor(async () => (await jobOf(one, jobId)).state === 'FAILED');
  const { error } = await jobOf(one, jobId);
  assert.equal(error.code, 'miner_offline');
  await waitFor(async () => {
    const page = await one.call('GET', '/v1/admin/miners?status=OFFLINE', { headers: ROOT });
    const ids = page.json.items.map(({ miner_id }: { miner_id: string }) => miner_id);
    return ['silent-1', 'silent-2', 'silent-drained'].every((id) => ids.includes(id));
  });
  assert.equal(await pollOnce(one, 'silent-1'), undefined);
  for (const call of ['poll', 'heartbeat', 'drain']) {
    const headers = asMiner('silent-drained');
    const { status } = await one.call('POST', `/v1/miners/${call}`, { headers, body: {} });
    assert.equal(status, 401, 'it drained: it gets jobs again when it has registered again');
  }
});

test('heartbeats keep a miner and its job', { timeout: 60_000 }, async () => {
  await register(one, 'beating', { region: 'beating' });
  const jobId = await submit(one, inRegion('beating'));
  assert.equal(await pollOnce(one, 'beating'), jobId);
  const until = performance.now() + 4000;
  await waitFor(async () => {
    const beat = await two.call('POST', '/v1/miners/heartbeat', {
      headers: asMiner('beating'),
      body: { inflight: 1, status: 'active', metadata: { load: 0.5 } },
    });
    assert.deepEqual(beat.json, { status: 'ok', miner_status: 'ONLINE', canceled_jobs: [] });
    return performance.now() > until;
  });
  assert.equal((await jobOf(one, jobId)).state, 'RUNNING');
  assert.equal((await finish(one, 'beating', jobId)).status, 200);
});
