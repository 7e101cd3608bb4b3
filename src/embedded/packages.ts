import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { findOnPath, isExecutable, lastLine, outputOf, versionOf } from './programs.ts';
import type { RedisBinary } from './redis-server.ts';

/** Fetching the package lists of a slow mirror, and then a few megabytes of packages. */
const FETCH_TIMEOUT_MS = 180_000;

/** Servers to look for in the archive, best first. */
const SERVERS = ['redis-server', 'valkey-server'];

/** The C library must be the one that the system's loader belongs to. */
const NEVER_UNPACK = /^(libc6|libc-bin|libgcc-s1|libcrypt1)$/;
/** What a server links to; its other dependencies (users, init scripts) are not needed to run it. */
const WORTH_UNPACKING = /^(redis|valkey|lib|lua-)/;

/** What `--version` of a server says; captures the major and the minor number. */
export const REDIS_VERSION = /v=(\d+)\.(\d+)/;

type Unpacked = { binary: RedisBinary; version: [number, number] } | { reason: string };

/**
 * A Redis unpacked from the distribution's packages into `folder`, without root and without touching the system. What
 * an earlier run has unpacked is used again.
 */
export async function unpackedRedis(
  folder: string,
  env: NodeJS.ProcessEnv,
  say: (line: string) => void,
): Promise<Unpacked> {
  const ready = await usable(folder);
  if (ready !== undefined) return ready;
  const aptGet = findOnPath('apt-get', env.PATH)[0];
  const aptCache = findOnPath('apt-cache', env.PATH)[0];
  const dpkg = findOnPath('dpkg', env.PATH)[0];
  if (aptGet === undefined || aptCache === undefined || dpkg === undefined) {
    return { reason: 'no apt-get on PATH to fetch one with' };
  }
  say(`No redis-server on PATH: unpacking one into ${folder}`);
  await mkdir(dirname(folder), { recursive: true, mode: 0o700 });
  const work = await mkdtemp(`${folder}-`);
  try {
    await fetchAndUnpack({ aptGet, aptCache, dpkg, env, work });
    const made = await usable(join(work, 'root'));
    if (made === undefined) return { reason: 'the unpacked redis-server does not run here' };
    await rm(folder, { recursive: true, force: true });
    await rename(join(work, 'root'), folder).catch((error: NodeJS.ErrnoException) => {
      // Another start has put the same there first.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } catch (error) {
    return {
      reason: `apt-get: ${lastLine((error as { stderr?: string }).stderr || (error as Error).message)}`,
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return (await usable(folder)) ?? { reason: 'the unpacked redis-server does not run here' };
}

interface Tools {
  aptGet: string;
  aptCache: string;
  dpkg: string;
  env: NodeJS.ProcessEnv;
  work: string;
}

async function fetchAndUnpack(tools: Tools): Promise<void> {
  const { work, env } = tools;
  const archives = join(work, 'archives');
  await mkdir(archives);
  const packages = await download(tools, archives, []).catch(async () => {
    // No package lists, or too old ones: fetch our own, since only root may change the system's.
    const state = join(work, 'apt');
    await mkdir(join(state, 'lists', 'partial'), { recursive: true });
    await mkdir(join(state, 'cache', 'archives', 'partial'), { recursive: true });
    const own = [
      ...['-o', `Dir::State::Lists=${join(state, 'lists')}`],
      ...['-o', `Dir::Cache=${join(state, 'cache')}`],
      ...['-o', 'APT::Sandbox::User=', '-o', 'Acquire::Languages=none'],
    ];
    await outputOf(tools.aptGet, ['-q', ...own, 'update'], { env, timeoutMs: FETCH_TIMEOUT_MS });
    return download(tools, archives, own);
  });
  if (packages === 0) throw new Error('no redis-server in the archive');
  for (const file of await readdir(archives)) {
    if (file.endsWith('.deb'))
      await outputOf(tools.dpkg, ['-x', join(archives, file), join(work, 'root')], { env });
  }
}

/** Downloads the server and the libraries it needs; the number of packages. @throws when a package is not to be had. */
async function download(tools: Tools, archives: string, aptOptions: string[]): Promise<number> {
  const { env } = tools;
  const server = await firstKnown(tools, aptOptions);
  const wanted = new Set([server]);
  for (const name of wanted) {
    const text = await outputOf(tools.aptCache, [...aptOptions, 'depends', '--important', name], { env });
    for (const [, dependency] of text.matchAll(/^ *\|?(?:Pre)?Depends: ([a-z0-9][a-z0-9.+-]*)/gm)) {
      const needed = dependency as string;
      if (WORTH_UNPACKING.test(needed) && !NEVER_UNPACK.test(needed)) wanted.add(needed);
    }
  }
  await outputOf(tools.aptGet, ['-q', ...aptOptions, '-o', 'APT::Sandbox::User=', 'download', ...wanted], {
    cwd: archives,
    env,
    timeoutMs: FETCH_TIMEOUT_MS,
  });
  return wanted.size;
}

async function firstKnown(tools: Tools, aptOptions: string[]): Promise<string> {
  for (const name of SERVERS) {
    const text = await outputOf(tools.aptCache, [...aptOptions, 'policy', name], { env: tools.env });
    if (/^ *Candidate: [^(]/m.test(text)) return name;
  }
  throw new Error(`no ${SERVERS.join(' or ')} in the package archive`);
}

/** The server in an unpacked tree, when it runs. */
async function usable(root: string): Promise<{ binary: RedisBinary; version: [number, number] } | undefined> {
  const file = SERVERS.map((name) => join(root, 'usr', 'bin', name)).find(isExecutable);
  if (file === undefined) return undefined;
  const libraries: string[] = [];
  for (const base of ['usr/lib', 'lib']) {
    const folder = join(root, base);
    if (!existsSync(folder)) continue;
    libraries.push(folder);
    for (const entry of await readdir(folder)) {
      // Debian's multiarch folders, such as x86_64-linux-gnu.
      if (/-linux-gnu/.test(entry)) libraries.push(join(folder, entry));
    }
  }
  const env = { PATH: process.env.PATH, LD_LIBRARY_PATH: libraries.join(':') };
  const version = await versionOf(file, REDIS_VERSION, { env });
  return version === undefined ? undefined : { binary: { file, libraries }, version };
}
