import assert from 'node:assert/strict';
import { once } from 'node:events';
import { before, test } from 'node:test';
import postgres from 'postgres';
import { WebSocket } from 'ws';
import { loadCoordinatorConfig } from '../../src/coordinator/environment.ts';
import { needsOf } from '../../src/coordinator/miners/fit.ts';
import { Notices } from '../../src/coordinator/notices.ts';
import { connectDatabase } from '../../src/platform/db.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import {
  ALICE,
  asMiner,
  BOB,
  openReplica,
  pollOnce,
  type Replica,
  register,
  replicaEnv,
  submit,
} from './replica.ts';

const h = await harness();
let one: Replica;
let two: Replica;
before(async () => {
  [one, two] = await Promise.all([openReplica(h), openReplica(h)]);
});

const nothingFits = { constraints: { gpu: 'no such gpu' } };

interface Event {
  readonly id: string;
  readonly state: string;
}

/** Reads an event stream; `events` grows as they come, `ended` when it is over. */
async function follow(replica: Replica, jobId: string) {
  const response = await fetch(`${replica.url}/v1/jobs/${jobId}/events`, { headers: ALICE });
  assert.equal(response.status, 200);
  assert.match(response.headers.get('Content-Type') ?? '', /^text\/event-stream/);
  const events: Event[] = [];
  const read = async () => {
    let text = '';
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += Buffer.from(chunk).toString();
      const blocks = text.split('\n\n');
      text = blocks.pop() ?? '';
      for (const block of blocks) {
        const [, data] = /^data: (.*)$/m.exec(block) ?? [];
        const [, id = ''] = /^id: (.*)$/m.exec(block) ?? [];
        if (data !== undefined) events.push({ id, state: JSON.parse(data).state });
      }
    }
  };
  return { events, ended: read() };
}

async function complete(replica: Replica, minerId: string, jobId: string) {
  await replica.call('POST', `/v1/miners/${jobId}/result`, {
    headers: asMiner(minerId),
    body: { result: {} },
  });
}

test('events tell every change of a job, on whichever replica, and end with it', async () => {
  await register(one, 'm1', { region: 'sse' });
  const jobId = await submit(one, { constraints: { region: 'sse' } });
  const stream = await follow(two, jobId);
  await waitFor(() => stream.events.length === 1);
  assert.equal(await pollOnce(one, 'm1'), jobId);
  await waitFor(() => stream.events.length === 2);
  await complete(one, 'm1', jobId);
  await stream.ended;
  assert.deepEqual(stream.events, [
    { id: '1', state: 'QUEUED' },
    { id: '2', state: 'RUNNING' },
    { id: '3', state: 'COMPLETED' },
  ]);
  const late = await follow(one, jobId);
  await late.ended;
  assert.deepEqual(late.events, [{ id: '3', state: 'COMPLETED' }]);
});

test('a stream survives the loss of the listening connection', async () => {
  const jobId = await submit(one, nothingFits);
  const stream = await follow(one, jobId);
  await waitFor(() => stream.events.length === 1);
  const sql = postgres(await h.db(), { max: 1 });
  try {
    await sql`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'coordinator-listen'`;
  } finally {
    await sql.end();
  }
  await two.call('POST', `/v1/jobs/${jobId}/cancel`, { headers: ALICE });
  await stream.ended;
  assert.equal(stream.events.at(-1)?.state, 'CANCELED');
});

test('a change of which no notice came is told with the next sign of life; sockets hear resync', async () => {
  const replica = await openReplica(h, { STREAM_KEEP_ALIVE_SEC: '0.05' });
  const jobId = await submit(replica, nothingFits);
  const [stream, { messages }] = [await follow(replica, jobId), await open(replica, ALICE)];
  await waitFor(() => stream.events.length === 1);
  const sql = postgres(await h.db(), { max: 1 });
  try {
    await sql`update coordinator.jobs set state = 'CANCELED', revision = revision + 1, finished_at = now() where job_id = ${jobId}`;
  } finally {
    await sql.end();
  }
  await stream.ended;
  assert.equal(stream.events.at(-1)?.state, 'CANCELED');
  await waitFor(() => messages.filter(({ type }) => type === 'resync').length > 1);
  await replica.stop();
});

test('a replica that cannot send its notices says so to its streams', async () => {
  const config = loadCoordinatorConfig(await replicaEnv(h, { DB_DSN: 'postgres://nobody@127.0.0.1:1/none' }));
  const log = createLogger('silent', 'test');
  const db = connectDatabase(config, 'test');
  const notices = new Notices(config.db_dsn, db, log);
  const told = once(notices, 'resync');
  notices.publish({ kind: 'waiting', job_id: 'x', needs: needsOf({}), offered: [] });
  await told;
  await notices.close();
  await db.close(0);
});

interface Message {
  readonly type: string;
  readonly revision?: number;
  readonly job?: { readonly job_id: string; readonly state: string };
}

