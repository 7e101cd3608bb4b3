import assert from 'node:assert/strict';
import { test } from 'node:test';
import { harness } from '../../support/harness.ts';
import { ADMIN, COORDINATOR, openApp } from './app.ts';

const h = await harness();
const body = { job_id: 'job' };

test('secrets may be rotated: each of a list is good', async () => {
  const app = await openApp(h, { COORDINATOR_SHARED_SECRET: 'the-old-secret-of-all, the-new-secret-of-all' });
  for (const secret of ['the-old-secret-of-all', 'the-new-secret-of-all']) {
    for (const headers of [
      { 'X-Coordinator-Secret': secret },
      { Authorization: `Bearer ${secret}` },
      { authorization: `bearer ${secret}` },
    ]) {
      assert.equal(
        (await app.call('POST', '/v1/match', { headers, body })).status,
        200,
        JSON.stringify(headers),
      );
    }
  }
  const both = { headers: { 'X-Coordinator-Secret': 'the-old-secret-of-all, the-new-secret-of-all' }, body };
  assert.equal((await app.call('POST', '/v1/match', both)).status, 401);
});

test('coordinators call from the allowlist only; administrators from anywhere', async () => {
  const app = await openApp(h, {
    COORDINATOR_ALLOWLIST: '198.51.100.0/24, 2001:db8::/32',
    TRUSTED_PROXIES: '10.0.0.0/8',
  });
  const status = async (from: string, headers: Record<string, string>) =>
    (await app.call('POST', '/v1/match', { from, headers, body })).status;
  assert.equal(await status('198.51.100.9', COORDINATOR), 200);
  assert.equal(await status('::ffff:198.51.100.9', COORDINATOR), 200);
  assert.equal(await status('2001:db8:1::9', COORDINATOR), 200);
  assert.equal(await status('203.0.113.9', COORDINATOR), 403);
  assert.equal(
    await status('203.0.113.9', { 'X-Coordinator-Secret': 'a-guess' }),
    403,
    'a guess must learn nothing',
  );
  assert.equal(await status('198.51.100.9', { 'X-Coordinator-Secret': 'a-guess' }), 401);
  assert.equal(await status('203.0.113.9', { ...COORDINATOR, 'X-Forwarded-For': '198.51.100.9' }), 403);
  assert.equal(await status('10.1.1.1', { ...COORDINATOR, 'X-Forwarded-For': '198.51.100.9' }), 200);
  assert.equal(
    await status('10.1.1.1', { ...COORDINATOR, 'X-Forwarded-For': '198.51.100.9, 203.0.113.9' }),
    403,
  );
  const list = await app.call('GET', '/v1/miners', { from: '203.0.113.9', headers: ADMIN });
  assert.equal(list.status, 200);
});

test('closed enrollment takes only enrolled miners with their own key', async () => {
  const app = await openApp(h, { MINER_ENROLLMENT: 'closed' });
  await assert.rejects(app.register('closed-1'), /401/);
  const { json } = await app.call('POST', '/v1/miners/closed-1/keys', { headers: ADMIN });
  await assert.rejects(app.register('closed-1', { api_key: 'not-this-one' }), /401/);
  const token = await app.register('closed-1', { api_key: json.api_key });
  await assert.rejects(app.register('closed-1', { api_key: 'not-this-one' }), /401/);
  const beat = await app.call('POST', '/v1/miners/heartbeat', { body: { session_token: token } });
  assert.equal(beat.status, 200, 'the refused registration must not end the session');
});

test('a miner of the earlier protocol beats with its key', async () => {
  const app = await openApp(h);
  await app.register('alias-1', { api_key: 'key-of-alias-1' });
  const beat = (headers: Record<string, string>, extra: object = {}) =>
    app.call('POST', '/v1/miners/heartbeat', {
      headers,
      body: {
        status: 'active',
        current_jobs: 1,
        network_latency_ms: 42,
        memory_used: 6,
        memory_total: 24,
        ...extra,
      },
    });
  const byBody = await beat({ Authorization: 'Bearer key-of-alias-1' }, { miner_id: 'alias-1' });
  assert.equal(byBody.status, 200, byBody.text);
  assert.equal(byBody.json.success, true);
  const byHeader = await beat({ Authorization: 'Bearer key-of-alias-1', 'X-Miner-ID': 'alias-1' });
  assert.equal(byHeader.status, 200, byHeader.text);
  assert.equal((await beat({ Authorization: 'Bearer key-of-alias-1' })).status, 401);
  assert.equal((await beat({ Authorization: 'Bearer another-key', 'X-Miner-ID': 'alias-1' })).status, 401);
  const { json } = await app.call('GET', '/v1/miners/alias-1', { headers: ADMIN });
  const { queue_len, current_jobs, latency_ms, mem_free_gb, busy } = json;
  assert.deepEqual(
    { queue_len, current_jobs, latency_ms, mem_free_gb, busy },
    { queue_len: 1, current_jobs: 1, latency_ms: 42, mem_free_gb: 18, busy: false },
  );
});

test('registering again ends the session before', async () => {
  const app = await openApp(h);
  const first = await app.register('again-1');
  const second = await app.register('again-1');
  const renew = (token: string) => app.call('GET', `/v1/miners/lease/renew?session_token=${token}`);
  assert.equal((await renew(first)).json.error.code, 'session_unknown');
  assert.equal((await renew(second)).status, 200);
  const logout = await app.call('POST', '/v1/miners/logout', { body: { session_token: second } });
  assert.equal(logout.status, 200);
  assert.equal((await renew(second)).status, 401);
  assert.equal((await app.call('GET', '/v1/miners/again-1', { headers: ADMIN })).status, 404);
});
