import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { before, test } from 'node:test';
import { WebSocket } from 'ws';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { ALICE, asMiner, BOB, openReplica, type Replica, ROOT, register } from './replica.ts';

const h = await harness();
let replica: Replica;
before(async () => {
  replica = await openReplica(h);
});

const JOB = '0'.repeat(32);

/** Every call, who may make it, and a body that it takes. */
const CALLS: readonly [method: string, path: string, role: 'client' | 'miner' | 'admin', body?: object][] = [
  ['POST', '/v1/jobs', 'client', { payload: {}, constraints: { region: 'nowhere' } }],
  ['GET', '/v1/jobs', 'client'],
  ['GET', `/v1/jobs/${JOB}`, 'client'],
  ['GET', `/v1/jobs/${JOB}/result`, 'client'],
  ['GET', `/v1/jobs/${JOB}/events`, 'client'],
  ['GET', `/v1/jobs/${JOB}/receipt`, 'client'],
  ['GET', `/v1/jobs/${JOB}/receipts`, 'client'],
  ['POST', `/v1/jobs/${JOB}/cancel`, 'client'],
  ['POST', '/v1/miners/register', 'miner', { capabilities: {} }],
  ['POST', '/v1/miners/heartbeat', 'miner', {}],
  ['POST', '/v1/miners/poll', 'miner', {}],
  ['POST', '/v1/miners/drain', 'miner'],
  ['POST', `/v1/miners/${JOB}/result`, 'miner', { result: {} }],
  ['POST', `/v1/miners/${JOB}/fail`, 'miner', {}],
  ['GET', '/v1/admin/stats', 'admin'],
  ['GET', '/v1/admin/jobs', 'admin'],
  ['GET', '/v1/admin/miners', 'admin'],
];

const HOLDERS = { client: ALICE, miner: asMiner('m'), admin: ROOT };

for (const [method, path, role, body] of CALLS) {
  test(`${method} ${path} is for the keys of a ${role}`, async () => {
    const nobody = await replica.call(method, path, { body });
    assert.equal(nobody.status, 401);
    assert.equal(nobody.headers.get('WWW-Authenticate'), 'Bearer');
    const stranger = await replica.call(method, path, { body, headers: { 'X-Api-Key': 'a-guess' } });
    assert.equal(stranger.status, 401);
    assert.doesNotMatch(stranger.text, /a-guess/);
    for (const [other, headers] of Object.entries(HOLDERS)) {
      const { status } = await replica.call(method, path, { body, headers });
      if (other === role)
        assert.ok(![401, 403].includes(status) || path.includes('miners'), `${other}: ${status}`);
      else assert.equal(status, 403, other);
    }
    if (body === undefined) return;
    const unreadable = await replica.call(method, path, { body: '{"a', headers: HOLDERS[role] });
    assert.equal(unreadable.status, 400);
    const unknownKey = await replica.call(method, path, {
      body: { ...body, nope: 1 },
      headers: HOLDERS[role],
    });
    assert.equal(unknownKey.status, 422);
    assert.deepEqual(unknownKey.json.error.details, [{ path: 'nope', message: 'unknown key' }]);
  });
}

/** Input that a store would refuse, or read as something else, and the path that the answer names. */
const GARBAGE: readonly [
  method: string,
  path: string,
  headers: Record<string, string>,
  body: string | undefined,
  at: string,
][] = [
  ['POST', '/v1/miners/register', asMiner('nul'), '{"capabilities": {"a": "\\u0000"}}', 'capabilities'],
  ['POST', '/v1/miners/register', asMiner('nul'), '{"capabilities": {"\\ud800": 1}}', 'capabilities'],
  ['POST', '/v1/miners/heartbeat', asMiner('nul'), '{"metadata": {"a": ["\\udfff"]}}', 'metadata'],
  ['POST', '/v1/miners/poll', asMiner('a b'), '{}', 'X-Miner-ID'],
  ['POST', '/v1/jobs', { ...ALICE, 'Idempotency-Key': 'a b' }, '{"payload": {}}', 'Idempotency-Key'],
  ['POST', '/v1/receipts/verify', ALICE, '[]', ''],
  ['GET', '/v1/admin/settlements?cursor=999999999999999.ff', ROOT, undefined, 'cursor'],
];

