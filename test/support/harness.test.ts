import assert from 'node:assert/strict';
import { test } from 'node:test';
import postgres from 'postgres';
import { startProgram } from '../../src/embedded/supervise.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { harness } from './harness.ts';
import { waitFor } from './wait-for.ts';

const h = await harness();

test('each file has a Redis prefix of its own', async () => {
  await h.redis.set(`${h.prefix}:{0}:x`, '1');
  assert.equal(await h.redis.get(`${h.prefix}:{0}:x`), '1');
});

test('each file has a migrated database of its own', async () => {
  const sql = postgres(await h.db(), { max: 1 });
  const tables = await sql`SELECT table_name FROM information_schema.tables WHERE table_schema = 'poolhub'`;
  await sql.end();
  assert.ok(tables.some((row) => row.table_name === 'miners'));
});

test('a private Redis keeps its address over a kill', async () => {
  const redis = await h.privateRedis();
  await redis.kill();
  await redis.start();
  assert.equal((await h.config({ REDIS_URL: redis.url })).redis_url, redis.url);
});

test('a file that leaves a socket open fails', async () => {
  const args = ['--import', 'tsx', 'test/support/leaky.ts'];
  const leaky = await startProgram(process.execPath, args, { cwd: packageRoot });
  h.cleanup(() => leaky.stop());
  assert.deepEqual(await leaky.exited, { code: 1, signal: null }, leaky.output());
  assert.match(leaky.output(), /does not end; still open: .*TCPServerWrap/);
});

test('waitFor says what it waited for', async () => {
  await assert.rejects(
    waitFor(() => false, { timeoutMs: 30, what: 'the impossible' }),
    /not within 30 ms: the impossible/,
  );
});
