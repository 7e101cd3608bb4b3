import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keys, shardPrefix } from '../../../src/platform/keys.ts';
import { harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';
import { COORDINATOR, openApp, PROFILE } from './app.ts';

const h = await harness();

test('health counts, and both paths are the same', async () => {
  const app = await openApp(h);
  await app.register('health-1');
  const health = await waitFor(async () => {
    const { status, json } = await app.call('GET', '/v1/health');
    return status === 200 && json.online_miners === 1 ? json : undefined;
  });
  assert.equal(health.status, 'ok');
  assert.equal(health.miners_online, 1);
  assert.equal(health.avg_latency_ms, null, 'nobody has told a latency yet');
  assert.deepEqual([health.redis, health.postgres], ['ok', 'ok']);
  assert.deepEqual(Object.keys((await app.call('GET', '/health')).json), Object.keys(health));
});

test('what the reaper did is counted by the worker that did it, not by each hub as well', async () => {
  const app = await openApp(h);
  await app.deps.redis.hset(keys.stats(shardPrefix(h.prefix, 0)), { reaped: 3, reaper_held: 2 });
  const { text } = await app.call('GET', '/metrics');
  for (const counter of ['removed', 'held_back'])
    assert.match(text, new RegExp(`^poolhub_reaper_${counter}_total 0$`, 'm'));
});

test('draining shows in readiness only', async () => {
  const app = await openApp(h);
  app.state.draining = true;
  const ready = await app.call('GET', '/readyz');
  assert.equal(ready.status, 503);
  assert.deepEqual(ready.json, { status: 'draining' });
  assert.equal(ready.headers.get('Connection'), 'close');
  assert.equal((await app.call('GET', '/livez')).status, 200);
  assert.equal((await app.call('GET', '/v1/health')).status, 200);
});

test('without Postgres the hub is degraded and goes on', { timeout: 60_000 }, async () => {
  // Nobody listens on port 1 of this address.
  const app = await openApp(h, {
    DB_DSN: 'postgres://nobody@127.0.0.1:1/none',
    REDIS_PREFIX: `${h.prefix}-degraded`,
  });
  const health = await app.call('GET', '/v1/health');
  assert.equal(health.status, 200);
  assert.deepEqual([health.json.status, health.json.redis, health.json.postgres], ['degraded', 'ok', 'down']);
  assert.equal((await app.call('GET', '/readyz')).status, 200);
  assert.equal(
    (await app.call('POST', '/v1/match', { headers: COORDINATOR, body: { job_id: 'job' } })).status,
    200,
  );
  const unknownKey = await app.call('POST', '/v1/miners/register', { body: { ...PROFILE, miner_id: 'm' } });
  assert.equal(unknownKey.status, 503);
  assert.equal(unknownKey.json.error.code, 'unavailable');
  assert.ok(Number(unknownKey.headers.get('Retry-After')) >= 1);
});

test('without Redis the hub is down, says so at once, and heals', { timeout: 60_000 }, async () => {
  const redis = await h.privateRedis();
  const app = await openApp(h, { REDIS_URL: redis.url });
  const token = await app.register('heals-1');
  await redis.kill();

  const health = await waitFor(async () => {
    const answer = await app.call('GET', '/v1/health');
    return answer.status === 503 ? answer.json : undefined;
  });
  assert.deepEqual(
    [health.status, health.redis, health.online_miners, health.avg_latency_ms],
    ['down', 'down', null, null],
  );
  assert.equal((await app.call('GET', '/readyz')).status, 503);
  assert.equal((await app.call('GET', '/livez')).status, 200);
  const metrics = (await app.call('GET', '/metrics')).text;
  assert.doesNotMatch(metrics, /^poolhub_miners_online /m, 'unknown is absent, not 0');
  for (const [method, path, options] of [
    ['POST', '/v1/match', { headers: COORDINATOR, body: { job_id: 'job' } }],
    ['POST', '/v1/miners/heartbeat', { body: { session_token: token } }],
  ] as const) {
    const answer = await app.call(method, path, options);
    assert.equal(answer.status, 503, answer.text);
    assert.equal(answer.json.error.code, 'unavailable');
    assert.ok(Number(answer.headers.get('Retry-After')) >= 1);
    assert.doesNotMatch(answer.text, /ECONN|127\.0\.0\.1/);
  }

  await redis.start();
  await waitFor(async () => (await app.call('GET', '/readyz')).status === 200, { timeoutMs: 20_000 });
  const lost = await app.call('POST', '/v1/miners/heartbeat', { body: { session_token: token } });
  assert.equal(lost.json?.error?.code, 'session_unknown', 'the registry was in memory only: register again');
  await app.register('heals-1');
});

test('a Redis that hangs is one that is down', { timeout: 60_000 }, async () => {
  const redis = await h.privateRedis();
  const app = await openApp(h, { REDIS_URL: redis.url });
  const token = await app.register('hangs-1');
  const beat = () => app.call('POST', '/v1/miners/heartbeat', { body: { session_token: token } });
  process.kill(redis.pid(), 'SIGSTOP');
  try {
    const answers = await Promise.all([
      beat(),
      app.call('POST', '/v1/match', { headers: COORDINATOR, body: { job_id: 'job' } }),
      app.call('GET', '/v1/health'),
      app.call('GET', '/readyz'),
    ]);
    assert.deepEqual(
      answers.map((answer) => answer.status),
      [503, 503, 503, 503],
    );
  } finally {
    process.kill(redis.pid(), 'SIGCONT');
  }
  await waitFor(async () => (await beat()).status === 200, { timeoutMs: 20_000 });
});
