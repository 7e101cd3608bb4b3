import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';
import { call, register, startReplica } from './replicas.ts';
import { TestMiner } from './test-miner.ts';

const h = await harness();

test('a miner that sends too fast is closed with 4429', async () => {
  const hub = await startReplica(h, { RATE_LIMIT_HEARTBEAT_PER_SEC: '5' });
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-fast'));
  for (let i = 0; i < 50; i += 1) miner.send({ queue_len: 0 });
  assert.equal((await miner.end()).code, 4429);
  assert.ok(miner.frames.length <= 10, `${miner.frames.length} frames were answered`);
});

test('pings and pongs count as frames', async () => {
  const hub = await startReplica(h, { RATE_LIMIT_HEARTBEAT_PER_SEC: '5' });
  for (const kind of ['ping', 'pong'] as const) {
    const miner = await TestMiner.connect(h, hub, await register(hub, `m-${kind}`));
    for (let i = 0; i < 50; i += 1) miner.socket[kind]();
    assert.equal((await miner.end()).code, 4429, kind);
  }
});

test('a ping is answered', async () => {
  const hub = await startReplica(h);
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-ping'));
  let answer = '';
  miner.socket.on('pong', (data) => {
    answer = String(data);
  });
  miner.socket.ping('there?');
  await waitFor(() => answer === 'there?');
});

test('frames that arrive together are answered one by one, in order', async () => {
  const hub = await startReplica(h);
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-order'));
  for (let ts = 1; ts <= 100; ts += 1) miner.send({ ts, queue_len: ts });
  await waitFor(() => miner.frames.length === 100);
  assert.deepEqual(
    miner.frames.map((frame) => frame.type === 'ack' && frame.ts),
    Array.from({ length: 100 }, (_, i) => i + 1),
  );
  assert.equal(await h.redis.hget(`${h.prefix}:{0}:miner:m-order`, 'queue_len'), '100');
});

test('a replica that holds all the sockets it may refuses more with 503', async () => {
  const hub = await startReplica(h, { WS_MAX_SOCKETS: '2' });
  const token = await register(hub, 'm-full');
  const first = await TestMiner.connect(h, hub, await register(hub, 'm-full-1'));
  await TestMiner.connect(h, hub, await register(hub, 'm-full-2'));
  await assert.rejects(TestMiner.connect(h, hub, token), /503/);
  first.socket.close();
  await first.end();
  const third = await waitFor(() => TestMiner.connect(h, hub, token));
  await third.beat();
});

test('handshakes of one network meet its limit with 429', async () => {
  const hub = await startReplica(h, { RATE_LIMIT_DEFAULT_PER_SEC: '3', TRUSTED_PROXIES: '127.0.0.1' });
  for (const path of ['/v1/miners/heartbeat?session_token=x', '/v1/events']) {
    const shake = async (host: number) => {
      const headers = { 'X-Forwarded-For': `2001:db8::${host}` };
      const socket = new WebSocket(hub.url.replace('http', 'ws') + path, { headers });
      h.cleanup(() => socket.terminate());
      const refused = once(socket, 'unexpected-response').then(([, { statusCode }]) => statusCode as number);
      const opened = new Promise<number>((resolve) => socket.once('open', () => resolve(101)));
      socket.on('error', () => {});
      return Promise.race([refused, opened]);
    };
    const statuses = await Promise.all(Array.from({ length: 20 }, (_, host) => shake(host + 1)));
    const refused = statuses.filter((status) => status === 429);
    assert.ok(refused.length >= 12, `${path}: ${statuses}`);
  }
});

test('a socket whose miner falls silent is dropped when its lease is over', async () => {
  const hub = await startReplica(h, { SESSION_TTL_SEC: '1', REDIS_PREFIX: `${h.prefix}-short` });
  const silent = await TestMiner.connect(h, hub, await register(hub, 'm-silent'));
  const beating = await TestMiner.connect(h, hub, await register(hub, 'm-beating'));
  const pulse = setInterval(() => beating.send({ queue_len: 0 }), 200);
  h.cleanup(() => clearInterval(pulse));
  assert.equal((await silent.end()).code, 4401);
  assert.equal(beating.ended, undefined);
  clearInterval(pulse);
  const { body } = await call(hub, 'GET', '/v1/miners/m-silent');
  assert.equal(body.miner_id, 'm-silent');
});

test('a client that vanishes without a word gives its place back', async () => {
  const hub = await startReplica(h, { SESSION_TTL_SEC: '1', REDIS_PREFIX: `${h.prefix}-short` });
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-half-open'));
  // It neither reads nor answers from now on, as after a cut cable.
  miner.socket.pause();
  await waitFor(async () =>
    /^poolhub_ws_connections 0$/m.test(await (await fetch(`${hub.url}/metrics`)).text()),
  );
});
