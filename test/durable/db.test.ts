import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { sql } from 'drizzle-orm';
import { connectDatabase, type Database } from '../../src/platform/db.ts';
import { isDataError, isPostgresUnavailable } from '../../src/platform/db-errors.ts';
import { migrateDatabase } from '../../src/platform/migrate.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { databaseOf } from '../support/databases.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';

const h = await harness();

const settings = (db_dsn: string) => ({
  db_dsn,
  db_pool_max: 4,
  db_connect_timeout_sec: 1,
  db_statement_timeout_ms: 2000,
  db_idle_timeout_sec: 30,
});

function open(dsn: string, others: Partial<ReturnType<typeof settings>> = {}): Database {
  const db = connectDatabase({ ...settings(dsn), ...others }, 'test');
  h.cleanup(() => db.close(1000));
  return db;
}

/** A server that does with each connection what it is told; it ends with all of them. */
async function listenWith(accept: (socket: Socket) => void): Promise<{ port: number }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    accept(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  h.cleanup(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port };
}

const answers = (db: Database) =>
  waitFor(() => db.ping(1000), { timeoutMs: 20_000, what: 'Postgres answers' });

test('many processes migrate an empty database at once', async () => {
  const server = await h.privatePostgres();
  await Promise.all(Array.from({ length: 6 }, () => migrateDatabase(server.dsn)));
  const db = open(server.dsn);
  const rows = await db.run((orm) =>
    orm.execute(sql`select tablename from pg_tables where schemaname = 'poolhub' order by 1`),
  );
  const tables = new Set(rows.map((row) => row.tablename));
  for (const name of ['feedback', 'miner_status', 'miners', 'price_overrides'])
    assert.ok(tables.has(name), name);
  const applied = await db.run((orm) => orm.execute(sql`select hash from drizzle.__drizzle_migrations`));
  const files = readdirSync(join(packageRoot, 'drizzle')).filter((name) => name.endsWith('.sql'));
  assert.equal(applied.length, files.length, 'each migration ran once');
  assert.equal(new Set(applied.map((row) => row.hash)).size, applied.length);
});

test('the indexes of the source document exist', async () => {
  const db = open(await h.db());
  const rows = await db.run((orm) =>
    orm.execute(sql`select indexname from pg_indexes where schemaname = 'poolhub'`),
  );
  const names = new Set(rows.map((row) => row.indexname));
  for (const name of [
    'idx_miners_region_caps_gte_vram',
    'idx_status_updated_at',
    'idx_feedback_miner_time',
  ]) {
    assert.ok(names.has(name), name);
  }
});

test('calls fail fast while Postgres is down, and work again by themselves', async () => {
  const server = await h.privatePostgres();
  const db = open(server.dsn);
  assert.equal(await db.ping(1000), true);
  await server.kill();
  await assert.rejects(
    db.run((orm) => orm.execute(sql`select 1`)),
    (error) => isPostgresUnavailable(error),
  );
  // The breaker is open now: no call waits for anything.
  const calls = Array.from({ length: 1000 }, () => db.run((orm) => orm.execute(sql`select 1`)));
  for (const { status } of await Promise.allSettled(calls)) assert.equal(status, 'rejected');
  await server.start();
  await answers(db);
  const [row] = await db.run((orm) => orm.execute(sql`select 41 + 1 as answer`));
  assert.equal(row?.answer, 42);
});

test('a server that accepts and never answers spends the budget of one call, not of all', async () => {
  const silent = await listenWith(() => {});
  const db = open(`postgresql://nobody@127.0.0.1:${silent.port}/none`);
  await assert.rejects(
    db.run((orm) => orm.execute(sql`select 1`), 50),
    { code: 'unavailable' },
  );
  const heldBack = Array.from({ length: 1000 }, () => db.run((orm) => orm.execute(sql`select 1`), 60_000));
  for (const { status } of await Promise.allSettled(heldBack)) assert.equal(status, 'rejected');
});

test('a call that ran out of its budget is given up; the next ones go on', async () => {
  const db = open(await h.db());
  const slow = db.run((orm) => orm.execute(sql`select pg_sleep(0.5)`), 50);
  await assert.rejects(slow, { code: 'unavailable' });
  await answers(db);
});

test('a short budget leaves the statements of others alone', async () => {
  const db = open(await h.db(), { db_pool_max: 2 });
  // Longer than a pool that is given up has left.
  const others = Array.from({ length: 2 }, () => db.run((orm) => orm.execute(sql`select pg_sleep(1.2)`)));
  await assert.rejects(
    db.run((orm) => orm.execute('select 1'), 10),
    isPostgresUnavailable,
  );
  assert.equal(await db.ping(1000), true, 'the pool is full, Postgres is there');
  for (const { status } of await Promise.allSettled(others)) assert.equal(status, 'fulfilled');
});

