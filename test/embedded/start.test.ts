import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { outputOf } from '../../src/embedded/programs.ts';
import { startProgram } from '../../src/embedded/supervise.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { entryArguments } from '../support/entry.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { temporaryFolder } from './folders.ts';

const h = await harness();
const folder = await temporaryFolder(h.cleanup);
/** What npm runs, and what that runs from source once the dependencies are there. */
const LAUNCHER = 'src/bin/launch.mjs';
const START = 'src/bin/all.ts';

/** `npm start` on a data folder and a free port, until it is ready. */
async function start(dataDir: string, command = [START]) {
  const [script = '', ...args] = command;
  const started = await h.startProcess(script, {
    args: [...args, '--data', dataDir],
    env: { POOLHUB_PORT: '0', COORDINATOR_PORT: '0' },
    ready: /Pool Hub: (http:\S+)[\s\S]*Ctrl-C stops it/,
    readyTimeoutMs: 60_000,
  });
  return { started, url: started.ready[1] as string };
}

/** `npm start` that is meant to fail: its exit code and what it says. */
async function failToStart(dataDir: string, env: Record<string, string>): Promise<string[]> {
  const args = [...entryArguments(START), '--data', dataDir];
  const program = await startProgram(process.execPath, args, {
    cwd: packageRoot,
    env: { PATH: process.env.PATH, HOME: folder, POOLHUB_PORT: '0', COORDINATOR_PORT: '0', ...env },
  });
  h.cleanup(() => program.stop());
  assert.deepEqual(await program.exited, { code: 1, signal: null }, program.output());
  return program.output().trimEnd().split('\n');
}

/** The lines to paste, run by a shell; what the calls answered. */
async function paste(output: string): Promise<Array<Record<string, unknown>>> {
  const commands = output.slice(output.indexOf('# A miner registers'), output.indexOf('Ctrl-C'));
  const answers = await outputOf('/bin/sh', ['-c', commands], { env: { PATH: process.env.PATH } });
  return answers
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

test('starts, works as printed, stops at Ctrl-C and finds its data again', async () => {
  const dataDir = join(folder, 'first');
  const { started, url } = await start(dataDir, [LAUNCHER, 'start']);
  const health = await (await fetch(`${url}/v1/health`)).json();
  assert.equal((health as { status: string }).status, 'ok');

  const [beat, match, feedback, result] = await paste(started.output());
  assert.equal(beat?.status, 'ok');
  const [best] = (match?.candidates as Array<{ miner_id: string }> | undefined) ?? [];
  assert.equal(best?.miner_id, 'first-miner');
  assert.deepEqual(feedback, { status: 'ok', trust_score: 0.6, duplicate: false });
  assert.equal((result?.error as { code: string } | undefined)?.code, 'not_ready', 'no miner works yet');

  const runEnv = await readFile(join(dataDir, 'run.env'), 'utf8');
  const [, secret = ''] = /^COORDINATOR_SHARED_SECRET='([\w-]+)/m.exec(runEnv) ?? [];
  const headers = { 'X-Coordinator-Secret': secret, 'Content-Type': 'application/json' };
  const sync = await fetch(`${url}/v1/sla/billing/sync`, { method: 'POST', headers, body: '{}' });
  assert.ok([200, 202].includes(sync.status), `the hub knows who bills: ${await sync.text()}`);

  const [second] = await failToStart(dataDir, {});
  assert.match(second ?? '', /^Pool Hub already runs on .* \(process \d+\)$/);
  const taken = await failToStart(join(folder, 'taken'), { POOLHUB_PORT: new URL(url).port });
  assert.match(
    taken.join('\n'),
    /^port \d+ on 127\.0\.0\.1 is taken by another program: set POOLHUB_BIND and POOLHUB_PORT/,
  );
  assert.equal(taken.length, 1, taken.join('\n'));

  // Under npm it comes twice: from the terminal and from npm.
  started.signal('SIGINT');
  started.signal('SIGINT');
  assert.deepEqual(await started.exited, { code: 0, signal: null }, started.output());

  const again = await start(dataDir);
  const [, , repeated] = await paste(again.started.output());
  assert.deepEqual(repeated, { status: 'ok', trust_score: 0.6, duplicate: true });
});

test('a killed start is followed by one that works', async () => {
  const dataDir = join(folder, 'killed');
  const { started } = await start(dataDir);
  await paste(started.output());
  started.signal('SIGKILL');
  await started.exited;
  const { url } = await start(dataDir);
  const stats = () => fetch(`${url}/v1/health`).then((answer) => answer.json());
  await waitFor(async () => ((await stats()) as { status: string }).status === 'ok', { what: 'health' });
});

test('the demo shows miners, matches and outcomes, and stops', async () => {
  const started = await h.startProcess(START, {
    args: ['--demo', '--data', join(folder, 'demo')],
    env: { POOLHUB_PORT: '0', COORDINATOR_PORT: '0' },
    ready: /miners online \d+ .* matches [\d.]+\/s p50 [\d.]+ ms p99 [\d.]+ ms .* completed [1-9]/,
    readyTimeoutMs: 90_000,
  });
  started.signal('SIGINT');
  assert.deepEqual(await started.exited, { code: 0, signal: null }, started.output());
});

test('bad settings are one line that names each', async () => {
  const lines = await failToStart(join(folder, 'bad'), { POOLHUB_PORT: 'x', REDIS_SHARDS: '0' });
  assert.equal(lines.length, 1, lines.join('\n'));
  assert.match(lines[0] ?? '', /^Bad settings: POOLHUB_PORT .*; REDIS_SHARDS /);
});

test('a missing store is one line that says what to install', async () => {
  const empty = join(folder, 'empty');
  await mkdir(empty);
  const lines = await failToStart(join(folder, 'missing'), { PATH: empty, XDG_CACHE_HOME: empty });
  assert.equal(lines.length, 1, lines.join('\n'));
  assert.match(lines[0] ?? '', /^No Redis found: install redis-server/);
});

test('a given store that is away is one line', async () => {
  const redis = await h.privateRedis();
  await redis.stop();
  const lines = await failToStart(join(folder, 'away'), { REDIS_URL: redis.url });
  assert.equal(lines.length, 1, lines.join('\n'));
  assert.match(lines[0] ?? '', /^The Redis of REDIS_URL does not answer: /);
});

test('an unknown option is refused with the usage', async () => {
  const args = [join(packageRoot, LAUNCHER), 'start', '--dta', 'x'];
  const program = await startProgram(process.execPath, args, { env: { PATH: process.env.PATH } });
  assert.deepEqual(await program.exited, { code: 1, signal: null });
  assert.match(program.output(), /Unknown option '--dta'[\s\S]*npm start/);
});
