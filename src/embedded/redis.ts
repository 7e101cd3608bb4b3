import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findRedisBinary, MIN_REDIS_MAJOR, type RedisSearch } from './redis-binary.ts';
import { inspectRedis, type RedisServer, startRedisServer } from './redis-server.ts';
import { SetupError } from './setup-error.ts';

export interface RedisStore {
  url: string;
  source: 'given' | 'path' | 'packages';
  /** Stops a private server and removes temporary data; does nothing to a given one. */
  stop(): Promise<void>;
}

export interface RedisStoreOptions extends RedisSearch {
  /** Data of a private server, kept and durable; without it a temporary folder that goes with the server. */
  dataDir?: string | undefined;
  /** More configuration lines, as in redis.conf. */
  settings?: string[] | undefined;
  /** Of servers that talk to each other; else each has its own. */
  password?: string | undefined;
}

/**
 * The Redis of REDIS_URL when that is set, else a private one.
 * @throws SetupError when the given one does not answer or is too old, or none can be found or started.
 */
export async function openRedis(options: RedisStoreOptions): Promise<RedisStore> {
  const given = options.env.REDIS_URL;
  if (given) {
    await checkGivenRedis(given);
    return { url: given, source: 'given', stop: async () => {} };
  }
  const server = await privateRedis(options);
  return { url: server.url, source: server.source, stop: () => server.dispose() };
}

export interface PrivateRedis extends RedisServer {
  source: 'path' | 'packages';
  /** Stops the server and removes its temporary data. */
  dispose(): Promise<void>;
}

/** Finds and starts a private Redis. @throws SetupError when there is none to start. */
export async function privateRedis(options: RedisStoreOptions): Promise<PrivateRedis> {
  const binary = await findRedisBinary(options);
  const temporary = options.dataDir === undefined;
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'poolhub-redis-')));
  const discard = async () => {
    if (temporary) await rm(dataDir, { recursive: true, force: true });
  };
  try {
    const { settings = [], password } = options;
    const server = await startRedisServer({
      binary,
      dataDir,
      durable: !temporary,
      temporary,
      settings,
      password,
    });
    return {
      ...server,
      source: binary.source,
      async dispose() {
        await server.stop();
        await discard();
      },
    };
  } catch (error) {
    await discard();
    throw error;
  }
}

async function checkGivenRedis(url: string): Promise<void> {
  const info = await inspectRedis(url).catch((error: Error) => {
    throw new SetupError(`The Redis of REDIS_URL does not answer: ${error.message}`);
  });
  if (!(info.version[0] >= MIN_REDIS_MAJOR)) {
    throw new SetupError(
      `The Redis of REDIS_URL is version ${info.version.join('.')}, ${MIN_REDIS_MAJOR}.0 is needed`,
    );
  }
}
