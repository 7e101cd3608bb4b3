import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import postgres from 'postgres';
import { openPostgres } from '../../src/embedded/postgres.ts';
import { openRedis } from '../../src/embedded/redis.ts';
import { migrateDatabase } from '../../src/platform/migrate.ts';
import type { Undo } from './undo.ts';

const UNLINK_BATCH = 1000;
const CONNECT_TIMEOUT_SEC = 10;

/** A Redis to measure on. */
export interface BenchRedis {
  readonly url: string;
  /** Starts every key of this run; what carries it is deleted at the end. */
  readonly prefix: string;
}

/** A private Redis, or the one of REDIS_URL, where the run leaves nothing behind. */
export async function benchRedis(undo: Undo): Promise<BenchRedis> {
  const store = await openRedis({ env: process.env, say: console.error });
  undo.push(() => store.stop());
  const prefix = `bench-${randomBytes(6).toString('hex')}`;
  if (store.source === 'given') undo.push(() => deleteKeys(store.url, prefix));
  return { url: store.url, prefix };
}

/**
 * A database of this run's own, on a private Postgres or on the server of DB_DSN, dropped at the end.
 * @param migrated whether the hub's schema is wanted in it
 * @returns its DSN
 */
export async function benchDatabase(undo: Undo, { migrated }: { migrated: boolean }): Promise<string> {
  const store = await openPostgres({ env: process.env });
  undo.push(() => store.stop());
  const name = `poolhub_bench_${randomBytes(6).toString('hex')}`;
  await administer(store.dsn, `CREATE DATABASE ${name}`);
  undo.push(() => administer(store.dsn, `DROP DATABASE ${name} WITH (FORCE)`));
  const url = new URL(store.dsn);
  url.pathname = `/${name}`;
  if (migrated) await migrateDatabase(url.href);
  return url.href;
}

async function administer(dsn: string, statement: string): Promise<void> {
  const sql = postgres(dsn, { max: 1, connect_timeout: CONNECT_TIMEOUT_SEC, onnotice: () => {} });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

async function deleteKeys(url: string, prefix: string): Promise<void> {
  const redis = new Redis(url, { maxRetriesPerRequest: 1 });
  try {
    for await (const batch of redis.scanStream({ match: `${prefix}:*`, count: UNLINK_BATCH })) {
      if (batch.length > 0) await redis.unlink(...(batch as string[]));
    }
  } finally {
    redis.disconnect();
  }
}
