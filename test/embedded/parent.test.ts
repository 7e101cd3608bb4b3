import assert from 'node:assert/strict';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import postgres from 'postgres';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { temporaryFolder } from './folders.ts';

const h = await harness();
const HOLDER = 'test/embedded/hold-stores.ts';
const READY = /HOLDING (.*)\n/;

interface Held {
  pids: number[];
  dsn: string;
}

async function hold(options: object, env: Record<string, string>) {
  const holder = await h.startProcess(HOLDER, { args: [JSON.stringify(options)], env, ready: READY });
  return { holder, held: JSON.parse(holder.ready[1] as string) as Held };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
  test(`private stores and their temporary data go with a parent that gets ${signal}`, async () => {
    const folder = await temporaryFolder(h.cleanup);
    const { holder, held } = await hold({}, { TMPDIR: folder });
    // tsx keeps a folder for its cache beside them.
    const data = async () => (await readdir(folder)).filter((name) => name.startsWith('poolhub-'));
    assert.equal((await data()).length, 2);
    assert.ok(held.pids.every(isAlive));
    holder.signal(signal);
    await holder.exited;
    await waitFor(() => !held.pids.some(isAlive), { timeoutMs: 30_000, what: 'the stores to end' });
    await waitFor(async () => (await data()).length === 0, { timeoutMs: 30_000, what: 'the data to go' });
  });
}

test('a start right after a killed one waits for its stores, and finds the data', async () => {
  const folder = await temporaryFolder(h.cleanup);
  const dataDir = join(folder, 'data');
  const first = await hold({ dataDir }, { TMPDIR: folder });
  // In the folder itself, not elsewhere with a link to it.
  assert.ok((await lstat(join(dataDir, 'postgres'))).isDirectory());
  const sql = postgres(first.held.dsn, { max: 1 });
  await sql`CREATE TABLE kept AS SELECT 42 AS answer`;
  await sql.end();
  first.holder.signal('SIGKILL');
  await first.holder.exited;

  const second = await hold({ dataDir }, { TMPDIR: folder });
  await waitFor(() => !first.held.pids.some(isAlive), { what: 'the first stores to be reaped' });
  const again = postgres(second.held.dsn, { max: 1 });
  assert.equal((await again`SELECT answer FROM kept`)[0]?.answer, 42);
  await again.end();
});
