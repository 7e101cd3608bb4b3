import assert from 'node:assert/strict';
import { test } from 'node:test';
import { harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';
import { call, register, startReplica } from '../socket/replicas.ts';
import { TestMiner } from '../socket/test-miner.ts';

const h = await harness();
const a = await startReplica(h);
const b = await startReplica(h);

const give = (minerId: string, command: unknown, hub = a) =>
  call(hub, 'POST', `/v1/miners/${minerId}/commands`, command);
const waiting = (minerId: string) => h.redis.xlen(`${h.prefix}:{0}:commands:${minerId}`);

test('a command reaches the socket whichever replica it was given on, until it is acknowledged', async () => {
  const miner = await TestMiner.connect(h, b, await register(a, 'm-given'));
  await miner.beat();
  const given = await give('m-given', { name: 'update_tags', args: { tags: ['spot', 'night'] } });
  assert.ok(given.status < 300, JSON.stringify(given));
  await waitFor(() => miner.commands.length === 1);
  const [command] = miner.commands;
  assert.equal(command?.name, 'update_tags');
  assert.deepEqual(command?.args, { tags: ['spot', 'night'] });
  assert.equal(await waiting('m-given'), 1);
  await miner.beat({ ack: [command?.id] });
  assert.equal(await waiting('m-given'), 0);
  await miner.beat();
  assert.equal(miner.commands.length, 1);
});

test('an unacknowledged command comes again on the next connection, on another replica', async () => {
  const token = await register(a, 'm-killed');
  const first = await TestMiner.connect(h, a, token);
  await first.beat();
  await give('m-killed', { name: 'drain' }, b);
  await waitFor(() => first.commands.length === 1);
  first.socket.terminate();
  const second = await TestMiner.connect(h, b, token);
  await waitFor(() => second.commands.length === 1);
  assert.equal(second.commands[0]?.id, first.commands[0]?.id);
  assert.equal(await h.redis.hget(`${h.prefix}:{0}:miner:m-killed`, 'draining'), 'admin');
});

test('an unacknowledged command comes again when a lease has gone by', async () => {
  const settings = { SESSION_TTL_SEC: '1', REDIS_PREFIX: `${h.prefix}-short` };
  const hub = await startReplica(h, settings);
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-again'));
  await miner.beat();
  await give('m-again', { name: 'custom.reload', args: {} }, hub);
  await waitFor(async () => {
    await miner.beat();
    return miner.commands.length >= 2;
  });
  assert.equal(new Set(miner.commands.map((command) => command.id)).size, 1);
});

test('a miner on HTTP gets its commands with its next answer', async () => {
  const token = await register(a, 'm-http');
  await give('m-http', { name: 'set_price_cap', args: { cap: 0.25 } });
  const first = await call(b, 'POST', '/v1/miners/heartbeat', { session_token: token });
  const [command] = first.body.commands;
  assert.deepEqual(command, { id: command.id, name: 'set_price_cap', args: { cap: '0.25' } });
  assert.equal(await h.redis.hget(`${h.prefix}:{0}:miner:m-http`, 'price_cap'), '0.25');
  const second = await call(b, 'POST', '/v1/miners/heartbeat', { session_token: token, ack: [command.id] });
  assert.deepEqual(second.body.commands, []);
  await give('m-http', { name: 'set_price_cap', args: { cap: null } });
  assert.equal(await h.redis.hget(`${h.prefix}:{0}:miner:m-http`, 'price_cap'), '');
});

test('many commands at once arrive once each, in order, past the number that an answer shows', async () => {
  const miner = await TestMiner.connect(h, b, await register(a, 'm-many'));
  await miner.beat();
  const args = { text: 'é'.repeat(2000) };
  const given = await Promise.all(
    Array.from({ length: 64 }, (_, n) => give('m-many', { name: 'step', args: { n, ...args } })),
  );
  const one = await give('m-many', { name: 'step' });
  assert.equal(one.status, 409);
  await waitFor(() => miner.commands.length === 64);
  const ids = miner.commands.map((command) => command.id);
  assert.deepEqual(ids, [...ids].sort(byId));
  assert.equal(new Set(ids).size, 64);
  assert.ok(given.every((answer) => answer.status < 300));
  await miner.beat({ ack: ids });
  assert.equal(await waiting('m-many'), 0);
});

test('a miner that acknowledges nothing can be drained, however much waits for it', async () => {
  const hub = await startReplica(h, { COMMANDS_MAX_PENDING: '2', REDIS_PREFIX: h.prefix });
  const miner = await TestMiner.connect(h, hub, await register(hub, 'm-deaf'));
  await miner.beat();
  for (const status of [202, 202, 409])
    assert.equal((await give('m-deaf', { name: 'step' }, hub)).status, status);
  for (const name of ['drain', 'resume', 'drain'])
    assert.equal((await give('m-deaf', { name }, hub)).status, 202);
  await give('m-deaf', { name: 'set_price_cap', args: { cap: 0.25 } }, hub);
  assert.deepEqual(await h.redis.hmget(`${h.prefix}:{0}:miner:m-deaf`, 'draining', 'price'), [
    'admin',
    '0.25',
  ]);
  assert.equal(await waiting('m-deaf'), 4, 'of each kind the last');
  await waitFor(() => miner.commands.some(({ name }) => name === 'set_price_cap'));
});

test('arguments of known commands are checked, and a refused command is not given', async () => {
  await register(a, 'm-args');
  const bad = [
    { name: 'set_price_cap', args: { cap: -1 } },
    { name: 'set_price_cap', args: {} },
    { name: 'set_price_cap', args: { cap: '1', more: 2 } },
    { name: 'update_tags', args: { tags: 'spot' } },
    { name: 'update_tags', args: { tags: Array.from({ length: 65 }, (_, i) => `t${i}`) } },
    { name: 'drain', args: { now: true } },
    { name: 'custom', args: { text: 'x'.repeat(5000) } },
    { name: 'custom', args: [] },
    { name: 'No such name!' },
  ];
  for (const command of bad) {
    const { status, body } = await give('m-args', command);
    assert.equal(status, 422, JSON.stringify(command).slice(0, 80));
    assert.equal(body.error.code, 'invalid');
  }
  assert.equal(await waiting('m-args'), 0);
  assert.equal((await give('m-nobody', { name: 'drain' })).status, 404);
});

test('a socket that was never accepted gets no command', async () => {
  const token = await register(a, 'm-forged');
  const forged = `${token.slice(0, -4)}AAAA`;
  await give('m-forged', { name: 'secret', args: { password: 'x' } });
  const stranger = await TestMiner.connect(h, a, forged);
  assert.equal((await stranger.end()).code, 4401);
  assert.deepEqual(stranger.frames, []);
});

test('a replica that missed the notice delivers with the next heartbeat', async () => {
  const miner = await TestMiner.connect(h, a, await register(a, 'm-missed'));
  await miner.beat();
  // As a script would, but without the notice.
  await h.redis.xadd(`${h.prefix}:{0}:commands:m-missed`, '*', 'name', 'quiet', 'args', '{}');
  await miner.beat();
  await waitFor(() => miner.commands.length === 1);
});

function byId(one: string, other: string): number {
  const [ms = 0, sequence = 0] = one.split('-').map(Number);
  const [otherMs = 0, otherSequence = 0] = other.split('-').map(Number);
  return ms - otherMs || sequence - otherSequence;
}