test('what a store would not take is refused, and the answer names where it is', async () => {
  for (const [method, path, headers, body, at] of GARBAGE) {
    const { status, text, json } = await replica.call(method, path, { headers, body });
    assert.equal(status, 422, `${path} ${body}: ${text}`);
    assert.deepEqual(
      json.error.details.map((detail: { path: string }) => detail.path),
      [at],
    );
  }
  const escaped = { capabilities: { a: '\\u0000', pair: '\u{1f600}' } };
  await replica.call('POST', '/v1/miners/register', { headers: asMiner('kept'), body: escaped });
  const page = await replica.call('GET', '/v1/admin/miners', { headers: ROOT });
  const kept = page.json.items.find(({ miner_id }: { miner_id: string }) => miner_id === 'kept');
  assert.deepEqual(kept.capabilities, escaped.capabilities);
  const receipt = '{"signature": {"alg": "Ed25519", "key_id": "\\u0000", "sig": "a"}}';
  const verified = await replica.call('POST', '/v1/receipts/verify', { headers: ALICE, body: receipt });
  assert.deepEqual([verified.status, verified.json.valid], [200, false]);
});

test('a body that is not UTF-8 is not read as something else', async () => {
  const usage = { resource_type: 'gpu', quantity: 1, unit_price: 1, timestamp: '2026-01-01T00:00:00Z' };
  const calls: [path: string, headers: Record<string, string>, body: object][] = [
    ['/v1/jobs', ALICE, { payload: { a: '?' } }],
    ['/api/billing/usage', ROOT, { ...usage, tenant_id: '?' }],
    ['/v1/receipts/verify', ALICE, { job_id: '?' }],
  ];
  for (const [path, headers, body] of calls) {
    const bytes = Buffer.from(JSON.stringify(body));
    bytes[bytes.indexOf('?')] = 0xff;
    const answer = await fetch(replica.url + path, { method: 'POST', headers, body: bytes });
    assert.equal(answer.status, 400, path);
    assert.match(await answer.text(), /not UTF-8/);
  }
});

test('a key with an id is that miner, whatever it says; a bare key is whom it says, or its digest', async () => {
  const register = (headers: Record<string, string>, query = '') =>
    replica.call('POST', `/v1/miners/register${query}`, { headers, body: { capabilities: {} } });
  await register({ 'X-Api-Key': 'key-of-anchor', 'X-Miner-ID': 'somebody-else' });
  await register({ Authorization: 'Bearer key-of-any-miner' }, '?miner_id=from-query');
  await register({ 'X-Api-Key': 'key-of-any-miner' });
  const page = await replica.call('GET', '/v1/admin/miners', { headers: ROOT });
  const ids: string[] = page.json.items.map(({ miner_id }: { miner_id: string }) => miner_id);
  assert.ok(ids.includes('anchor') && ids.includes('from-query') && !ids.includes('somebody-else'));
  assert.ok(ids.some((id) => /^[0-9a-f]{16}$/.test(id)));
});

const signed = (key: string, body: string, timestamp: string) => ({
  'X-Api-Key': key,
  'X-Timestamp': timestamp,
  'X-Signature': createHmac('sha256', key).update(`${timestamp}.${body}`).digest('hex'),
});

