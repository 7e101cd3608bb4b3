import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, describe, test } from 'node:test';
import { readRetryAfter } from '../../src/platform/retry-after.ts';
import { HubError } from '../../src/sdk/errors.ts';
import { HubClient } from '../../src/sdk/hub-client.ts';
import { MinerSession } from '../../src/sdk/miner-session.ts';
import { type Call, Transport } from '../../src/sdk/transport.ts';

/** Answers that a hub cannot be made to give on demand: those of proxies, of limits, of silence. Real servers on real sockets. */
const servers: Server[] = [];
after(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Answers with one status after the other, then with the last for ever; counts the requests. */
async function serveStatuses(
  ...statuses: readonly (readonly [status: number, headers?: Record<string, string>])[]
) {
  const seen: number[] = [];
  const url = await serve((_request, response) => {
    const [status, headers = {}] = statuses[Math.min(seen.length, statuses.length - 1)] as [number];
    seen.push(status);
    response.writeHead(status, headers).end('{"fine":true}');
  });
  return { url, seen };
}

const QUICK = { backoff: { baseMs: 1, capMs: 5 } };
const READ: Call = { method: 'GET', path: '/', idempotent: true };
const ACT: Call = { method: 'POST', path: '/', body: {}, idempotent: false };

const failsWith = (code: HubError['code']) => (error: unknown) =>
  error instanceof HubError && error.code === code;

describe('retries', () => {
  for (const status of [408, 502, 503, 504]) {
    test(`an idempotent call is sent again after ${status}`, async () => {
      const { url, seen } = await serveStatuses([status], [status], [200]);
      const transport = new Transport({ urls: [url], ...QUICK });
      assert.equal(await transport.send(READ), '{"fine":true}');
      assert.equal(seen.length, 3);
    });

    test(`another call is not sent again after ${status}: it may have been done`, async () => {
      const { url, seen } = await serveStatuses([status], [200]);
      const transport = new Transport({ urls: [url], ...QUICK });
      await assert.rejects(transport.send(ACT), failsWith('unavailable'));
      assert.equal(seen.length, 1);
    });
  }

  test('any call is sent again after 429, and Retry-After is waited for', async () => {
    const body = JSON.stringify({ error: { code: 'rate_limited', message: 'slow', request_id: 'r' } });
    const times: number[] = [];
    const url = await serve((_request, response) => {
      times.push(performance.now());
      if (times.length > 1) response.end('{}');
      else response.writeHead(429, { 'Retry-After': '1' }).end(body);
    });
    const transport = new Transport({ urls: [url], ...QUICK });
    await transport.send(ACT);
    const [first = 0, second = 0] = times;
    // Timers may fire up to a millisecond early.
    assert.ok(second - first >= 999, `came back after ${second - first} ms`);
  });

  test('a Retry-After beyond the limit fails the call at once', async () => {
    const { url, seen } = await serveStatuses([503, { 'Retry-After': '3600' }], [200]);
    const transport = new Transport({ urls: [url], ...QUICK });
    await assert.rejects(
      transport.send(READ),
      (error) => failsWith('unavailable')(error) && (error as HubError).retryAfterMs === 3_600_000,
    );
    assert.equal(seen.length, 1);
  });

  test('attempts are bounded', async () => {
    const { url, seen } = await serveStatuses([503]);
    const transport = new Transport({ urls: [url], maxAttempts: 3, ...QUICK });
    await assert.rejects(transport.send(READ), failsWith('unavailable'));
    assert.equal(seen.length, 3);
  });

  test('a refusal is not repeated', async () => {
    const { url, seen } = await serveStatuses([404]);
    await assert.rejects(new Transport({ urls: [url], ...QUICK }).send(READ), failsWith('bad_answer'));
    assert.equal(seen.length, 1);
  });
});

describe('a server that does not answer', () => {
  test('costs the deadline, not more', async () => {
    const url = await serve(() => {});
    const transport = new Transport({ urls: [url], timeoutMs: 50, maxAttempts: 2, ...QUICK });
    await assert.rejects(transport.send(READ), failsWith('timeout'));
  });

  test('the deadline holds for the body too', async () => {
    const url = await serve((_request, response) => {
      response.writeHead(200, { 'Content-Length': '100' });
      response.write('{');
    });
    const transport = new Transport({ urls: [url], timeoutMs: 50, maxAttempts: 1 });
    await assert.rejects(transport.send(READ), failsWith('timeout'));
  });

  test('the next replica is taken when one is gone', async () => {
    const { url: gone } = await serveStatuses([200]);
    const dead = servers.pop();
    await new Promise((resolve) => dead?.close(resolve));
    const { url, seen } = await serveStatuses([200]);
    const transport = new Transport({ urls: [gone, url], ...QUICK });
    await transport.send(READ);
    assert.equal(seen.length, 1);
    assert.equal(transport.url, url);
  });

  test('the caller may give up, also between attempts', async () => {
    const { url } = await serveStatuses([503]);
    const controller = new AbortController();
    const transport = new Transport({
      urls: [url],
      backoff: { baseMs: 60_000, capMs: 60_000 },
      maxRetryAfterMs: 1e9,
    });
    const call = transport.send({ ...READ, signal: controller.signal });
    controller.abort();
    await assert.rejects(call, (error) => (error as Error).name === 'AbortError');
  });
});

test('a redirect is not followed: it could carry a secret elsewhere', async () => {
  const { url: elsewhere, seen } = await serveStatuses([200]);
  const { url } = await serveStatuses([307, { Location: elsewhere }]);
  const transport = new Transport({ urls: [url], maxAttempts: 1 });
  await assert.rejects(transport.send(READ), HubError);
  assert.equal(seen.length, 0);
});

describe('what is no answer of a hub', () => {
  const client = async (status: number, body: string, headers: Record<string, string> = {}) => {
    const url = await serve((_request, response) => response.writeHead(status, headers).end(body));
    return new HubClient({ urls: [url], ...QUICK });
  };
  /** Runs a session until its first trouble. */
  const troubleOf = async (miner: HubClient): Promise<[error: HubError, retryInMs: number]> => {
    const session = new MinerSession({
      client: miner,
      profile: () => ({ miner_id: 'm', api_key: 'k', addr: '127.0.0.1:1', proto: 'grpc' }) as never,
      readings: () => ({ queue_len: 0 }),
      transport: 'http',
      onCommand: () => {},
    });
    const trouble = once(session, 'interrupted');
    const end = session.run();
    const found = (await trouble) as [HubError, number];
    session.stop();
    await end;
    return found;
  };

  for (const body of ['null', '7', '<html>'])
    test(`${body} is a bad answer`, async () => {
      await assert.rejects((await client(200, body)).slaStatus(), failsWith('bad_answer'));
    });

  test('an error of another shape is a bad answer, and details of another shape are left out', async () => {
    const odd = { error: { code: 'invalid', message: { a: 1 } } };
    await assert.rejects((await client(422, JSON.stringify(odd))).slaStatus(), failsWith('bad_answer'));
    const text = { error: { code: 'invalid', message: 'no', details: 'text' } };
    await assert.rejects(
      (await client(422, JSON.stringify(text))).slaStatus(),
      (error) => error instanceof HubError && error.code === 'invalid' && error.details.length === 0,
    );
  });

  test('a miner is not registered by it, and does not beat by it', async () => {
    const [unregistered] = await troubleOf(await client(200, '{}'));
    assert.match(unregistered.message, /session_token/);
    for (const next_heartbeat_sec of [undefined, -5]) {
      const answer = JSON.stringify({ session_token: 't', next_heartbeat_sec });
      const [error] = await troubleOf(await client(200, answer));
      assert.match(error.message, /next_heartbeat_sec/);
    }
  });

  test('a miner that is sent away for months comes back within the hour, not at once', async () => {
    const refusal = { error: { code: 'rate_limited', message: 'slow', request_id: 'r' } };
    const [, retryInMs] = await troubleOf(
      await client(429, JSON.stringify(refusal), { 'Retry-After': '9999999' }),
    );
    assert.ok(retryInMs >= 3_600_000 && retryInMs < 3_601_000, String(retryInMs));
  });
});

test('Retry-After is read as seconds or as a date, an hour at most', () => {
  assert.equal(readRetryAfter('99999999999'), 3_600_000);
  assert.equal(readRetryAfter(new Date(Date.now() + 1e10).toUTCString()), 3_600_000);
  assert.equal(readRetryAfter('7'), 7000);
  assert.equal(readRetryAfter('0'), 0);
  assert.equal(readRetryAfter(new Date(Date.now() - 5000).toUTCString()), 0);
  const inAMinute = readRetryAfter(new Date(Date.now() + 60_000).toUTCString()) ?? 0;
  assert.ok(inAMinute > 50_000 && inAMinute <= 60_000);
  for (const unreadable of [null, undefined, '', 'soon', '-1', 'Mon, nonsense']) {
    assert.equal(readRetryAfter(unreadable), undefined);
  }
});
