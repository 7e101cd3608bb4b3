import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { writeEnvFile } from '../../src/embedded/dev-secrets.ts';
import { outputOf } from '../../src/embedded/programs.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { asMiner, openReplica, pollOnce, type Replica, register } from '../coordinator/replica.ts';
import { harness } from '../support/harness.ts';
import { type HttpExample, readExamples } from './http-file.ts';

const h = await harness();
const EXAMPLES = join(packageRoot, 'docs/examples');
let replica: Replica;
let env: Record<string, string>;

before(async () => {
  replica = await openReplica(h, { RECEIPT_SIGNING_KEY_HEX: '33'.repeat(32) });
  env = {
    COORDINATOR_URL: replica.url,
    CLIENT_API_KEY: 'key-of-alice',
    COORDINATOR_MINER_KEY: 'key-of-any-miner',
    COORDINATOR_ADMIN_KEY: 'key-of-root',
  };
});

test('the quickstart works as it is written', async () => {
  const text = await readFile(join(packageRoot, 'docs/COORDINATOR.md'), 'utf8');
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block = '']) => block);
  assert.ok(blocks.length >= 5);
  const folder = await mkdtemp(join(tmpdir(), 'poolhub-docs-'));
  h.cleanup(() => rm(folder, { recursive: true }));
  await writeEnvFile(join(folder, '.data/run.env'), env);
  // A failed call ends the script.
  const script = blocks.join('\n').replaceAll('curl ', 'curl --fail-with-body ');
  const commands = `cd '${folder}'\nset -e\n${script}`;
  const answers = (await outputOf('/bin/sh', ['-c', commands], { env: { PATH: process.env.PATH } }))
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
  const [submitted, registered, delivered, result, verdict, signed, stats] = answers;
  assert.equal(answers.length, 7);
  assert.equal(submitted.state, 'QUEUED');
  assert.equal(registered.status, 'ok');
  assert.equal(delivered.receipt.units, 1.5);
  assert.deepEqual(result.result, { sum: 6 });
  assert.equal(verdict.valid, true);
  assert.equal(signed.state, 'QUEUED');
  assert.equal(stats.jobs_by_state.COMPLETED >= 1, true);
});

test('the client program works as it is written', async () => {
  await register(replica, 'example-miner', { capabilities: { models: ['example'] } });
  const program = await h.startProcess('docs/examples/client.ts', { env, ready: /^1 QUEUED$/m });
  const path = `/v1/miners/${await pollOnce(replica, 'example-miner', 20)}/result`;
  const headers = asMiner('example-miner');
  assert.equal((await replica.call('POST', path, { headers, body: { result: { sum: 6 } } })).status, 200);
  assert.deepEqual(await program.exited, { code: 0, signal: null });
  assert.match(program.output(), /^3 COMPLETED\n\{ sum: 6 \}\nthe receipt holds$/m);
});

test('every example is answered as it says', async () => {
  const files = (await readdir(EXAMPLES)).filter((name) => name.endsWith('.http'));
  assert.deepEqual(files.sort(), ['admin.http', 'failures.http', 'jobs.http']);
  for (const file of files) {
    const answers = new Map<string, string>();
    for (const example of readExamples(await readFile(join(EXAMPLES, file), 'utf8'), env)) {
      const { status, text } = await callExample(example, answers);
      assert.equal(status, example.status, `${file}: ${example.title}: ${text}`);
      if (example.name !== undefined) answers.set(example.name, text);
      if (example.title.startsWith('Which anybody')) assert.equal(JSON.parse(text).valid, true);
    }
  }
});

test('every call that the API lists over HTTP is in an example or the quickstart', async () => {
  const { json } = await replica.call('GET', '/openapi.json');
  const files = (await readdir(EXAMPLES)).map((name) => readFile(join(EXAMPLES, name), 'utf8'));
  const shown = (await Promise.all(files)).join('\n').replaceAll(/\{\{[^{}]*\.\$\.[^{}]*\}\}/g, '{}');
  const missing = Object.keys(json.paths)
    .filter((path) => /^\/(v1|api)\/(jobs|miners|admin|receipts|billing)/.test(path))
    .filter((path) => !shown.includes(`{{url}}${path.replaceAll(/\{[^}]*\}/g, '{}')}`))
    .filter((path) => !shown.includes(`{{url}}${path.replaceAll(/\{[^}]*\}/g, 'example-plan')}`))
    .filter((path) => !shown.includes(`{{url}}${path.replaceAll(/\{[^}]*\}/g, 'example-tenant')}`));
  // Event streams are for programs, and what a chain node is told needs one.
  const settlement = (verb: string) => `/v1/admin/settlements/{job_id}/${verb}`;
  assert.deepEqual(missing.sort(), [settlement('refund'), settlement('release'), '/v1/jobs/{job_id}/events']);
});

function callExample(example: HttpExample, answers: ReadonlyMap<string, string>) {
  const { method, path, headers, body } = example.resolve(answers);
  return replica.call(method, path.slice(replica.url.length), {
    headers,
    ...(body === '' ? {} : { body }),
  });
}
