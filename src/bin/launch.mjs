#!/usr/bin/env node
/**
 * Runs a command of the project from source: `node src/bin/launch.mjs <command> [args]`. It first makes sure that
 * the locked dependencies are installed, so it may use nothing but what Node has built in.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { tryLock } from './lock.mjs';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const INSTALL_POLL_MS = 200;

/**
 * Entry points, and the files with settings that each reads; a variable that is set already wins.
 * @type {Record<string, { entry: string, settings?: string[] }>}
 */
const COMMANDS = {
  start: { entry: 'src/bin/all.ts', settings: ['.env'] },
  // The command line finds the stores and secrets of a running `npm start`.
  poolhub: { entry: 'src/cli/poolhub.ts', settings: ['.env', '.data/run.env'] },
  bench: { entry: 'bench/run.ts' },
  test: { entry: 'test/support/run.ts' },
  check: { entry: 'test/support/check.ts' },
};

const [command = '', ...args] = process.argv.slice(2);
if (command !== 'build' && COMMANDS[command] === undefined) {
  fail(`Usage: node src/bin/launch.mjs <${[...Object.keys(COMMANDS), 'build'].join('|')}> [args]`);
}
await ensureDependencies();
if (command === 'build') build();
else await runSource(COMMANDS[command] ?? fail(command));

/** @param {{ entry: string, settings?: string[] }} target */
async function runSource({ entry, settings = [] }) {
  for (const file of settings) {
    if (existsSync(join(ROOT, file))) process.loadEnvFile(join(ROOT, file));
  }
  const { register } = await import('tsx/esm/api');
  register();
  process.setSourceMapsEnabled(true);
  const path = join(ROOT, entry);
  // What the program would see if Node had been given the file itself.
  process.argv = [process.execPath, path, ...args];
  await import(pathToFileURL(path).href);
}

function build() {
  rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
  const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const { status } = spawnSync(process.execPath, [compiler, '-p', join(ROOT, 'tsconfig.build.json')], {
    stdio: 'inherit',
  });
  process.exitCode = status ?? 1;
}

/** Installs when node_modules is not what package-lock.json asks for; only one process at a time. */
async function ensureDependencies() {
  if (isInstalled()) return;
  for (let waited = false; ; waited = true) {
    const lock = tryLock(join(ROOT, '.data', 'install.lock'));
    if ('release' in lock) {
      try {
        if (!isInstalled()) install();
      } finally {
        lock.release();
      }
      return;
    }
    if (!waited) console.error('Waiting for another process to install the dependencies');
    await new Promise((resolve) => setTimeout(resolve, INSTALL_POLL_MS));
  }
}

/** npm writes node_modules/.package-lock.json last: what it lists is really there. */
function isInstalled() {
  const wanted = packagesIn(join(ROOT, 'package-lock.json')) ?? fail('package-lock.json is missing');
  const present = packagesIn(join(ROOT, 'node_modules', '.package-lock.json'));
  if (present === undefined) return false;
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    if (path === '') return true;
    const found = present[path];
    // An optional package may be for another system.
    return found === undefined ? optional === true : found.version === version;
  });
}

/**
 * @param {string} file
 * @returns {Record<string, { version?: string, optional?: boolean }> | undefined}
 */
function packagesIn(file) {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).packages : undefined;
}

function install() {
  console.error('Installing the locked dependencies (npm ci)');
  const npm = process.env.npm_execpath;
  const options = [
    'ci',
    '--include=dev',
    '--include=optional',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ];
  const [file, before] = npm?.endsWith('.js') ? [process.execPath, [npm]] : ['npm', []];
  // Standard output stays free for the command itself.
  const { status, error } = spawnSync(file, [...before, ...options], { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (status !== 0) fail(`npm ci failed${error ? `: ${error.message}` : ''}; see above`);
}

/**
 * @param {string} message
 * @returns {never}
 */
function fail(message) {
  console.error(message);
  process.exit(1);
}