test('connections that are dead without knowing it are given up, though each call has a short budget', async () => {
  const dsn = new URL(await h.db());
  const [host, port] = [dsn.hostname, Number(dsn.port)];
  let isMute = false;
  const proxy = await listenWith((socket) => {
    const server = connect(port, host);
    socket.on('error', () => {}).on('close', () => server.destroy());
    server.on('error', () => {}).on('close', () => socket.destroy());
    server.pipe(socket);
    if (isMute) socket.pipe(server);
    else socket.on('data', (data) => isMute || server.write(data));
  });
  dsn.port = String(proxy.port);
  const db = open(dsn.href, { db_pool_max: 1, db_statement_timeout_ms: 100 });
  await answers(db);
  isMute = true; // For the connections of now, as when a firewall has forgotten them.
  const goesThrough = () => db.run((orm) => orm.execute('select 1'), 50).then(Boolean, () => false);
  assert.equal(await goesThrough(), false);
  await waitFor(goesThrough);
});

test('a server without a free connection is not away', async () => {
  const dsn = new URL(await h.db());
  const admin = open(dsn.href);
  const role = `limited_${databaseOf(dsn.href)}`;
  await admin.run((orm) => orm.execute(sql.raw(`create role ${role} login connection limit 1 password 'p'`)));
  h.cleanup(() => admin.run((orm) => orm.execute(sql.raw(`drop role ${role}`))));
  [dsn.username, dsn.password] = [role, 'p'];
  const db = open(dsn.href);
  const select = () => db.run((orm) => orm.execute(sql`select pg_sleep(0.2)`));
  // Which of the two gets the connection is for the server to choose.
  const outcomes = await Promise.allSettled([select(), select()]);
  const [refused, ...others] = outcomes.filter((outcome) => outcome.status === 'rejected');
  assert.ok(refused !== undefined && isPostgresUnavailable(refused.reason));
  assert.deepEqual(others, []);
  const [, isThere] = await Promise.all([select(), db.ping(1000)]);
  assert.equal(isThere, true);
});

test('a connection lost under a statement fails that statement only', async () => {
  const dsn = await h.db();
  const [db, killer] = [open(dsn), open(dsn)];
  for (let round = 0; round < 20; round++) {
    await answers(db);
    const calls = Array.from({ length: 8 }, () => db.run((orm) => orm.execute(sql`select pg_sleep(0.01)`)));
    const outcomes = Promise.allSettled(calls);
    await killer.run((orm) =>
      orm.execute(sql`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()`),
    );
    for (const result of await outcomes) {
      if (result.status === 'rejected') assert.ok(isPostgresUnavailable(result.reason));
    }
  }
  await answers(db);
});

test('more calls than the pool can ever serve are refused', async () => {
  const db = open(await h.db());
  const calls = Array.from({ length: 250 }, () => db.run((orm) => orm.execute(sql`select pg_sleep(0.002)`)));
  const refused = (await Promise.allSettled(calls)).filter(({ status }) => status === 'rejected');
  assert.equal(refused.length, 50);
});

test('errors are told apart: not now, bad data, our own mistake', async () => {
  const db = open(await h.db());
  const failing = async (statement: string): Promise<unknown> => {
    try {
      await db.run((orm) => orm.execute(sql.raw(statement)));
    } catch (error) {
      return error;
    }
    throw new Error('did not fail');
  };
  const tooSlow = await failing('select pg_sleep(10)');
  assert.ok(isPostgresUnavailable(tooSlow) && !isDataError(tooSlow));
  assert.equal(await db.ping(1000), true, 'a slow statement is no outage');
  const overflow = await failing("select '1e400'::float8");
  assert.ok(isDataError(overflow) && !isPostgresUnavailable(overflow));
  const broken = await failing('insert into poolhub.miner_status values (null)');
  assert.ok(isDataError(broken) && !isPostgresUnavailable(broken));
  const mistake = await failing('select * from no_such_table');
  assert.ok(!isDataError(mistake) && !isPostgresUnavailable(mistake));
});

test('days are those of UTC, whatever the time zone of the server', async () => {
  const dsn = await h.db();
  const admin = open(dsn);
  const setZone = (zone: string) =>
    admin.run((orm) => orm.execute(sql.raw(`alter database ${databaseOf(dsn)} set timezone to '${zone}'`)));
  await setZone('Europe/Berlin');
  h.cleanup(() => setZone('UTC'));
  const [row] = await open(dsn).run((orm) =>
    orm.execute(
      sql`select timestamptz '2026-04-01T00:00:00Z' - make_interval(days => 7) = '2026-03-25T00:00:00Z' as exact`,
    ),
  );
  assert.equal(row?.exact, true);
});

test('an error does not carry the values of the statement', async () => {
  const db = open(await h.db());
  const error = await db
    .run((orm) => orm.execute(sql`select ${'a-secret-value'}::text, 1 / 0`))
    .catch((caught: unknown) => caught);
  assert.ok(error instanceof Error && isDataError(error));
  assert.ok(!inspect(error, { depth: 5 }).includes('a-secret-value'));
});
