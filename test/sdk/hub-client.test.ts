import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { HubError } from '../../src/sdk/errors.ts';
import { HubClient } from '../../src/sdk/hub-client.ts';
import { harness, TEST_SECRETS } from '../support/harness.ts';
import { type HubProcess, startHubProcess } from './hub-process.ts';
import { profileOf } from './profiles.ts';

const h = await harness();
let hub: HubProcess;
let client: HubClient;

const clientOf = (url: string, options: { maxAttempts?: number } = {}) =>
  new HubClient({
    urls: [url],
    coordinatorSecret: TEST_SECRETS.COORDINATOR_SHARED_SECRET,
    adminKey: TEST_SECRETS.ADMIN_API_KEY,
    ...options,
  });

before(async () => {
  hub = await startHubProcess(h);
  client = clientOf(hub.url);
});

const failsWith = (code: HubError['code']) => (error: unknown) =>
  error instanceof HubError && error.code === code;

describe('calls of a miner', () => {
  test('register, heartbeat, update, renew, logout', async () => {
    const registered = await client.register(profileOf('life'));
    assert.equal(registered.created, true);
    const token = registered.session_token;
    const beat = await client.heartbeat(token, { queue_len: 1, avg_latency_ms: 33 });
    assert.equal(beat.miner_id, 'life');
    assert.deepEqual(beat.commands, []);
    await client.update(token, { price_token_per_ksec: '0.25', tags: ['changed'] });
    const renewed = await client.renew(token);
    assert.ok(renewed.lease_ttl_sec > 0);
    const detail = await client.getMiner('life');
    assert.deepEqual([detail.price, detail.tags, detail.queue_len], ['0.25', ['changed'], 1]);
    await client.logout(token);
    await assert.rejects(client.getMiner('life'), failsWith('not_found'));
  });

  test('a second logout finds the miner gone, which is what it wanted', async () => {
    const { session_token } = await client.register(profileOf('leaver'));
    await client.logout(session_token);
    await client.logout(session_token);
  });

  test('an unknown session is an error of its own', async () => {
    const { session_token } = await client.register(profileOf('lost'));
    await client.removeMiner('lost');
    await assert.rejects(client.heartbeat(session_token, {}), failsWith('session_unknown'));
  });

  test('a refused request tells every failing path and the request id', async () => {
    const bad = { ...profileOf('bad id!'), max_parallel: 0 };
    await assert.rejects(client.register(bad), (error) => {
      assert.ok(error instanceof HubError);
      assert.equal(error.code, 'invalid');
      assert.equal(error.status, 422);
      assert.ok(error.request_id);
      assert.deepEqual(error.details.map(({ path }) => path).sort(), ['max_parallel', 'miner_id']);
      return true;
    });
  });
});

describe('calls of a coordinator', () => {
  test('match, reserve, confirm, release, explain, feedback', async () => {
    await client.register(profileOf('worker', { capabilities: ['only-here'], max_parallel: 2 }));
    const requirements = { capabilities_any: ['only-here'] };
    const reserve = { count: 1, ttl_ms: 30_000 };
    const first = await client.match({ job_id: 'job-1', requirements, reserve });
    const again = await client.match({ job_id: 'job-1', requirements, reserve });
    const reservation = first.candidates[0]?.reservation_id;
    assert.ok(reservation);
    assert.equal(again.candidates[0]?.reservation_id, reservation);
    await client.confirmReservation(reservation);
    await client.confirmReservation(reservation);
    const other = await client.match({ job_id: 'job-2', requirements, reserve });
    const second = other.candidates[0]?.reservation_id;
    assert.ok(second);
    await client.releaseReservation(second);
    await assert.rejects(client.releaseReservation('0.nosuchreservation000000'), failsWith('not_found'));

    const explained = await client.explain({ job_id: 'job-3', requirements, miner_id: 'worker' });
    assert.equal(explained.miner?.miner_id, 'worker');

    const feedback = { job_id: 'job-1', miner_id: 'worker', outcome: 'completed', latency_ms: 50 } as const;
    const told = await client.feedback(feedback);
    assert.ok(told.status === 'ok' && told.trust_score > 0.5 && !told.duplicate);
    const repeated = await client.feedback(feedback);
    assert.ok(repeated.status === 'ok' && repeated.duplicate);
  });

  test('need the secret', async () => {
    const stranger = new HubClient({ urls: [hub.url] });
    await assert.rejects(stranger.match({ job_id: 'x' }), failsWith('unauthenticated'));
    const wrong = new HubClient({ urls: [hub.url], coordinatorSecret: 'guess' });
    await assert.rejects(wrong.match({ job_id: 'x' }), failsWith('unauthenticated'));
  });
});

