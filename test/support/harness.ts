import { randomBytes } from 'node:crypto';
import { after } from 'node:test';
import { Redis } from 'ioredis';
import { type PrivatePostgres, privatePostgres } from '../../src/embedded/postgres.ts';
import { type PrivateRedis, privateRedis } from '../../src/embedded/redis.ts';
import { type Config, loadConfig } from '../../src/platform/config.ts';
import { type PrivateCluster, startCluster } from './cluster.ts';
import { cloneDatabase, createTemplate, databaseOf, dropDatabase } from './databases.ts';
import { type ProcessOptions, startScript, type TestProcess } from './processes.ts';

/** A process that is still alive this long after its last clean-up holds a socket or timer that nobody closed. */
const LEAK_TIMEOUT_MS = 5_000;
const CLEANUP_TIMEOUT_MS = 60_000;

/** Secrets of every configuration made by the harness. */
export const TEST_SECRETS = {
  COORDINATOR_SHARED_SECRET: 'test-coordinator-secret',
  ADMIN_API_KEY: 'test-admin-key',
  API_KEY_PEPPER: 'test-pepper-of-the-key-digests',
} as const;

/** What a test file works with. All of it is undone by itself after the last test of the file. */
export interface Harness {
  /** The Redis that all files of a run share. Never flush it. */
  redisUrl: string;
  redis: Redis;
  /** Starts every key of this file (REDIS_PREFIX); what carries it is deleted afterwards. */
  prefix: string;
  /** DSN of this file's own database with the newest schema; made at the first call. */
  db(): Promise<string>;
  /** Settings for a process or `loadConfig`: this file's stores, test secrets, port 0, and what is given. */
  env(overrides?: Record<string, string>): Promise<Record<string, string>>;
  config(overrides?: Record<string, string>): Promise<Config>;
  /** Runs `work` afterwards; the last registered runs first. */
  cleanup(work: () => unknown): void;
  /** Starts e.g. `src/bin/hub.ts` as a real process with exactly this environment (see `env`). */
  startProcess(script: string, options: ProcessOptions): Promise<TestProcess>;
  /** A Redis for this file alone, to stop, kill and start again on the same port. */
  privateRedis(settings?: string[]): Promise<PrivateRedis>;
  /** A Redis Cluster for this file alone: three masters and three replicas. */
  privateCluster(): Promise<PrivateCluster>;
  /** A Postgres for this file alone (empty, not migrated), to stop, kill and start again on the same port. */
  privatePostgres(): Promise<PrivatePostgres>;
}

/**
 * Call once at the top of a test file: `const h = await harness();`. Under `npm test` the stores are those of the run;
 * a file that runs alone starts its own.
 */
export async function harness(): Promise<Harness> {
  const cleanups: Array<() => unknown> = [];
  const cleanup = (work: () => unknown) => void cleanups.push(work);
  after(() => undo(cleanups), { timeout: CLEANUP_TIMEOUT_MS });

  const redisUrl = process.env.TEST_REDIS_URL || (await ownRedis(cleanup)).url;
  const redis = new Redis(redisUrl, { maxRetriesPerRequest: 1 });
  const prefix = `t-${randomBytes(6).toString('hex')}`;
  cleanup(async () => {
    await deleteKeys(redis, prefix);
    redis.disconnect();
  });

  let database: Promise<string> | undefined;
  const db = () => {
    database ??= ownDatabase(cleanup);
    return database;
  };
  const env = async (overrides: Record<string, string> = {}) => ({
    REDIS_URL: redisUrl,
    REDIS_PREFIX: prefix,
    DB_DSN: overrides.DB_DSN ?? (await db()),
    POOLHUB_PORT: '0',
    LOG_LEVEL: 'warn',
    // A machine with too much to do is no outage of Redis.
    REDIS_COMMAND_TIMEOUT_MS: '5000',
    ...TEST_SECRETS,
    ...overrides,
  });
  return {
    redisUrl,
    redis,
    prefix,
    db,
    env,
    config: async (overrides) => loadConfig(await env(overrides)),
    cleanup,
    async startProcess(script, options) {
      const started = await startScript(script, options);
      cleanup(() => started.stop());
      return started;
    },
    privateRedis: (settings) => ownRedis(cleanup, settings),
    privateCluster: () => startCluster(cleanup),
    privatePostgres: () => ownPostgres(cleanup),
  };
}

async function ownRedis(cleanup: Harness['cleanup'], settings: string[] = []): Promise<PrivateRedis> {
  const server = await privateRedis({ env: process.env, say: console.error, settings });
  cleanup(() => server.dispose());
  return server;
}

async function ownPostgres(cleanup: Harness['cleanup']): Promise<PrivatePostgres> {
  const server = await privatePostgres({ env: process.env });
  cleanup(() => server.dispose());
  return server;
}

async function ownDatabase(cleanup: Harness['cleanup']): Promise<string> {
  const admin = process.env.TEST_DB_DSN || (await ownPostgres(cleanup)).dsn;
  let template = process.env.TEST_DB_TEMPLATE;
  if (!template) {
    const made = await createTemplate(admin);
    cleanup(() => dropDatabase(admin, made));
    template = made;
  }
  const dsn = await cloneDatabase(admin, template);
  cleanup(() => dropDatabase(admin, databaseOf(dsn)));
  return dsn;
}

/** Runs every clean-up, the last registered first, and fails with all of their errors. */
async function undo(cleanups: Array<() => unknown>): Promise<void> {
  const errors: unknown[] = [];
  for (let work = cleanups.pop(); work !== undefined; work = cleanups.pop()) {
    try {
      await work();
    } catch (error) {
      errors.push(error);
    }
  }
  setTimeout(() => {
    console.error(
      `The test process does not end; still open: ${process.getActiveResourcesInfo().join(', ')}`,
    );
    process.exit(1);
  }, LEAK_TIMEOUT_MS).unref();
  if (errors.length > 0) throw new AggregateError(errors, `clean-up failed: ${errors.join('; ')}`);
}

async function deleteKeys(redis: Redis, prefix: string): Promise<void> {
  for await (const batch of redis.scanStream({ match: `*${prefix}*`, count: 1000 })) {
    if (batch.length > 0) await redis.unlink(...(batch as string[]));
  }
}
