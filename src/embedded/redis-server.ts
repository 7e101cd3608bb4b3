import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { endOrphan } from './orphan.ts';
import { onFreePort, PortTakenError } from './ports.ts';
import { lastLine } from './programs.ts';
import { SetupError } from './setup-error.ts';
import { type Program, startProgram } from './supervise.ts';

/** Loading a large append-only file takes its time. */
const START_TIMEOUT_MS = 60_000;

/** A redis-server or valkey-server and what it needs in its environment. */
export interface RedisBinary {
  file: string;
  /** Folders for LD_LIBRARY_PATH when it was unpacked outside the system. */
  libraries: string[];
}

export interface RedisServerOptions {
  binary: RedisBinary;
  dataDir: string;
  /** Keep the data over a restart (append-only file, synced every second). */
  durable: boolean;
  /** Remove `dataDir` when our process dies without stopping the server. */
  temporary: boolean;
  /** More configuration lines, as in redis.conf. */
  settings?: string[];
  /** Of servers that talk to each other; else each has its own. */
  password?: string | undefined;
}

/** A private Redis on a loopback port that stays the same over `kill`/`stop` and `start`. */
export interface RedisServer {
  url: string;
  pid(): number;
  start(): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
}

/**
 * Starts a private Redis on a free loopback port with a password of its own.
 * @throws SetupError with the server's last words when it does not come up.
 */
export async function startRedisServer(options: RedisServerOptions): Promise<RedisServer> {
  // The mode is for the folder itself: its parents may hold what others must reach.
  await mkdir(dirname(options.dataDir), { recursive: true });
  await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
  await endOrphan(join(options.dataDir, 'redis.pid'), options.dataDir, 'SIGTERM');
  const password = options.password ?? randomBytes(24).toString('hex');
  return onFreePort(async (port) => {
    const url = `redis://:${password}@127.0.0.1:${port}`;
    let program = await launch(options, port, password, url);
    return {
      url,
      pid: () => program.pid,
      async start() {
        program = await launch(options, port, password, url);
      },
      async stop() {
        await program.stop();
      },
      async kill() {
        program.signal('SIGKILL');
        await program.exited;
      },
    };
  });
}

async function launch(
  options: RedisServerOptions,
  port: number,
  password: string,
  url: string,
): Promise<Program> {
  const { binary, dataDir } = options;
  const configFile = join(dataDir, 'redis.conf');
  const lines = [
    'bind 127.0.0.1',
    `port ${port}`,
    `requirepass ${password}`,
    `masterauth ${password}`,
    `dir ${JSON.stringify(dataDir)}`,
    `pidfile ${JSON.stringify(join(dataDir, 'redis.pid'))}`,
    'daemonize no',
    'save ""',
    `appendonly ${options.durable ? 'yes' : 'no'}`,
    'maxmemory-policy noeviction',
    ...(options.settings ?? []),
  ];
  // In a file and not in the arguments: those can be read by every user of the machine.
  await writeFile(configFile, `${lines.join('\n')}\n`, { mode: 0o600 });
  const env: NodeJS.ProcessEnv = { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' };
  if (binary.libraries.length > 0) env.LD_LIBRARY_PATH = binary.libraries.join(':');
  const program = await startProgram(binary.file, [configFile], {
    env,
    cwd: dataDir,
    orphanedFolder: options.temporary ? dataDir : undefined,
  });
  try {
    await waitUntilItAnswers(program, url);
  } catch (error) {
    await program.stop();
    throw error;
  }
  return program;
}

async function waitUntilItAnswers(program: Program, url: string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (program.running()) {
    // Refused or loading: it is asked again until the deadline.
    const pid = await inspectRedis(url).then(
      (info) => info.pid,
      () => undefined,
    );
    if (pid === program.pid) return;
    if (Date.now() > deadline)
      throw new SetupError(`Redis did not answer within ${START_TIMEOUT_MS / 1000} s`);
    await delay(20);
  }
  await program.exited;
  if (/Address already in use/i.test(program.output())) throw new PortTakenError();
  throw new SetupError(`Redis ended right after its start: ${lastLine(program.output())}`);
}

/** What a Redis says of itself. */
export interface RedisInfo {
  /** [major, minor] of the protocol and command set (Valkey reports the Redis version it stands in for). */
  version: [number, number];
  pid: number;
}

/**
 * Asks a Redis for its version and pid, once, within `timeoutMs`.
 * @throws Error when it cannot be reached, refuses the password or is still loading.
 */
export async function inspectRedis(url: string, timeoutMs = 2_000): Promise<RedisInfo> {
  const path = url.startsWith('unix://') ? url.slice('unix://'.length).split('?', 1)[0] : undefined;
  const options = {
    lazyConnect: true,
    connectTimeout: timeoutMs,
    commandTimeout: timeoutMs,
    enableReadyCheck: false,
    maxRetriesPerRequest: 0,
    disableClientInfo: true,
    retryStrategy: () => null,
  };
  const redis = path === undefined ? new Redis(url, options) : new Redis({ ...options, path });
  let reason: Error | undefined;
  redis.on('error', (error: Error) => {
    reason = error;
  });
  try {
    await redis.connect();
    const info = await redis.info('server');
    const version = /^redis_version:(\d+)\.(\d+)/m.exec(info);
    const pid = /^process_id:(\d+)/m.exec(info);
    return { version: [Number(version?.[1]), Number(version?.[2])], pid: Number(pid?.[1]) };
  } catch (error) {
    throw reason ?? error;
  } finally {
    redis.disconnect();
  }
}
