import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate } from 'drizzle-orm/postgres-js/migrator';
import postgres from 'postgres';
import type { Logger } from './logger.ts';
import { packageRoot } from './paths.ts';

/** Any number will do as long as nothing else in the database uses it: "pool" in ASCII. */
const MIGRATION_LOCK = 0x706f6f6c;

const CONNECT_TIMEOUT_SEC = 10;

const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 30_000;

/**
 * Brings the database to the newest schema. An advisory lock lets any number of processes start at once: one
 * migrates, the others wait and find nothing left to do.
 * @param timeoutMs how long to wait for the lock, and for each statement
 * @throws what Postgres throws; nothing is half done, each run is one transaction
 */
export async function migrateDatabase(dsn: string, timeoutMs = 60_000): Promise<void> {
  const sql = postgres(dsn, {
    max: 1,
    connect_timeout: CONNECT_TIMEOUT_SEC,
    max_lifetime: null, // The lock belongs to the connection: it must not be exchanged half way.
    onnotice: () => {},
    connection: {
      application_name: 'poolhub-migrate',
      statement_timeout: timeoutMs,
      lock_timeout: timeoutMs,
    },
  });
  try {
    await sql`select pg_advisory_lock(${MIGRATION_LOCK})`;
    // No explicit unlock: closing the connection releases the lock, whatever happened before.
    await migrate(drizzle(sql), { migrationsFolder: join(packageRoot, 'drizzle') });
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/**
 * Migrates for a process that serves without Postgres too: tries until it has succeeded once, with backoff and jitter.
 * @returns `settled`, which resolves after the first attempt however it ends, `migrated`, which resolves after the one that succeeds, unless
 * it was stopped before, and `stop`, which ends the attempts
 */
export function keepMigrating(
  dsn: string,
  log: Logger,
): { settled: Promise<void>; migrated: Promise<void>; stop(): void } {
  const ending = new AbortController();
  let settle = () => {};
  const settled = new Promise<void>((resolve) => {
    settle = resolve;
  });
  let succeed = () => {};
  const migrated = new Promise<void>((resolve) => {
    succeed = resolve;
  });
  const attempt = async () => {
    for (let waitMs = RETRY_MIN_MS; !ending.signal.aborted; waitMs = Math.min(RETRY_MAX_MS, waitMs * 2)) {
      try {
        await migrateDatabase(dsn);
        if (!ending.signal.aborted) succeed();
        return;
      } catch (error) {
        log.warn({ err: error }, 'the database is not migrated yet');
      } finally {
        settle();
      }
      await sleep(waitMs * (0.5 + Math.random()), undefined, { signal: ending.signal, ref: false }).catch(
        () => {},
      );
    }
  };
  void attempt();
  return { settled, migrated, stop: () => ending.abort() };
}
