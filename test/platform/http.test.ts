import assert from 'node:assert/strict';
import type { Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { test } from 'node:test';
import { AppError } from '../../src/platform/errors.ts';
import { closeServer, createHttpApp, createHttpServer, listen } from '../../src/platform/http.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { createMetrics } from '../../src/platform/metrics.ts';
import { harness } from '../support/harness.ts';

const h = await harness();
const log = createLogger('silent', 'test');
const config = { ...(await h.config({ DB_DSN: 'postgres://127.0.0.1/unused' })), max_body_bytes: 2048 };

function newApp() {
  const app = createHttpApp({
    config,
    log,
    metrics: createMetrics({ process: false }),
    state: { draining: false },
  });
  app.get('/fails', () => {
    throw new Error('the password is hunter2');
  });
  app.get('/redis', () => {
    throw Object.assign(new Error('connect ECONNREFUSED 10.0.0.7:6379'), { code: 'ECONNREFUSED' });
  });
  app.get('/missing', () => {
    throw new AppError('not_found', 'no such thing');
  });
  app.get('/address', (c) => c.json(c.get('address')));
  app.post('/echo', async (c) => c.text(await c.req.text()));
  return app;
}

async function serve(timeouts?: {
  headersMs: number;
  requestMs: number;
}): Promise<{ url: string; server: Server }> {
  const server = createHttpServer(newApp(), timeouts);
  const url = await listen(server, '127.0.0.1', 0);
  h.cleanup(() => (server.listening ? closeServer(server, 0, log) : undefined));
  return { url, server };
}

/** Writes bytes to a fresh connection and gives what came back until it ended. */
function exchange(server: Server, ...parts: string[]): Promise<string> {
  const { port } = server.address() as AddressInfo;
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let received = '';
    socket.setEncoding('latin1');
    socket.on('data', (text) => {
      received += text;
    });
    socket.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ECONNRESET' || error.code === 'EPIPE' ? resolve(received) : reject(error),
    );
    socket.on('close', () => resolve(received));
    for (const part of parts) socket.write(part);
  });
}

test('a proper request id comes back, any other is replaced', async () => {
  const app = newApp();
  const idFor = async (given: string) =>
    (await app.request('/address', { headers: { 'X-Request-Id': given } })).headers.get('X-Request-Id');
  assert.equal(await idFor('my-request_1'), 'my-request_1');
  for (const bad of ['', 'a b', 'x'.repeat(129), '<script>', 'a;b', '{"a":1}']) {
    assert.match((await idFor(bad)) ?? '', /^[0-9a-f-]{36}$/, bad);
  }
});

test('a defect is a 500 without a word of the inside', async () => {
  const answer = await newApp().request('/fails');
  assert.equal(answer.status, 500);
  const { error } = (await answer.json()) as { error: Record<string, string> };
  assert.deepEqual([error.code, error.message], ['internal', 'internal error']);
});

test('a store that cannot be reached is a 503 with Retry-After', async () => {
  const answer = await newApp().request('/redis');
  assert.equal(answer.status, 503);
  assert.equal(answer.headers.get('Retry-After'), '1');
  assert.doesNotMatch(await answer.text(), /10\.0\.0\.7|ECONN/);
});

test('no path is 404, another method is 405, and a handler may say 404 itself', async () => {
  const app = newApp();
  assert.equal((await app.request('/nothing')).status, 404);
  assert.equal((await app.request('/missing')).status, 404);
  const other = await app.request('/echo', { method: 'DELETE' });
  assert.equal(other.status, 405);
  assert.equal(other.headers.get('Allow'), 'POST');
  const { error } = (await other.json()) as { error: { code: string } };
  assert.equal(error.code, 'not_found');
});

test('answers are never rendered, framed or sniffed', async () => {
  const { headers } = await newApp().request('/address');
  assert.equal(headers.get('X-Content-Type-Options'), 'nosniff');
  assert.equal(headers.get('X-Frame-Options'), 'DENY');
  assert.match(headers.get('Content-Security-Policy') ?? '', /default-src 'none'/);
});

test('bodies at the limit pass and larger ones are 413, told or chunked', async () => {
  const { url } = await serve();
  const send = (bytes: number, chunked: boolean) => {
    const text = 'x'.repeat(bytes);
    const body = chunked ? new Blob([text]).stream() : text;
    return fetch(`${url}/echo`, { method: 'POST', body, duplex: 'half' } as RequestInit);
  };
  for (const chunked of [false, true]) {
    assert.equal((await send(2048, chunked)).status, 200);
    assert.equal((await send(2049, chunked)).status, 413);
    assert.equal((await send(100_000, chunked)).status, 413);
  }
});

test('a body said to be too large is refused before it comes', async () => {
  const { server } = await serve();
  const head = 'POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n';
  assert.match(await exchange(server, head), /^HTTP\/1\.1 413 /);
});

test('headers that come too slowly end the connection', async () => {
  const { server } = await serve({ headersMs: 200, requestMs: 1000 });
  assert.match(await exchange(server, 'GET /address HTTP/1.1\r\nHost: x\r\nX-Slow: '), /^HTTP\/1\.1 408 /);
});

test('a body that comes too slowly ends the connection', async () => {
  const { server } = await serve({ headersMs: 200, requestMs: 400 });
  const answer = await exchange(server, 'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc');
  assert.doesNotMatch(answer, /^HTTP\/1\.1 200 /);
});

test('what is no HTTP, too long a header or a smuggled length is refused', async () => {
  const { server } = await serve();
  const bad = [
    'hello\r\n\r\n',
    `GET /address HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(20_000)}\r\n\r\n`,
    'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n',
    'GET /address HTTP/1.1\r\n\r\n',
  ];
  for (const text of bad) assert.match(await exchange(server, text), /^HTTP\/1\.1 4\d\d /, text.slice(0, 60));
});

test('the address is that of the socket', async () => {
  const { url } = await serve();
  const answer = await fetch(`${url}/address`, { headers: { 'X-Forwarded-For': '203.0.113.1' } });
  assert.equal(await answer.json(), '127.0.0.1');
});

test('closing waits for the request in flight', async () => {
  const { server } = await serve();
  const { port } = server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  let received = '';
  socket.on('data', (data) => {
    received += data;
  });
  const ended = new Promise((resolve) => socket.on('close', resolve));
  const taken = new Promise((resolve) => server.once('request', resolve));
  socket.write('POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe');
  await taken;
  const closed = closeServer(server, 30_000, log);
  socket.write('llo');
  await closed;
  await ended;
  assert.match(received, /^HTTP\/1\.1 200 /);
  assert.match(received, /hello$/);
});

test('closing cuts off a request that does not end', async () => {
  const { server } = await serve();
  const taken = new Promise((resolve) => server.once('request', resolve));
  const answer = exchange(server, 'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe');
  await taken;
  await closeServer(server, 10, log);
  assert.doesNotMatch(await answer, /^HTTP\/1\.1 200 /);
});
