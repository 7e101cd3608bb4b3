import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { test } from 'node:test';
import { harness, TEST_SECRETS } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';
import { PROFILE } from './app.ts';

const h = await harness();
const HUB = 'src/bin/hub.ts';
const LISTENING = /"url":"(http:[^"]+)"/;

function startHub(env: Record<string, string>) {
  return h.startProcess(HUB, { env, ready: LISTENING });
}

test('a stopping hub says so, answers what it has begun and exits with 0', { timeout: 60_000 }, async () => {
  const hub = await startHub(await h.env({ LOG_LEVEL: 'info', SHUTDOWN_DRAIN_MS: '2000' }));
  const url = hub.ready[1] as string;
  assert.equal((await fetch(`${url}/readyz`)).status, 200);

  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  let answer = '';
  socket.on('data', (data) => {
    answer += data;
  });
  const body = JSON.stringify({ job_id: 'job-of-a-slow-client' });
  const head = `POST /v1/match HTTP/1.1\r\nHost: x\r\nX-Coordinator-Secret: ${TEST_SECRETS.COORDINATOR_SHARED_SECRET}\r\nContent-Length: ${body.length}\r\n\r\n`;
  socket.write(head + body.slice(0, 5));

  hub.signal('SIGTERM');
  await waitFor(async () => (await fetch(`${url}/readyz`)).status === 503);
  const ended = once(socket, 'close');
  socket.write(body.slice(5));
  await ended;
  assert.match(answer, /^HTTP\/1\.1 200 /);
  assert.match(answer, /connection: close/i);
  assert.deepEqual(await hub.exited, { code: 0, signal: null });
});

test('no secret gets into the log, whatever the log level', { timeout: 60_000 }, async () => {
  const hub = await startHub(await h.env({ LOG_LEVEL: 'trace', MINER_ENROLLMENT: 'open' }));
  const url = hub.ready[1] as string;
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  const registered = await post('/v1/miners/register', {
    ...PROFILE,
    miner_id: 'logged',
    api_key: 'phk_of-the-log-test',
  });
  const { session_token } = (await registered.json()) as { session_token: string };
  await fetch(`${url}/v1/miners/lease/renew?session_token=${session_token}`);
  await post('/v1/miners/heartbeat', { session_token: [session_token] });
  await post(
    '/v1/miners/heartbeat',
    {},
    { Authorization: 'Bearer phk_of-the-log-test', 'X-Miner-ID': 'logged' },
  );
  await post(
    '/v1/match',
    { job_id: session_token, nope: 'phk_of-the-log-test' },
    { 'X-Coordinator-Secret': TEST_SECRETS.COORDINATOR_SHARED_SECRET },
  );
  await post('/v1/match', { job_id: 1 }, { 'X-Coordinator-Secret': 'a-wrong-secret-to-be-kept' });
  await fetch(`${url}/nothing/${session_token}?session_token=${session_token}`);
  await waitFor(() => /"route":"none","status":404/.test(hub.output()));
  for (const secret of [
    session_token,
    'phk_of-the-log-test',
    'a-wrong-secret-to-be-kept',
    ...Object.values(TEST_SECRETS),
  ]) {
    assert.ok(!hub.output().includes(secret), `the log has ${secret}`);
  }
});

async function failsToStart(env: Record<string, string>): Promise<string> {
  const failure = await startHub(env).then(
    () => assert.fail('it started'),
    (error: Error) => error.message,
  );
  assert.match(failure, /ended with 1/);
  assert.doesNotMatch(failure, /\n\s+at /, 'no stack for what the operator can mend');
  return failure;
}

test('a bad setting stops the start by its name, without its value', { timeout: 60_000 }, async () => {
  const env = await h.env({ SESSION_TTL_SEC: 'soon', API_KEY_PEPPER: 'hunter2' });
  const failure = await failsToStart(env);
  assert.match(
    failure,
    /SESSION_TTL_SEC must be a whole number\nAPI_KEY_PEPPER must have|API_KEY_PEPPER must have[^\n]*\nSESSION_TTL_SEC must be a whole number/,
  );
  assert.doesNotMatch(failure, /hunter2/);
});

test('without secrets nothing starts', { timeout: 60_000 }, async () => {
  const { COORDINATOR_SHARED_SECRET, ADMIN_API_KEY, ...rest } = await h.env();
  const failure = await failsToStart(rest);
  assert.match(failure, /COORDINATOR_SHARED_SECRET is required/);
  assert.match(failure, /ADMIN_API_KEY is required/);
});

test('a taken port is one clear line', { timeout: 60_000 }, async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  h.cleanup(() => other.close());
  const { port } = other.address() as AddressInfo;
  assert.match(
    await failsToStart(await h.env({ POOLHUB_PORT: String(port) })),
    new RegExp(`port ${port} on 127.0.0.1 is taken`),
  );
});