test('a signed call is taken once, on any replica, and only near its time', async () => {
  const second = await openReplica(h);
  const body = JSON.stringify({ payload: {}, constraints: { region: 'nowhere' } });
  const post = (on: Replica, headers: Record<string, string>, text = body) =>
    on.call('POST', '/v1/jobs', { headers, body: text });
  const good = signed('key-of-alice', body, String(Date.now()));
  assert.equal((await post(replica, good)).status, 201);
  const replay = await post(second, good);
  assert.equal(replay.status, 409);
  assert.equal((await post(replica, signed('key-of-alice', body, String(Date.now() / 1000)))).status, 201);
  const now = String(Date.now());
  const wrong: Record<string, string>[] = [
    signed('key-of-alice', body, String(Date.now() - 301_000)),
    signed('key-of-alice', body, String(Date.now() + 301_000)),
    signed('key-of-alice', `${body} `, now),
    { ...signed('key-of-alice', body, now), 'X-Timestamp': String(Date.now() + 1) },
    { ...signed('key-of-bob', body, now), 'X-Api-Key': 'key-of-alice' },
    { ...good, 'X-Timestamp': 'now' },
    { ...ALICE, 'X-Signature': 'zz', 'X-Timestamp': now },
    {
      ...signed('key-of-alice', body, now),
      'X-Signature': `${signed('key-of-alice', body, now)['X-Signature']}zz`,
    },
  ];
  for (const headers of wrong)
    assert.equal((await post(replica, headers)).status, 401, JSON.stringify(headers));
  const marked = `\ufeff${body}`;
  const { 'X-Signature': lower, ...others } = signed('key-of-alice', marked, now);
  const headers = { ...others, 'X-Signature': `sha256=${lower.toUpperCase()}` };
  const ofBytes = await fetch(`${replica.url}/v1/jobs`, { method: 'POST', headers, body: marked });
  assert.equal(ofBytes.status, 201, 'a byte order mark is one of the bytes that are signed');
  const read = signed('key-of-alice', '', String(Date.now()));
  for (let i = 0; i < 2; i += 1) {
    assert.equal(
      (await replica.call('GET', '/v1/jobs', { headers: read })).status,
      200,
      'reading twice does no harm',
    );
  }
});

test('with SIGNATURES=required nothing goes without', async () => {
  const strict = await openReplica(h, { SIGNATURES: 'required' });
  assert.equal((await strict.call('GET', '/v1/jobs', { headers: ALICE })).status, 401);
  const headers = signed('key-of-alice', '', String(Date.now()));
  assert.equal((await strict.call('GET', '/v1/jobs', { headers })).status, 200);
});

test('each key has a rate limit of its own', async () => {
  const slow = await openReplica(h, { RATE_LIMIT_CLIENT_PER_SEC: '3', RATE_LIMIT_MINER_PER_SEC: '1000' });
  const calls = await Promise.all(
    Array.from({ length: 20 }, () => slow.call('GET', '/v1/jobs', { headers: ALICE })),
  );
  const refused = calls.filter(({ status }) => status === 429);
  assert.ok(refused.length >= 10 && refused.length < 20, `${refused.length}`);
  assert.equal(refused[0]?.json.error.code, 'rate_limited');
  assert.ok(Number(refused[0]?.headers.get('Retry-After')) >= 1);
  assert.equal((await slow.call('GET', '/v1/jobs', { headers: BOB })).status, 200);
  await register(slow, 'not-limited');
});

test('made-up keys and signatures count together for their network, on streams too', async () => {
  const limits = { RATE_LIMIT_CLIENT_PER_SEC: '5', TRUSTED_PROXIES: '127.0.0.1' };
  const slow = await openReplica(h, limits);
  const from = (n: number) => ({ 'X-Forwarded-For': `192.0.2.${n}` });
  const guesses: ((guess: number) => Promise<number>)[] = [
    async (guess) =>
      (await slow.call('GET', '/v1/jobs', { headers: { 'X-Api-Key': `guess-${guess}`, ...from(1) } })).status,
    async (guess) => {
      const signature = {
        'X-Signature': guess.toString(16).padStart(64, '0'),
        'X-Timestamp': `${Date.now()}`,
      };
      return (await slow.call('GET', '/v1/jobs', { headers: { ...BOB, ...signature, ...from(2) } })).status;
    },
    async (guess) => {
      const headers = { 'X-Api-Key': `guess-${guess}`, ...from(3) };
      const socket = new WebSocket(`${slow.url.replace('http', 'ws')}/v1/jobs/stream`, { headers });
      socket.on('error', () => {});
      const [, { statusCode }] = await once(socket, 'unexpected-response');
      socket.terminate();
      return statusCode;
    },
  ];
  for (const guessed of guesses) {
    let guess = 0;
    await waitFor(async () => {
      const answers = await Promise.all(Array.from({ length: 20 }, () => guessed(guess++)));
      assert.ok(
        answers.every((status) => status === 401 || status === 429),
        `${answers}`,
      );
      return answers.includes(429);
    });
  }
  assert.equal((await slow.call('GET', '/v1/jobs', { headers: { ...ALICE, ...from(4) } })).status, 200);
  const again = () => slow.call('GET', '/v1/jobs', { headers: { ...ALICE, ...from(1) } });
  await waitFor(async () => (await again()).status === 200, { what: 'the network is heard again' });
});
