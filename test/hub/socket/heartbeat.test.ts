import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { MinerStore } from '../../../src/hub/miners/store.ts';
import { harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';
import { call, register, startReplica } from './replicas.ts';
import { TestMiner } from './test-miner.ts';

const h = await harness();
const { get } = MinerStore.prototype;
const a = await startReplica(h);
const b = await startReplica(h);

test('a miner registered on one replica beats on the other', async () => {
  const token = await register(a, 'm-other');
  const miner = await TestMiner.connect(h, b, token);
  const ack = await miner.beat({
    queue_len: 2,
    avg_latency_ms: 30,
    temp_c: 61.5,
    current_jobs: ['j1', 'j2'],
  });

  assert.ok(ack.next_heartbeat_sec > 0 && ack.next_heartbeat_sec <= 60);
  assert.match(ack.lease_expires_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.ok(Date.parse(ack.lease_expires_at) > Date.now());
  const stored = await h.redis.hgetall(`${h.prefix}:{0}:miner:m-other`);
  assert.equal(stored.queue_len, '2');
  assert.equal(stored.self_latency_ms, '30');
  assert.equal(stored.temp_c, '61.5');
  assert.equal(stored.current_jobs, '2');
});

test('the token is taken as Bearer and as a subprotocol, which is not sent back', async () => {
  const token = await register(a, 'm-token');
  const byHeader = await TestMiner.connectWith(h, a, { headers: { Authorization: `Bearer ${token}` } });
  await byHeader.beat();
  const byProtocol = await TestMiner.connectWith(h, b, { protocols: ['poolhub', `token.${token}`] });
  assert.equal(byProtocol.socket.protocol, 'poolhub');
  await byProtocol.beat();
});

test('a ts that is text comes back as it is, and none at all is fine', async () => {
  const miner = await TestMiner.connect(h, a, await register(a, 'm-ts'));
  await miner.beat({ ts: 1 });
  miner.send({ ts: '2026-01-31T12:00:00Z', queue_len: 0 });
  miner.send({ queue_len: 0 });
  const acks = await waitFor(() => {
    const found = miner.frames.filter((frame) => frame.type === 'ack');
    return found.length === 3 ? found : undefined;
  });
  assert.deepEqual(
    acks.map((frame) => frame.type === 'ack' && frame.ts),
    [1, '2026-01-31T12:00:00Z', undefined],
  );
});

test('a session that is none closes with 4401', async () => {
  const token = await register(a, 'm-none');
  const forged = `${token.slice(0, -4)}AAAA`;
  for (const query of [`?session_token=${forged}`, '?session_token=x', '?session_token=', '']) {
    const miner = await TestMiner.connectWith(h, a, { query });
    assert.equal((await miner.end()).code, 4401, query);
  }
});

test('registering again closes the socket of the old session with 4409, on any replica', async () => {
  const first = await TestMiner.connect(h, a, await register(a, 'm-again'));
  await first.beat();
  const second = await TestMiner.connect(h, b, await register(b, 'm-again'));
  assert.equal((await first.end()).code, 4409);
  await second.beat();
  assert.equal(second.ended, undefined);
});

test('a replica that missed the notice of another session finds out with the next heartbeat', async () => {
  const miner = await TestMiner.connect(h, a, await register(a, 'm-unnoticed'));
  await miner.beat();
  // As registering again would, but without the notice.
  await h.redis.hset(`${h.prefix}:{0}:miner:m-unnoticed`, 'session', 'digest-of-another-session');
  miner.send({ queue_len: 1 });
  assert.equal((await miner.end()).code, 4409);
});

test('a heartbeat of an old session while its replica looks into the notice ends it with 4409', async (t) => {
  const miner = await TestMiner.connect(h, a, await register(a, 'm-both'));
  await miner.beat();
  const held = new AbortController();
  const looks = t.mock.method(
    MinerStore.prototype,
    'get',
    async function (this: MinerStore, minerId: string) {
      const first = looks.mock.callCount() === 0;
      const hash = await get.call(this, minerId);
      if (first) await once(held.signal, 'abort');
      return hash;
    },
  );
  await h.redis.hset(`${h.prefix}:{0}:miner:m-both`, 'session', 'digest-of-another-session');
  await h.redis.publish(
    `${h.prefix}:control`,
    JSON.stringify({ type: 'replaced', miner_id: 'm-both', session: 'x' }),
  );
  await waitFor(() => looks.mock.callCount() > 0);
  miner.send({ queue_len: 1 });
  assert.equal((await miner.end()).code, 4409);
  held.abort();
});

test('of two sockets of one session on a replica the newer stays', async () => {
  const token = await register(a, 'm-twice');
  const first = await TestMiner.connect(h, a, token);
  await first.beat();
  const second = await TestMiner.connect(h, a, token);
  assert.equal((await first.end()).code, 4409);
  await second.beat();
});

test('a miner that logs out or is removed loses its socket with 4401', async () => {
  const token = await register(a, 'm-leaves');
  const leaving = await TestMiner.connect(h, a, token);
  await leaving.beat();
  await call(b, 'POST', '/v1/miners/logout', { session_token: token });
  assert.equal((await leaving.end()).code, 4401);

  const removed = await TestMiner.connect(h, a, await register(a, 'm-removed'));
  await removed.beat();
  await call(b, 'DELETE', '/v1/miners/m-removed');
  assert.equal((await removed.end()).code, 4401);
});

test('heartbeats over WebSocket count as such, and open sockets are counted', async () => {
  const miner = await TestMiner.connect(h, a, await register(a, 'm-counted'));
  await miner.beat();
  const metrics = await (await fetch(`${a.url}/metrics`)).text();
  assert.match(metrics, /^poolhub_heartbeats_total\{transport="ws"\} [1-9]/m);
  assert.match(metrics, /^poolhub_ws_connections [1-9]/m);
  assert.doesNotMatch(metrics, /m-counted/);
});

test('other paths are 404 with an envelope', async () => {
  const { status, body } = await handshake(`${a.url}/v1/else`);
  assert.equal(status, 404);
  assert.equal(JSON.parse(body).error.code, 'not_found');
});

test('a request that offers h2c is served as plain HTTP, with its body, on a kept connection', async () => {
  const token = await register(a, 'm-h2c');
  const headers = {
    Connection: 'Upgrade, HTTP2-Settings',
    Upgrade: 'h2c',
    'HTTP2-Settings': 'AAMAAABkAARAAAAA',
  };
  const live = await fetchWith(`${a.url}/livez`, 'GET', headers);
  assert.equal(live.status, 200);
  const body = JSON.stringify({ session_token: token, queue_len: 7 });
  const beat = await fetchWith(`${a.url}/v1/miners/heartbeat`, 'POST', headers, body);
  assert.equal(beat.status, 200, beat.body);
  assert.equal(await h.redis.hget(`${h.prefix}:{0}:miner:m-h2c`, 'queue_len'), '7');
});

function handshake(url: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace('http', 'ws'));
    socket.on('error', reject);
    socket.on('unexpected-response', (_request, response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    });
  });
}

function fetchWith(
  url: string,
  method: string,
  headers: Record<string, string>,
  sent = '',
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request(url, { method, headers: { ...headers, 'Content-Length': Buffer.byteLength(sent) } });
    call.on('error', reject);
    call.on('response', (response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    });
    call.end(sent);
  });
}
