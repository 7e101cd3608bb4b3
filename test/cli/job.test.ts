import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { main } from '../../src/cli/main.ts';
import { asMiner, openReplica, pollOnce, type Replica, register } from '../coordinator/replica.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';

const h = await harness();
let replica: Replica;
before(async () => {
  replica = await openReplica(h, { RECEIPT_SIGNING_KEY_HEX: '66'.repeat(32) });
  await register(replica, 'cli-miner', {
    capabilities: { models: ['cli'] },
    region: 'eu-cli',
    concurrency: 9,
  });
});

/** Runs a command; `out` and `notes` grow while it does. */
function run(args: readonly string[], key: string | null = 'key-of-alice') {
  const [out, notes]: [string[], string[]] = [[], []];
  const ended = main(['job', ...args], {
    env: { COORDINATOR_URL: replica.url, ...(key === null ? {} : { CLIENT_API_KEY: key }) },
    out: (line) => void out.push(line),
    note: (line) => void notes.push(line),
    stopSignal: () => new AbortController().signal,
  });
  return { out, notes, ended };
}

const post = (jobId: string, verb: string, body: object) =>
  replica.call('POST', `/v1/miners/${jobId}/${verb}`, { headers: asMiner('cli-miner'), body });

const RUN = ['run', '{"n":1}', '--model', 'cli', '--region', 'eu', '--idempotency-key', 'cli-1'];

test('a job is submitted and followed, and its result printed', async () => {
  const running = run(RUN);
  await waitFor(() => running.notes.length === 1);
  const jobId = (await pollOnce(replica, 'cli-miner', 5)) ?? '';
  await waitFor(() => running.notes.length === 2);
  await post(jobId, 'result', { result: { ok: true } });
  assert.equal(await running.ended, 0);
  assert.deepEqual(running.out, ['{"ok":true}']);
  const by = 'by cli-miner';
  assert.deepEqual(running.notes, [
    `${jobId} QUEUED: waits for a miner that fits`,
    `${jobId} RUNNING ${by}`,
    `${jobId} COMPLETED ${by}`,
  ]);
  const again = run([...RUN, '--receipt']);
  assert.equal(await again.ended, 0);
  assert.equal(JSON.parse(again.out[0] ?? '').job_id, jobId);
  const watched = run(['watch', jobId]);
  assert.equal(await watched.ended, 0);
  assert.deepEqual(watched.out, ['{"ok":true}']);
});

test('a job that fails ends with its error, and bad arguments with theirs', async () => {
  const failing = run(['run', '{}', '--model', 'cli']);
  const jobId = (await pollOnce(replica, 'cli-miner', 20)) ?? '';
  await post(jobId, 'fail', { error_code: 'broken', error_message: 'no more' });
  assert.equal(await failing.ended, 1);
  assert.match(failing.notes.at(-1) ?? '', /broken: no more/);
  assert.deepEqual(failing.out, []);
  for (const [args, key, code] of [
    [['run', '[1]'], 'key-of-alice', 2],
    [['run', '{}', '--ttl-sec', '0'], 'key-of-alice', 2],
    [['run', '{}'], null, 2],
    [['watch', 'nope'], 'key-of-alice', 1],
    [['watch', jobId], 'key-of-bob', 1],
  ] as const) {
    assert.equal(await run(args, key).ended, code, args.join(' '));
  }
});
