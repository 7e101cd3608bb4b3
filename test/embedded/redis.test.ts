import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { openRedis, privateRedis, type RedisStoreOptions } from '../../src/embedded/redis.ts';
import { findRedisBinary } from '../../src/embedded/redis-binary.ts';
import { SetupError } from '../../src/embedded/setup-error.ts';
import { harness } from '../support/harness.ts';
import { pathWithout, temporaryFolder } from './folders.ts';

const h = await harness();
const folder = await temporaryFolder(h.cleanup);
const said: string[] = [];
const say = (line: string) => void said.push(line);
const real = await findRedisBinary({ env: process.env, say });
const noPrograms = join(folder, 'empty');
await mkdir(noPrograms);

/** A PATH folder with one program, which runs a shell script. */
async function pathWith(name: string, script: string): Promise<string> {
  const bin = join(folder, `bin-${name}-${Math.random().toString(36).slice(2)}`);
  await mkdir(bin);
  await writeFile(join(bin, name), `#!/bin/sh\n${script}\n`);
  await chmod(join(bin, name), 0o755);
  return bin;
}

/** Runs the Redis of this machine, wherever it was found. */
const runReal = `LD_LIBRARY_PATH='${real.libraries.join(':')}' exec '${real.file}' "$@"`;

async function assertWorks(options: RedisStoreOptions, source: string): Promise<void> {
  const store = await openRedis(options);
  h.cleanup(() => store.stop());
  assert.equal(store.source, source);
  const redis = new Redis(store.url);
  assert.equal(await redis.set('key', 'value'), 'OK');
  redis.disconnect();
  await store.stop();
}

function assertOneLine(error: unknown, pattern: RegExp): boolean {
  assert.ok(error instanceof SetupError, String(error));
  assert.match(error.message, pattern);
  assert.ok(!error.message.includes('\n'), error.message);
  return true;
}

test('REDIS_URL is used as it is, and left running', async () => {
  const store = await openRedis({ env: { PATH: noPrograms, REDIS_URL: h.redisUrl }, say });
  assert.deepEqual([store.url, store.source], [h.redisUrl, 'given']);
  await store.stop();
  assert.equal(await h.redis.ping(), 'PONG');
});

test('a REDIS_URL that nobody answers at is one clear line', async () => {
  const server = await h.privateRedis();
  await server.stop();
  await assert.rejects(openRedis({ env: { REDIS_URL: server.url }, say }), (error) =>
    assertOneLine(error, /Redis of REDIS_URL does not answer: .*ECONNREFUSED/),
  );
});

test('a REDIS_URL with a wrong password is one clear line', async () => {
  const server = await h.privateRedis();
  const url = server.url.replace(/:[0-9a-f]+@/, ':wrong@');
  await assert.rejects(openRedis({ env: { REDIS_URL: url }, say }), (error) =>
    assertOneLine(error, /Redis of REDIS_URL does not answer: .*WRONGPASS/),
  );
});

for (const name of ['redis-server', 'valkey-server']) {
  test(`a ${name} on PATH is started`, async () => {
    await assertWorks({ env: { PATH: await pathWith(name, runReal) }, say }, 'path');
  });
}

test('a broken or too old server on PATH is passed over', async () => {
  const old = await pathWith('redis-server', 'echo Redis server v=6.2.14 sha=00000000:0');
  const broken = await pathWith('redis-server', 'exit 127');
  const good = await pathWith('redis-server', runReal);
  await assertWorks({ env: { PATH: `${old}:${broken}:${good}` }, say }, 'path');
  await assert.rejects(
    openRedis({ env: { PATH: `${old}:${broken}`, XDG_CACHE_HOME: folder }, say }),
    (error) => assertOneLine(error, /version 6\.2; .* is broken/),
  );
});

test('without any, the line says what to install', async () => {
  await assert.rejects(openRedis({ env: { PATH: noPrograms, XDG_CACHE_HOME: folder }, say }), (error) =>
    assertOneLine(error, /^No Redis found: install redis-server or valkey-server .* or set REDIS_URL/),
  );
});

test('without a server on PATH, one is unpacked from packages, and used again', async (t) => {
  const PATH = await pathWithout(/redis|valkey/, join(folder, 'without-redis'));
  const options = { env: { PATH, XDG_CACHE_HOME: join(folder, 'cache') }, say };
  const found = await findRedisBinary(options).catch((error: Error) => error);
  if (found instanceof Error && /no apt-get on PATH|Unable to fetch|Could not resolve/.test(found.message)) {
    t.skip(`the package archive is not to be had here: ${found.message}`);
    return;
  }
  await assertWorks(options, 'packages');
  // The second time nothing is fetched: there is nothing to fetch with.
  await assertWorks({ env: { ...options.env, PATH: noPrograms }, say }, 'packages');
  assert.deepEqual(await readdir(join(folder, 'cache', 'pool-hub')), ['redis']);
});

test('kept data survives a stop and a crash', async () => {
  const dataDir = join(folder, 'data');
  const first = await privateRedis({ env: process.env, say, dataDir });
  const writer = new Redis(first.url);
  await writer.set('before', 'stop');
  writer.disconnect();
  await first.dispose();

  const second = await privateRedis({ env: process.env, say, dataDir });
  h.cleanup(() => second.dispose());
  const reader = new Redis(second.url);
  assert.equal(await reader.get('before'), 'stop');
  reader.disconnect();
  await second.kill();

  const third = await privateRedis({ env: process.env, say, dataDir });
  h.cleanup(() => third.dispose());
  const again = new Redis(third.url);
  assert.equal(await again.get('before'), 'stop');
  again.disconnect();
});
