import assert from 'node:assert/strict';
import { test } from 'node:test';
import { harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';
import { call, register, startReplica } from './replicas.ts';
import { TestMiner } from './test-miner.ts';

const h = await harness();

/** The registry survives a restart of this one; a Redis that forgets is another test. */
const KEEPS = ['appendonly yes', 'appendfsync always'];

test('sockets outlive a Redis that dies, and work when it is back', async () => {
  const redis = await h.privateRedis(KEEPS);
  const settings = { REDIS_URL: redis.url, REDIS_COMMAND_TIMEOUT_MS: '300' };
  const a = await startReplica(h, settings);
  const b = await startReplica(h, settings);
  const token = await register(a, 'm-1');
  const miner = await TestMiner.connect(h, a, token);
  await miner.beat();

  await redis.kill();
  await waitFor(() => {
    miner.send({ queue_len: 1 });
    return miner.errors.some((error) => error.code === 'unavailable');
  });
  // One that comes meanwhile is kept as well, and proven later.
  const late = await TestMiner.connect(h, b, token);
  await waitFor(() => late.errors.length > 0);
  assert.equal(late.errors[0]?.code, 'unavailable');

  const stranger = await TestMiner.connect(h, a, `${token.slice(0, -4)}AAAA`);
  await waitFor(() => stranger.errors.length > 0);

  await redis.start();
  // Each replica finds its way back by itself.
  for (const socket of [miner, late]) {
    await waitFor(() => {
      socket.send({ ts: 'back', queue_len: 2 });
      return socket.frames.some((frame) => frame.type === 'ack' && frame.ts === 'back');
    });
  }
  assert.equal(miner.ended, undefined);

  // The notices come again, too.
  await waitFor(async () => {
    await call(b, 'POST', '/v1/miners/m-1/commands', { name: 'hello' });
    return miner.commands.length > 0 && late.commands.length > 0;
  });
  // But not to one that could not be proven meanwhile, and cannot be now.
  assert.deepEqual(stranger.commands, []);
  stranger.send({ queue_len: 3 });
  assert.equal((await stranger.end()).code, 4401);
});

test('a Redis that forgot everything ends the session with 4401', async () => {
  const redis = await h.privateRedis();
  const hub = await startReplica(h, { REDIS_URL: redis.url, REDIS_COMMAND_TIMEOUT_MS: '300' });
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-2'));
  await miner.beat();
  await redis.kill();
  await redis.start();
  await waitFor(() => {
    if (miner.ended === undefined) miner.send({ queue_len: 0 });
    return miner.ended;
  });
  assert.equal(miner.ended?.code, 4401);
});
