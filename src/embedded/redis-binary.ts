import { join } from 'node:path';
import { cacheFolder } from './folders.ts';
import { REDIS_VERSION, unpackedRedis } from './packages.ts';
import { findOnPath, versionOf } from './programs.ts';
import type { RedisBinary } from './redis-server.ts';
import { SetupError } from './setup-error.ts';

/** Oldest server that has what the scripts use. */
export const MIN_REDIS_MAJOR = 7;

const NAMES = ['redis-server', 'valkey-server'];

export interface RedisSearch {
  env: NodeJS.ProcessEnv;
  /** One line about something slow that happens now. */
  say: (line: string) => void;
}

export interface FoundRedis extends RedisBinary {
  source: 'path' | 'packages';
}

/**
 * A redis-server or valkey-server of version 7.0 or newer: on PATH, else unpacked from the distribution's packages
 * into the cache folder.
 * @throws SetupError that says what to install.
 */
export async function findRedisBinary({ env, say }: RedisSearch): Promise<FoundRedis> {
  const rejected: string[] = [];
  for (const file of NAMES.flatMap((name) => findOnPath(name, env.PATH))) {
    const version = await versionOf(file, REDIS_VERSION);
    if (version !== undefined && version[0] >= MIN_REDIS_MAJOR)
      return { file, libraries: [], source: 'path' };
    rejected.push(`${file} is ${version === undefined ? 'broken' : `version ${version.join('.')}`}`);
  }
  const unpacked = await unpackedRedis(join(cacheFolder(env), 'redis'), env, say);
  if ('reason' in unpacked) rejected.push(unpacked.reason);
  else if (unpacked.version[0] >= MIN_REDIS_MAJOR) return { ...unpacked.binary, source: 'packages' };
  else rejected.push(`the distribution has version ${unpacked.version.join('.')}`);
  throw new SetupError(
    `No Redis found: install redis-server or valkey-server (${MIN_REDIS_MAJOR}.0 or newer), or set REDIS_URL (${rejected.join('; ')})`,
  );
}
