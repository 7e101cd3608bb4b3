import { createHash } from 'node:crypto';
import { lstat, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import postgres from 'postgres';
import {
  findPostgresBinary,
  MIN_POSTGRES_MAJOR,
  type PostgresSearch,
  SHARED_FOLDERS,
} from './postgres-binary.ts';
import { clusterMajor, type PostgresServer, startPostgresServer } from './postgres-server.ts';
import { SetupError } from './setup-error.ts';
import { canEnter, type Identity, openFolder, postgresIdentity } from './unprivileged.ts';

export interface PostgresStore {
  dsn: string;
  source: 'given' | 'system' | 'path' | 'npm';
  /** Stops a private server and removes temporary data; does nothing to a given one. */
  stop(): Promise<void>;
}

export interface PostgresStoreOptions extends PostgresSearch {
  /** Data of a private server, kept and durable; without it a temporary folder that goes with the server. */
  dataDir?: string | undefined;
}

/**
 * The Postgres of DB_DSN when that is set, else a private one.
 * @throws SetupError when the given one does not answer or is too old, or none can be found or started.
 */
export async function openPostgres(options: PostgresStoreOptions): Promise<PostgresStore> {
  const given = options.env.DB_DSN;
  if (given) {
    await checkGivenPostgres(given);
    return { dsn: given, source: 'given', stop: async () => {} };
  }
  const server = await privatePostgres(options);
  return { dsn: server.dsn, source: server.source, stop: () => server.dispose() };
}

export interface PrivatePostgres extends PostgresServer {
  source: 'system' | 'path' | 'npm';
  /** Stops the server and removes its temporary data. */
  dispose(): Promise<void>;
}

/** Finds and starts a private Postgres. @throws SetupError when there is none to start. */
export async function privatePostgres(options: PostgresStoreOptions): Promise<PrivatePostgres> {
  const identity = await postgresIdentity();
  const temporary = options.dataDir === undefined;
  const folder =
    options.dataDir === undefined
      ? await temporaryFolder(identity)
      : await keptFolder(options.dataDir, identity, options);
  const discard = async () => {
    if (temporary) await rm(folder, { recursive: true, force: true });
  };
  try {
    const binary = await findPostgresBinary(options, identity, await clusterMajor(folder));
    const server = await startPostgresServer({ binary, identity, folder, durable: !temporary, temporary });
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

/**
 * The wanted folder, or, where the unprivileged user cannot get at it, one for it among the shared ones, with a link to
 * it in the wanted place.
 * @throws SetupError for data that the user could reach once and cannot any more
 */
async function keptFolder(wanted: string, identity: Identity, search: PostgresSearch): Promise<string> {
  const parent = dirname(wanted);
  await mkdir(parent, { recursive: true });
  if (await canEnter(parent, identity)) return wanted;
  const there = await lstat(wanted).catch(() => undefined);
  if (there?.isDirectory()) {
    throw new SetupError(
      `The user that Postgres runs as cannot reach ${wanted}: let it pass through the folders above`,
    );
  }
  const name = createHash('sha256').update(wanted).digest('hex').slice(0, 16);
  const folder = join(await openFolder((search.sharedFolders ?? SHARED_FOLDERS).state), name);
  if (there === undefined) await symlink(folder, wanted);
  return folder;
}

async function temporaryFolder(identity: Identity): Promise<string> {
  for (const base of [tmpdir(), '/tmp', '/var/tmp']) {
    if (await canEnter(base, identity)) return mkdtemp(join(base, 'poolhub-postgres-'));
  }
  throw new SetupError('Postgres needs a temporary folder that its user can enter: set TMPDIR to one');
}

async function checkGivenPostgres(dsn: string): Promise<void> {
  let version: number;
  try {
    const sql = postgres(dsn, { max: 1, connect_timeout: 5, onnotice: () => {} });
    try {
      const rows = await sql<{ major: number }[]>`
        SELECT current_setting('server_version_num')::int / 10000 AS major`;
      version = rows[0]?.major ?? 0;
    } finally {
      await sql.end({ timeout: 1 });
    }
  } catch (error) {
    throw new SetupError(`The Postgres of DB_DSN does not answer: ${(error as Error).message}`);
  }
  if (version < MIN_POSTGRES_MAJOR) {
    throw new SetupError(`The Postgres of DB_DSN is version ${version}, ${MIN_POSTGRES_MAJOR} is needed`);
  }
}
