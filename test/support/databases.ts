import { randomBytes } from 'node:crypto';
import postgres from 'postgres';
import { migrateDatabase } from '../../src/platform/migrate.ts';
import { waitFor } from './wait-for.ts';

/** Makes a new database with the newest schema, to clone from. @returns its name */
export async function createTemplate(adminDsn: string): Promise<string> {
  const name = uniqueName('template');
  await administer(adminDsn, (sql) => sql.unsafe(`CREATE DATABASE ${name}`));
  await migrateDatabase(dsnOf(adminDsn, name));
  return name;
}

/** Clones a database that nobody is connected to. @returns the DSN of the clone */
export async function cloneDatabase(adminDsn: string, template: string): Promise<string> {
  const name = uniqueName('test');
  await administer(adminDsn, (sql) => sql.unsafe(`CREATE DATABASE ${name} TEMPLATE ${template}`));
  return dsnOf(adminDsn, name);
}

/**
 * Drops a database, even one in use.
 * @throws Error when a connection to it was still open: somebody forgot to close it.
 */
export async function dropDatabase(adminDsn: string, name: string): Promise<void> {
  await administer(adminDsn, async (sql) => {
    let open = 0;
    const countOpen = async () => {
      const rows = await sql`SELECT count(*)::int AS open FROM pg_stat_activity WHERE datname = ${name}`;
      open = rows[0]?.open;
      return open === 0;
    };
    // A client that has just said goodbye is counted for a moment longer.
    await waitFor(countOpen, { timeoutMs: 2_000 }).catch(() => {});
    await sql.unsafe(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    if (open > 0) throw new Error(`${open} connections to the test database were left open`);
  });
}

/** The name of the database that a DSN points to. */
export function databaseOf(dsn: string): string {
  return new URL(dsn).pathname.slice(1);
}

async function administer<T>(adminDsn: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(adminDsn, { max: 1, connect_timeout: 10, onnotice: () => {} });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

function dsnOf(adminDsn: string, database: string): string {
  const url = new URL(adminDsn);
  url.pathname = `/${database}`;
  return url.href;
}

function uniqueName(kind: string): string {
  return `poolhub_${kind}_${randomBytes(6).toString('hex')}`;
}