describe('calls of an administrator', () => {
  test('keys, commands, drain, resume, price override, list', async () => {
    const { api_key } = await client.createKey('boss');
    const { session_token } = await client.register(profileOf('boss', { api_key, tags: ['managed'] }));
    await assert.rejects(client.register(profileOf('boss')), failsWith('unauthenticated'));
    await client.sendCommand('boss', { name: 'restart', args: { now: true } });
    await client.drain('boss');
    assert.equal((await client.getMiner('boss')).draining, 'admin');
    await client.resume('boss');
    const { commands } = await client.heartbeat(session_token, {});
    assert.deepEqual(
      commands.map(({ name }) => name),
      ['restart', 'resume'],
    );
    await client.setPriceOverride('boss', { price: '9.5' });
    assert.equal((await client.getMiner('boss')).price, '9.5');
    await client.clearPriceOverride('boss');
    assert.notEqual((await client.getMiner('boss')).price, '9.5');
    const page = await client.listMiners({ tag: 'managed' });
    assert.deepEqual(
      page.miners.map(({ miner_id }) => miner_id),
      ['boss'],
    );
  });
});

test('health and metrics', async () => {
  const health = await client.health();
  assert.equal(health.status, 'ok');
  assert.match(await client.metrics(), /poolhub_miners_online/);
});

describe('a hub that goes away', () => {
  test('is waited for: killed and started again, a heartbeat sent meanwhile arrives', async () => {
    const mortal = await startHubProcess(h);
    const patient = clientOf(mortal.url, { maxAttempts: 60 });
    const { session_token } = await patient.register(profileOf('patient'));
    mortal.process.signal('SIGKILL');
    await mortal.process.exited;
    const beat = patient.heartbeat(session_token, { queue_len: 2 });
    await startHubProcess(h, { POOLHUB_PORT: mortal.port });
    assert.equal((await beat).status, 'ok');
  });

  test('fails a call that may not be repeated, and one whose attempts are over', async () => {
    const mortal = await startHubProcess(h);
    const hasty = clientOf(mortal.url, { maxAttempts: 1 });
    await mortal.process.stop();
    await assert.rejects(hasty.health(), failsWith('unreachable'));
    await assert.rejects(clientOf(mortal.url).createKey('nobody'), failsWith('unreachable'));
  });

  test('down for want of Redis is an answer to health, and an error to the rest', async () => {
    const redis = await h.privateRedis();
    const mortal = await startHubProcess(h, { REDIS_URL: redis.url });
    const hasty = clientOf(mortal.url, { maxAttempts: 1 });
    const { session_token } = await hasty.register(profileOf('orphan'));
    await redis.kill();
    assert.equal((await hasty.health()).status, 'down');
    await assert.rejects(
      hasty.heartbeat(session_token, {}),
      (error) => failsWith('unavailable')(error) && (error as HubError).retryAfterMs !== undefined,
    );
    // Redis comes back empty: the session is gone with it.
    await redis.start();
    const patient = clientOf(mortal.url, { maxAttempts: 60 });
    await assert.rejects(patient.heartbeat(session_token, {}), failsWith('session_unknown'));
  });
});
