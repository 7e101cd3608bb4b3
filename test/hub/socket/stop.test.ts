import assert from 'node:assert/strict';
import { test } from 'node:test';
import { harness } from '../../support/harness.ts';
import { PROFILE, register, startReplica } from './replicas.ts';
import { TestMiner } from './test-miner.ts';

const h = await harness();

test('a stopping replica closes every socket with 1012, and the miners beat on another', async () => {
  const a = await startReplica(h);
  const b = await startReplica(h);
  const tokens = await Promise.all(Array.from({ length: 250 }, (_, i) => register(a, `m-${i}`)));
  const miners = await Promise.all(tokens.map((token) => TestMiner.connect(h, a, token)));
  await Promise.all(miners.map((miner) => miner.beat()));
  await a.stop();
  for (const miner of miners) {
    const { code, reason } = await miner.end();
    assert.equal(code, 1012);
    assert.match(reason, /reconnect within 1000 ms/);
  }
  const moved = await TestMiner.connect(h, b, tokens[0] as string);
  await moved.beat();
});

test('a client that does not answer the close frame does not hold up the stop', async () => {
  const hub = await startReplica(h);
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-deaf'));
  await miner.beat();
  miner.socket.pause();
  await hub.stop();
});

test('a hub process ends with 0 on SIGTERM while miners are connected', async () => {
  const env = await h.env({ MINER_ENROLLMENT: 'open', LOG_LEVEL: 'info' });
  const hub = await h.startProcess('src/bin/hub.ts', { env, ready: /"url":"(http:[^"]+)"/ });
  const url = hub.ready[1] as string;
  const answer = await fetch(`${url}/v1/miners/register`, {
    method: 'POST',
    body: JSON.stringify({ ...PROFILE, miner_id: 'm-process' }),
  });
  const { session_token } = (await answer.json()) as { session_token: string };
  const miner = await TestMiner.connect(h, { url }, session_token);
  await miner.beat();
  hub.signal('SIGTERM');
  assert.equal((await miner.end()).code, 1012);
  assert.deepEqual(await hub.exited, { code: 0, signal: null });
  assert.ok(!hub.output().includes(session_token), 'the token is in the log');
});