async function open(replica: Replica, headers: Record<string, string>, protocols: string[] = []) {
  const socket = new WebSocket(`${replica.url.replace('http', 'ws')}/v1/jobs/stream`, protocols, { headers });
  const messages: Message[] = [];
  socket.on('message', (data) => messages.push(JSON.parse(data.toString())));
  h.cleanup(() => socket.terminate());
  await once(socket, 'open');
  await waitFor(() => messages[0]?.type === 'resync');
  return { socket, messages };
}

test('a stream socket tells a client of all its jobs and of no others', async () => {
  const alice = await open(two, ALICE);
  const bob = await open(one, {}, ['coordinator', 'key.key-of-bob']);
  assert.equal(bob.socket.protocol, 'coordinator');
  const jobId = await submit(one, nothingFits);
  const other = await one.call('POST', '/v1/jobs', { headers: BOB, body: { payload: {}, ...nothingFits } });
  await one.call('POST', `/v1/jobs/${jobId}/cancel`, { headers: ALICE });
  const statesOf = ({ messages }: typeof alice, id: string) =>
    messages.filter(({ job }) => job?.job_id === id).map(({ job }) => job?.state);
  await waitFor(() => statesOf(alice, jobId).length === 2);
  assert.deepEqual(statesOf(alice, jobId), ['QUEUED', 'CANCELED']);
  await waitFor(() => statesOf(bob, other.json.job_id).length === 1);
  assert.deepEqual(statesOf(bob, jobId), []);
  assert.deepEqual(statesOf(alice, other.json.job_id), []);
});

test('a handshake without a key of a client is refused', async () => {
  for (const [headers, status] of [
    [{}, 401],
    [asMiner('m'), 403],
  ] as const) {
    const socket = new WebSocket(`${one.url.replace('http', 'ws')}/v1/jobs/stream`, { headers });
    const [, response] = await once(socket, 'unexpected-response');
    assert.equal(response.statusCode, status);
    socket.on('error', () => {});
    socket.terminate();
  }
});

test('a client has its share of the streams, and leaves the others theirs', async () => {
  const replica = await openReplica(h, { MAX_STREAMS: '3', MAX_STREAMS_PER_CLIENT: '2' });
  const jobId = await submit(replica, nothingFits);
  for (let n = 0; n < 3; n += 1) {
    const head = await fetch(`${replica.url}/v1/jobs/${jobId}/events`, { method: 'HEAD', headers: ALICE });
    assert.equal(head.status, 200, 'asking for the headers opens none');
  }
  const streams = [await follow(replica, jobId), await open(replica, ALICE)] as const;
  const events = (headers: Record<string, string>, id: string) =>
    replica.call('GET', `/v1/jobs/${id}/events`, { headers });
  const refused = await events(ALICE, jobId);
  assert.deepEqual([refused.status, refused.json.error.code], [429, 'rate_limited']);
  assert.ok(Number(refused.headers.get('Retry-After')) > 0);
  const socket = new WebSocket(`${replica.url.replace('http', 'ws')}/v1/jobs/stream`, { headers: ALICE });
  socket.on('error', () => {});
  assert.equal((await once(socket, 'unexpected-response'))[1].statusCode, 429);
  socket.terminate();
  const bob = await open(replica, BOB);
  // What is over makes room again.
  streams[1].socket.close();
  await waitFor(async () => (await replica.call('GET', '/metrics')).text.includes('coordinator_streams 2'));
  const again = await open(replica, ALICE);
  assert.equal((await events(ALICE, jobId)).status, 503, 'all that the process may have are open');
  for (const { socket: one } of [bob, again]) one.terminate();
  await replica.stop();
});

test('a notice that cannot be read is dropped, those beside it are not', async () => {
  const jobId = await submit(one, nothingFits);
  const stream = await follow(two, jobId);
  await waitFor(() => stream.events.length === 1);
  const sql = postgres(await h.db(), { max: 1, onnotice: () => {} });
  const { json } = await one.call('GET', `/v1/jobs/${jobId}`, { headers: ALICE });
  const error = { code: 'from_elsewhere', message: '' };
  const job = { ...json, state: 'FAILED', error, assigned_miner_id: null };
  const notices = [
    null,
    { kind: 'new' },
    { kind: 'waiting', job_id: jobId, needs: {} },
    { kind: 'change', client_id: 'alice', revision: 99, job },
  ];
  for (const payload of ['not json', '{}', JSON.stringify({ from: 'another', notices })])
    await sql.notify('coordinator_notices', payload);
  await sql.end();
  await stream.ended;
  assert.deepEqual(stream.events.at(-1), { id: '99', state: 'FAILED' });
});

test('a stopping replica ends polls and streams, and keeps nobody waiting', { timeout: 30_000 }, async () => {
  const third = await openReplica(h);
  await register(third, 'm2', { region: 'stop' });
  const jobId = await submit(third, nothingFits);
  const stream = await follow(third, jobId);
  await waitFor(() => stream.events.length === 1);
  const { socket } = await open(third, ALICE);
  const closed = once(socket, 'close');
  const poll = pollOnce(third, 'm2', 25);
  await waitFor(async () => (await third.call('GET', '/health')).json.polls_held === 1);
  await third.stop();
  assert.equal(await poll, undefined);
  await stream.ended;
  assert.equal((await closed)[0], 1012);
});
