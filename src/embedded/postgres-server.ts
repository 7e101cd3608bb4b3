import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chown, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import postgres from 'postgres';
import { endOrphan } from './orphan.ts';
import { onFreePort, PortTakenError } from './ports.ts';
import type { PostgresBinary } from './postgres-binary.ts';
import { lastLine, outputOf } from './programs.ts';
import { SetupError } from './setup-error.ts';
import { type Program, startProgram } from './supervise.ts';
import type { Identity } from './unprivileged.ts';

/** Crash recovery replays the write-ahead log before it is ready. */
const START_TIMEOUT_MS = 120_000;
const INITDB_TIMEOUT_MS = 120_000;
const USER = 'poolhub';
const DATABASE = 'poolhub';
/** Line of postmaster.pid that says `ready` (LOCK_FILE_LINE_PM_STATUS of pg's pidfile.h). */
const STATUS_LINE = 7;

/** For throw-away data: nothing needs to survive a crash of the machine. */
const FAST_SETTINGS = ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off'];
const SETTINGS = [
  'listen_addresses=127.0.0.1',
  'unix_socket_directories=',
  'max_connections=300',
  'wal_level=minimal',
  'max_wal_senders=0',
];

export interface PostgresServerOptions {
  binary: PostgresBinary;
  identity: Identity;
  /** Gets cluster/ and password; its parent can be entered by `identity`. */
  folder: string;
  durable: boolean;
  /** Remove `folder` when our process dies without stopping the server. */
  temporary: boolean;
}

/** A private Postgres on a loopback port that stays the same over `kill`/`stop` and `start`. */
export interface PostgresServer {
  /** DSN of the database `poolhub`, as its superuser. */
  dsn: string;
  pid(): number;
  start(): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
}

/** The major version whose data is in `folder`; undefined when there is none yet. */
export async function clusterMajor(folder: string): Promise<number | undefined> {
  const text = await readFile(join(folder, 'cluster', 'PG_VERSION'), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : Number.parseInt(text, 10);
}

/**
 * Starts a private Postgres on a free loopback port with a password of its own; makes the cluster when there is none.
 * @throws SetupError with the server's last words when it does not come up.
 */
export async function startPostgresServer(options: PostgresServerOptions): Promise<PostgresServer> {
  const { folder, identity } = options;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if (identity.uid !== undefined && identity.gid !== undefined)
    await chown(folder, identity.uid, identity.gid);
  const cluster = join(folder, 'cluster');
  await endOrphan(join(cluster, 'postmaster.pid'), cluster, 'SIGINT');
  if (!existsSync(cluster)) await initCluster(options);
  const password = await readFile(join(folder, 'password'), 'utf8');
  return onFreePort(async (port) => {
    let program = await launch(options, port);
    const dsn = (database: string) => `postgres://${USER}:${password}@127.0.0.1:${port}/${database}`;
    await createDatabase(dsn('postgres')).catch(async (error) => {
      await program.stop();
      throw error;
    });
    return {
      dsn: dsn(DATABASE),
      pid: () => program.pid,
      async start() {
        program = await launch(options, port);
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

/** Makes the cluster under another name and renames it, so that one that was cut short is never used. */
async function initCluster({ binary, identity, folder, durable }: PostgresServerOptions): Promise<void> {
  const passwordFile = join(folder, 'password');
  const fresh = join(folder, 'cluster.new');
  await rm(fresh, { recursive: true, force: true });
  await writeFile(passwordFile, randomBytes(24).toString('hex'), { mode: 0o600 });
  if (identity.uid !== undefined && identity.gid !== undefined) {
    await chown(passwordFile, identity.uid, identity.gid);
  }
  const args = ['-D', fresh, '-U', USER, `--pwfile=${passwordFile}`, '--auth=scram-sha-256'];
  args.push('--encoding=UTF8', '--locale=C', ...(durable ? [] : ['--no-sync']));
  await outputOf(join(binary.bin, 'initdb'), args, {
    ...identity,
    env: cleanEnvironment(),
    timeoutMs: INITDB_TIMEOUT_MS,
  }).catch((error: { stderr?: string } & Error) => {
    throw new SetupError(
      `Postgres could not make its data folder: ${lastLine(error.stderr || error.message)}`,
    );
  });
  await rename(fresh, join(folder, 'cluster'));
}

async function launch(options: PostgresServerOptions, port: number): Promise<Program> {
  const { binary, identity, folder, durable, temporary } = options;
  const cluster = join(folder, 'cluster');
  const settings = [...SETTINGS, `port=${port}`, ...(durable ? [] : FAST_SETTINGS)];
  const args = ['-D', cluster, ...settings.flatMap((setting) => ['-c', setting])];
  const program = await startProgram(join(binary.bin, 'postgres'), args, {
    ...identity,
    env: cleanEnvironment(),
    // Fast shutdown: SIGTERM would wait for clients to leave.
    stopSignal: 'SIGINT',
    orphanedFolder: temporary ? folder : undefined,
  });
  try {
    await waitUntilReady(program, join(cluster, 'postmaster.pid'));
  } catch (error) {
    await program.stop();
    throw error;
  }
  return program;
}

async function waitUntilReady(program: Program, pidFile: string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (program.running()) {
    // Not there yet, or that of a crashed run that Postgres is about to replace.
    const lines = (await readFile(pidFile, 'utf8').catch(() => '')).split('\n');
    if (Number(lines[0]) === program.pid && lines[STATUS_LINE]?.trim() === 'ready') return;
    if (Date.now() > deadline)
      throw new SetupError(`Postgres was not ready within ${START_TIMEOUT_MS / 1000} s`);
    await delay(20);
  }
  await program.exited;
  if (/Address already in use/i.test(program.output())) throw new PortTakenError();
  throw new SetupError(`Postgres ended right after its start: ${lastLine(program.output())}`);
}

async function createDatabase(dsn: string): Promise<void> {
  const sql = postgres(dsn, { max: 1, connect_timeout: 10, onnotice: () => {} });
  try {
    const found = await sql`SELECT 1 FROM pg_database WHERE datname = ${DATABASE}`;
    if (found.length === 0) await sql.unsafe(`CREATE DATABASE ${DATABASE}`);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** Without the PG* variables, which would change what the server does. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' };
}
