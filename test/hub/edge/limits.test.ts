import assert from 'node:assert/strict';
import { test } from 'node:test';
import { harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';
import { ADMIN, COORDINATOR, openApp, PROFILE, type TestApp } from './app.ts';

const h = await harness();

/** More than any clock can let through in the moment that it takes. */
const FLOOD = 60;

async function flood(apps: TestApp[], count: number, from: string): Promise<number[]> {
  const calls = Array.from({ length: count }, (_, i) =>
    (apps[i % apps.length] as TestApp).call('POST', '/v1/match', {
      headers: COORDINATOR,
      from,
      body: { job_id: `job-${i}` },
    }),
  );
  return (await Promise.all(calls)).map((answer) => answer.status);
}

const passed = (statuses: readonly number[]) => statuses.filter((status) => status === 200).length;

test('two replicas count a client together', async () => {
  const settings = { RATE_LIMIT_MATCH_PER_SEC: '5' };
  const apps = [await openApp(h, settings), await openApp(h, settings)];
  let client = 0;
  // Together: five, a burst of five, and five more should the second turn meanwhile. Apart they would let through at least twenty.
  await waitFor(async () => {
    client += 1;
    const statuses = await flood(apps, FLOOD, `192.0.2.${100 + (client % 100)}`);
    assert.ok(passed(statuses) >= 10, statuses.join());
    assert.ok(
      statuses.every((status) => status === 200 || status === 429),
      statuses.join(),
    );
    return passed(statuses) <= 15;
  });
});

test('a refusal says when to come back, and other clients are not in it', async () => {
  const app = await openApp(h, { RATE_LIMIT_MATCH_PER_SEC: '1' });
  const match = (from: string) =>
    app.call('POST', '/v1/match', { headers: COORDINATOR, from, body: { job_id: 'job' } });
  const refusal = await waitFor(async () => {
    const answer = await match('192.0.2.21');
    return answer.status === 429 ? answer : undefined;
  });
  assert.equal(refusal.json.error.code, 'rate_limited');
  assert.ok(Number(refusal.headers.get('Retry-After')) >= 1);
  assert.equal(refusal.headers.get('RateLimit-Limit'), '1');
  assert.equal(refusal.headers.get('RateLimit-Remaining'), '0');
  assert.ok(Number(refusal.headers.get('RateLimit-Reset')) >= 1);
  assert.equal((await match('192.0.2.22')).status, 200);
  const metrics = (await app.call('GET', '/metrics')).text;
  assert.match(metrics, /poolhub_rate_limited_total\{route="match"\} [1-9]/);
  // In the end the window turns and the client is welcome again.
  await waitFor(async () => (await match('192.0.2.21')).status === 200);
});

test('routes are counted apart, and strangers before their body is read', async () => {
  const app = await openApp(h, { RATE_LIMIT_REGISTER_PER_SEC: '1' });
  const from = '192.0.2.23';
  await waitFor(
    async () => (await app.call('POST', '/v1/miners/register', { from, body: '{' })).status === 429,
  );
  assert.equal((await app.call('GET', '/v1/miners', { from, headers: ADMIN })).status, 200);
});

test('heartbeats are counted per session', async () => {
  const app = await openApp(h, { RATE_LIMIT_HEARTBEAT_PER_SEC: '2' });
  const [one, two] = [await app.register('limit-1'), await app.register('limit-2')];
  const beat = (session_token: string) =>
    app.call('POST', '/v1/miners/heartbeat', { body: { session_token } });
  await waitFor(async () => (await beat(one)).status === 429);
  assert.equal((await beat(two)).status, 200);
});

test('guesses of a key count together, and leave the miner its own', async () => {
  const app = await openApp(h, { RATE_LIMIT_HEARTBEAT_PER_SEC: '2' });
  const token = await app.register('guessed-1');
  let guess = 0;
  await waitFor(async () => {
    guess += 1;
    const headers = { Authorization: `Bearer guess-${guess}`, 'X-Miner-ID': 'guessed-1' };
    return (await app.call('POST', '/v1/miners/heartbeat', { headers, body: {} })).status === 429;
  });
  assert.equal(
    (await app.call('POST', '/v1/miners/heartbeat', { body: { session_token: token } })).status,
    200,
  );
});

test('made-up secrets, tokens and keys count together for their network, whatever they name', async () => {
  const app = await openApp(h, { RATE_LIMIT_DEFAULT_PER_SEC: '5' });
  const token = await app.register('guessed-2');
  const made = `phs_${Buffer.from('nobody').toString('base64url')}.${'A'.repeat(38)}`;
  const guesses: ((guess: number) => [path: string, headers: Record<string, string>])[] = [
    (guess) => ['/v1/match', { 'X-Coordinator-Secret': `guess-${guess}` }],
    (guess) => ['/v1/miners/heartbeat', { Authorization: `Bearer ${made}${10_000 + guess}` }],
    (guess) => ['/v1/miners/heartbeat', { Authorization: 'Bearer key', 'X-Miner-ID': `miner-${guess}` }],
    (guess) => ['/v1/miners/update', { Authorization: `Bearer ${made}${10_000 + guess}` }],
  ];
  for (const [i, guessed] of guesses.entries()) {
    const from = `192.0.2.${30 + i}`;
    let guess = 0;
    const refusal = await waitFor(async () => {
      const calls = Array.from({ length: 20 }, () => {
        guess += 1;
        const [path, headers] = guessed(guess);
        return app.call('POST', path, { headers, body: {}, from });
      });
      const answers = await Promise.all(calls);
      assert.ok(answers.every(({ status }) => status === 401 || status === 429));
      return answers.find(({ status }) => status === 429);
    });
    assert.equal(refusal.json.error.code, 'rate_limited');
  }
  const other = { body: { session_token: token }, from: '192.0.2.29' };
  assert.equal((await app.call('POST', '/v1/miners/heartbeat', other)).status, 200);
  // When the second is over the network is heard again.
  const same = { ...other, from: '192.0.2.31' };
  await waitFor(async () => (await app.call('POST', '/v1/miners/heartbeat', same)).status === 200);
});

test('while Redis is down each replica counts for itself, and Redis counts again when it is back', {
  timeout: 60_000,
}, async () => {
  const redis = await h.privateRedis();
  const settings = { REDIS_URL: redis.url, RATE_LIMIT_REGISTER_PER_SEC: '3' };
  const apps = [await openApp(h, settings), await openApp(h, settings)];
  const from = '192.0.2.24';
  const register = (app: TestApp, id: string) =>
    app.call('POST', '/v1/miners/register', { from, body: { ...PROFILE, miner_id: id } });
  assert.equal((await register(apps[0] as TestApp, 'outage-1')).status, 200);

  await redis.kill();
  for (const app of apps) {
    const statuses: number[] = [];
    for (let i = 0; i < FLOOD && !statuses.includes(429); i++)
      statuses.push((await register(app, `outage-${i}`)).status);
    assert.equal(statuses.at(-1), 429, statuses.join());
    assert.ok(
      statuses.slice(0, -1).every((status) => status === 503),
      statuses.join(),
    );
  }

  await redis.start();
  for (const app of apps) {
    await waitFor(async () => (await register(app, 'outage-2')).status === 200, { timeoutMs: 20_000 });
  }
});

test('a shard that is full of distinct terms takes those it knows, and says which field brings a new one', async () => {
  const max = 100;
  const prefix = `${h.prefix}-terms`;
  const app = await openApp(h, { REDIS_PREFIX: prefix, REDIS_SHARDS: '1', MAX_TERMS_PER_SHARD: String(max) });
  const terms = () => app.deps.redis.hlen(`${prefix}:{0}:terms`);
  const namesOf = (kind: string, count: number) => Array.from({ length: count }, (_, i) => `${kind}-${i}`);
  const register = (miner_id: string, more: object = {}) =>
    app.call('POST', '/v1/miners/register', { body: { ...PROFILE, miner_id, ...more } });
  await app.register('first');
  await app.register('second', { capabilities: namesOf('capability', max - 1 - (await terms())) });
  await app.register('third', { capabilities: ['only of the third'] });
  assert.equal(await terms(), max);

  assert.equal((await register('first')).status, 200, 'unchanged');
  assert.equal((await register('fourth', { gpu_vram: 80, ram_gb: 512 })).status, 200, 'sizes are no terms');
  assert.equal((await register('third', { capabilities: ['another'] })).status, 200, 'one goes, one comes');
  const refusals = [
    ['capabilities', await register('fifth', { capabilities: ['new'] })],
    ['gpu_name', await register('first', { gpu_name: 'RTX 6000' })],
    ['region', await register('first', { region: 'mars' })],
    [
      'tags',
      await app.call('POST', '/v1/miners/update', {
        body: {
          session_token: (await register('first')).json.session_token,
          tags: ['new'],
          price_token_per_ksec: 9,
        },
      }),
    ],
  ] as const;
  for (const [path, { status, json }] of refusals) {
    assert.equal(status, 409, path);
    assert.deepEqual(
      [json.error.code, json.error.details?.map((detail: { path: string }) => detail.path)],
      ['conflict', [path]],
    );
  }
  assert.equal((await app.deps.miners.get('first'))?.base_price, '0.5', 'all or nothing');
  assert.equal(await terms(), max);
});
