import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer, connect as dial, type Socket } from 'node:net';
import { before, test } from 'node:test';
import type { JobState } from '../../src/coordinator/jobs/states.ts';
import { CoordinatorClient } from '../../src/sdk/coordinator-client.ts';
import { HubError } from '../../src/sdk/errors.ts';
import type { JobMessage } from '../../src/sdk/job-stream.ts';
import { asMiner, openReplica, pollOnce, type Replica, register } from '../coordinator/replica.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';

const h = await harness();
let replica: Replica;
let line: Line;
let alice: CoordinatorClient;

before(async () => {
  replica = await openReplica(h, { RECEIPT_SIGNING_KEY_HEX: '33'.repeat(32) });
  line = await openLine(replica.url);
  alice = clientOf('key-of-alice');
});

/** A network between client and coordinator, which can be cut. */
interface Line {
  readonly url: string;
  /** What clients have sent. */
  readonly sent: () => string;
  /** Breaks all connections; while it is down new ones break at once. */
  cut(isDown: boolean): void;
  readonly open: () => number;
}

async function openLine(to: string): Promise<Line> {
  const { port, hostname } = new URL(to);
  const sockets = new Set<Socket>();
  let isDown = false;
  let sent = '';
  const server = createServer((near) => {
    if (isDown) return void near.destroy();
    const far = dial(Number(port), hostname);
    sockets.add(near);
    near.on('data', (chunk) => {
      sent += chunk.toString('latin1');
    });
    near.pipe(far).pipe(near);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
    near.on('close', () => sockets.delete(near));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = (down: boolean) => {
    isDown = down;
    for (const socket of sockets) socket.destroy();
  };
  h.cleanup(() => {
    cut(true);
    server.close();
  });
  const { port: own } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${own}`, sent: () => sent, cut, open: () => sockets.size };
}

function clientOf(apiKey: string, more: { sign?: boolean; urls?: string[] } = {}): CoordinatorClient {
  return new CoordinatorClient({ urls: [line.url], apiKey, backoff: { baseMs: 10, capMs: 50 }, ...more });
}

const failsWith = (code: HubError['code']) => (error: unknown) =>
  error instanceof HubError && error.code === code;

const submit = async (region: string) =>
  (await alice.submit({ payload: {}, constraints: { region } })).job_id;

const deliver = (minerId: string, jobId: string) =>
  replica.call('POST', `/v1/miners/${jobId}/result`, { headers: asMiner(minerId), body: { result: {} } });

/** What an iterator brings, as it comes. */
function collect<T, R>(messages: AsyncIterable<T>, of: (message: T) => R) {
  const seen: R[] = [];
  const read = async () => {
    for await (const message of messages) seen.push(of(message));
  };
  return { seen, ended: read() };
}

test('events go on behind the last one when the connection was lost, and each comes once', async () => {
  await register(replica, 'cut', { region: 'cut' });
  const jobId = await submit('cut');
  const { seen, ended } = collect(alice.jobEvents(jobId), ({ revision, job }) => [revision, job.state]);
  await waitFor(() => seen.length === 1);
  line.cut(true);
  assert.equal(await pollOnce(replica, 'cut'), jobId);
  line.cut(false);
  await waitFor(() => seen.length === 2);
  line.cut(false);
  await deliver('cut', jobId);
  await ended;
  assert.deepEqual(seen, [
    [1, 'QUEUED'],
    [2, 'RUNNING'],
    [3, 'COMPLETED'],
  ]);
  assert.match(line.sent(), /last-event-id: 1\r\n/i);
  assert.match(line.sent(), /last-event-id: 2\r\n/i);
  const after = collect(alice.jobEvents(jobId, { lastRevision: 3 }), ({ revision }) => revision);
  await after.ended;
  assert.deepEqual(after.seen, []);
});

test('waiting for a job gives its last state, also when it is over already', async () => {
  await register(replica, 'awaited', { region: 'awaited' });
  const jobId = await submit('awaited');
  const waiting = alice.waitFor(jobId);
  assert.equal(await pollOnce(replica, 'awaited'), jobId);
  await deliver('awaited', jobId);
  assert.equal((await waiting).state, 'COMPLETED');
  assert.equal((await alice.waitFor(jobId)).state, 'COMPLETED');
});

test('a replica that is away is passed over', async () => {
  const jobId = await submit('passed-over');
  const client = clientOf('key-of-alice', { urls: ['http://127.0.0.1:9', line.url] });
  await alice.cancel(jobId);
  assert.equal((await client.waitFor(jobId)).state, 'CANCELED');
  const sockets = clientOf('key-of-alice', { urls: ['http://127.0.0.1:9', line.url] });
  for await (const { type } of sockets.jobMessages()) {
    assert.equal(type, 'resync');
    break;
  }
});

test('what can never succeed is refused at once', async () => {
  await assert.rejects(alice.waitFor('0'.repeat(32)), failsWith('not_found'));
  const miner = clientOf('key-of-any-miner');
  await assert.rejects(miner.waitFor('0'.repeat(32)), failsWith('forbidden'));
  await assert.rejects(miner.jobMessages().next(), failsWith('forbidden'));
  await assert.rejects(clientOf('a-guess').jobMessages().next(), failsWith('unauthenticated'));
});

test('streams end with their signal, and leave no connection behind', async () => {
  const jobId = await submit('aborted');
  const ending = new AbortController();
  const events = collect(alice.jobEvents(jobId, { signal: ending.signal }), ({ revision }) => revision);
  const messages = collect(alice.jobMessages({ signal: ending.signal }), ({ type }) => type);
  await waitFor(() => events.seen.length > 0 && messages.seen.length > 0);
  ending.abort(new Error('enough'));
  await assert.rejects(events.ended, { message: 'enough' });
  await assert.rejects(messages.ended, { message: 'enough' });
  for await (const event of alice.jobEvents(jobId)) {
    assert.equal(event.revision, 1);
    break;
  }
  const streams = async () =>
    /^coordinator_streams (\d+)$/m.exec((await replica.call('GET', '/metrics')).text)?.[1];
  await waitFor(async () => (await streams()) === '0');
  // Signals that were aborted before anything began.
  await assert.rejects(alice.jobMessages({ signal: ending.signal }).next(), { message: 'enough' });
});

test('a socket tells of all jobs of a client, says when something may have been missed, and signs when asked to', async () => {
  const strict = await openReplica(h, { SIGNATURES: 'required' });
  const unsigned = clientOf('key-of-bob', { urls: [strict.url] });
  await assert.rejects(unsigned.jobMessages().next(), failsWith('unauthenticated'));
  const ending = new AbortController();
  const signed = clientOf('key-of-bob', { sign: true });
  const told = (message: JobMessage): JobState | 'resync' =>
    message.type === 'job' ? message.job.state : message.type;
  const { seen, ended } = collect(signed.jobMessages({ signal: ending.signal }), told);
  await waitFor(() => seen.length === 1);
  const { job_id } = await signed.submit({ payload: {}, constraints: { region: 'socket' } });
  await waitFor(() => seen.includes('QUEUED'));
  line.cut(false);
  await waitFor(() => seen.lastIndexOf('resync') > 0);
  await signed.cancel(job_id);
  await waitFor(() => seen.includes('CANCELED'));
  assert.deepEqual(seen, ['resync', 'QUEUED', 'resync', 'CANCELED']);
  ending.abort();
  await assert.rejects(ended, { name: 'AbortError' });
  await clientOf('key-of-bob', { sign: true, urls: [strict.url] })
    .jobMessages()
    .next();
});

test('a receipt is verified as it came, and not when a digit was changed', async () => {
  await register(replica, 'signer', { region: 'signer' });
  const jobId = await submit('signer');
  await pollOnce(replica, 'signer');
  await replica.call('POST', `/v1/miners/${jobId}/result`, {
    headers: asMiner('signer'),
    body: '{"result":{"n":1.0}}',
  });
  const text = await alice.receiptText(jobId);
  assert.equal((await alice.verifyReceipt(text)).valid, true);
  const forged = await alice.verifyReceipt(text.replace('"n":1.0', '"n":2.0'));
  assert.deepEqual([forged.valid, forged.job_id], [false, jobId]);
});
