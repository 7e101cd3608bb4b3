import os from 'node:os';
import { Redis } from 'ioredis';
import postgres from 'postgres';
import { benchDatabase, benchRedis } from '../support/stores.ts';
import type { Undo } from '../support/undo.ts';

/** What figures depend on. Nothing that names the machine. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memory_gib: number;
  readonly system: string;
  readonly node: string;
  readonly redis: string;
  readonly postgres: string;
}

const GIB = 2 ** 30;
const CONNECT_TIMEOUT_SEC = 10;

/** Looks at this machine, and asks the stores of a run for their versions. */
export async function lookAtMachine(undo: Undo): Promise<Machine> {
  const { url } = await benchRedis(undo);
  const dsn = await benchDatabase(undo, { migrated: false });
  return {
    cpu: os.cpus()[0]?.model.replace(/\s+/g, ' ').trim() ?? 'unknown processor',
    cores: os.cpus().length,
    memory_gib: Math.round(os.totalmem() / GIB),
    system: `${os.type()} ${os.release().split('-')[0]} ${os.arch()}`,
    node: process.version.slice(1),
    redis: await redisVersion(url),
    postgres: await postgresVersion(dsn),
  };
}

async function redisVersion(url: string): Promise<string> {
  const redis = new Redis(url, { maxRetriesPerRequest: 1 });
  try {
    const info = await redis.info('server');
    const valkey = /^valkey_version:(\S+)/m.exec(info)?.[1];
    return valkey === undefined ? (/^redis_version:(\S+)/m.exec(info)?.[1] ?? '?') : `Valkey ${valkey}`;
  } finally {
    redis.disconnect();
  }
}

async function postgresVersion(dsn: string): Promise<string> {
  const sql = postgres(dsn, { max: 1, connect_timeout: CONNECT_TIMEOUT_SEC, onnotice: () => {} });
  try {
    const [row] = await sql<{ server_version: string }[]>`show server_version`;
    // A distribution adds its own in brackets.
    return row?.server_version.split(' ')[0] ?? '?';
  } finally {
    await sql.end({ timeout: 5 });
  }
}
