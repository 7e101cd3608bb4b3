import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';
import { register, startReplica } from './replicas.ts';
import { TestMiner } from './test-miner.ts';

const h = await harness();
const hub = await startReplica(h, { RATE_LIMIT_HEARTBEAT_PER_SEC: '1000000' });

const stored = (minerId: string) => h.redis.hgetall(`${h.prefix}:{0}:miner:${minerId}`);

test('bad frames are told apart and change nothing; a good one forgives them', async () => {
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-bad'));
  await miner.beat({ queue_len: 3 });
  const before = await stored('m-bad');
  const bad: [string, string][] = [
    ['{', 'bad_json'],
    ['', 'bad_json'],
    ['[]', 'invalid'],
    ['null', 'invalid'],
    ['{"queue_len":-1}', 'invalid'],
    ['{"queue_len":9,"surprise":1}', 'invalid'],
    ['{"queue_len":9,"__proto__":{"busy":true}}', 'invalid'],
    ['{"queue_len":1e999}', 'invalid'],
    ['{"queue_len":9,"ack":["*"]}', 'invalid'],
    [`{"queue_len":${'['.repeat(5000)}${']'.repeat(5000)}}`, 'bad_json'],
  ];
  for (const [frame, code] of bad) {
    const seen = miner.errors.length;
    miner.socket.send(frame);
    const error = await waitFor(() => miner.errors[seen], { what: frame.slice(0, 60) });
    assert.equal(error.code, code, frame.slice(0, 60));
    assert.match(error.request_id, /^[\w=-]+$/);
    assert.deepEqual(await stored('m-bad'), before);
    await miner.beat();
    Object.assign(before, await stored('m-bad'));
  }
});

test('a binary frame is a bad frame, and the third bad one in a row closes', async () => {
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-binary'));
  miner.socket.send(Buffer.from('{"queue_len":1}'));
  miner.socket.send('nonsense');
  miner.socket.send(Buffer.alloc(3));
  assert.equal((await miner.end()).code, 1008);
  assert.deepEqual(
    miner.errors.map((error) => error.code),
    ['invalid', 'bad_json', 'invalid'],
  );
});

test('a frame that is too large closes with 1009', async () => {
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-large'));
  miner.send({ ts: 'x'.repeat(20_000) });
  assert.equal((await miner.end()).code, 1009);
});

test('text that is not UTF-8 closes with 1007', async () => {
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-utf8'));
  miner.socket.send(Buffer.from([0x7b, 0xff, 0xfe]), { binary: false });
  assert.equal((await miner.end()).code, 1007);
});

test('a client that does not read is cut off, not buffered', async () => {
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-deaf'));
  await miner.beat();
  miner.socket.pause();
  // What the hub answers fills the buffers of the network first.
  const payload = Buffer.alloc(125);
  const cut = async () => /poolhub_ws_closed_total\{code="1006"\} [1-9]/.test(await metrics(hub.url));
  await waitFor(
    async () => {
      for (let i = 0; i < 5_000; i += 1) miner.socket.ping(payload);
      return cut();
    },
    { timeoutMs: 60_000, what: 'the hub to cut off a client that does not read' },
  );
  miner.socket.resume();
  assert.equal((await miner.end()).code, 1006);
});

test('hostile frames never break the hub, and never change anything', async () => {
  const token = await register(hub, 'm-fuzzed');
  let miner = await TestMiner.connect(h, hub, token);
  await miner.beat();
  const frames = fc.oneof(
    fc.json(),
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.jsonValue().map((value) => JSON.stringify({ queue_len: value, ts: 1 })),
    fc
      .dictionary(
        fc.constantFrom('queue_len', 'busy', 'ts', 'ack', 'temp_c', '__proto__', 'x'),
        fc.jsonValue(),
      )
      .map((value) => JSON.stringify(value)),
    fc.string().map((text) => JSON.stringify({ ts: text, ack: [text], current_jobs: [text, '*', '\r\n'] })),
    fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
  );
  await fc.assert(
    fc.asyncProperty(frames, async (frame) => {
      if (miner.ended !== undefined) miner = await TestMiner.connect(h, hub, token);
      const before = await stored('m-fuzzed');
      const seen = miner.frames.length;
      miner.socket.send(frame);
      const answer = await waitFor(() => miner.frames[seen] ?? miner.ended, {
        what: 'an answer',
        intervalMs: 2,
      });
      if ('type' in answer && answer.type === 'ack') return;
      if ('type' in answer && answer.type === 'error') {
        assert.ok(['bad_json', 'invalid'].includes(answer.error.code), answer.error.code);
      } else assert.fail(`the hub sent ${JSON.stringify(answer)}`);
      assert.deepEqual(await stored('m-fuzzed'), before);
      // So that the third bad frame in a row does not close the socket while the next one is on its way.
      await miner.beat();
    }),
    { numRuns: 300 },
  );
});

test('hostile handshakes are refused or closed with 4401', async () => {
  const token = await register(hub, 'm-handshake');
  const tokens = fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 300 }),
    fc.string({ unit: fc.constantFrom('phs_', '.', 'A', '*', '\r\n', '\0', '__proto__'), maxLength: 40 }),
    fc.nat(token.length - 1).map((at) => token.slice(0, at)),
  );
  await fc.assert(
    fc.asyncProperty(tokens, async (text) => {
      const query = `?session_token=${encodeURIComponent(text)}`;
      const miner = await TestMiner.connectWith(h, hub, { query });
      assert.equal((await miner.end()).code, 4401);
    }),
    { numRuns: 60 },
  );

  const upgrade = 'Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n';
  const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
  const odd: [string, number][] = [
    [`GET //v1/miners/heartbeat HTTP/1.1\r\n${upgrade}${key}\r\n`, 404],
    [`GET /__proto__ HTTP/1.1\r\n${upgrade}${key}\r\n`, 404],
    [`GET /v1/miners/%68eartbeat HTTP/1.1\r\n${upgrade}${key}\r\n`, 404],
    [`GET /v1/miners/heartbeat HTTP/1.1\r\n${upgrade}\r\n`, 400],
    [`GET /v1/miners/heartbeat HTTP/1.1\r\n${upgrade}${key}Sec-WebSocket-Version: 99\r\n\r\n`, 400],
    [`POST /v1/miners/heartbeat HTTP/1.1\r\n${upgrade}${key}Sec-WebSocket-Version: 13\r\n\r\n`, 405],
    [
      `GET /v1/miners/heartbeat HTTP/1.1\r\n${upgrade}${key}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ,,\r\n\r\n`,
      400,
    ],
  ];
  for (const [request, status] of odd) {
    assert.match(await rawAnswer(request), new RegExp(`^HTTP/1.1 ${status} `), request.slice(0, 60));
  }
});

/** Sends bytes to the hub and collects what comes until the hub closes. */
function rawAnswer(request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(hub.url);
    const socket = connect(Number(port), hostname, () => socket.write(request));
    let answer = '';
    socket.on('data', (chunk) => {
      answer += chunk;
    });
    socket.on('error', reject);
    socket.on('close', () => resolve(answer));
  });
}

async function metrics(url: string): Promise<string> {
  return (await fetch(`${url}/metrics`)).text();
}
