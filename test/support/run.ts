import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { availableParallelism, constants, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { stopOnSignals } from '../../src/bin/signals.ts';
import { openPostgres } from '../../src/embedded/postgres.ts';
import { openRedis } from '../../src/embedded/redis.ts';
import { SetupError } from '../../src/embedded/setup-error.ts';
import { type Program, startProgram } from '../../src/embedded/supervise.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { check } from './check.ts';
import { createTemplate, dropDatabase } from './databases.ts';
import type { Tally } from './tally.mjs';

/** Of one test file, and of each test in it. */
const TIMEOUT_MS = 600_000;
/** What the compiled project reads, beside itself. */
const BESIDE_SOURCES = ['package.json', 'node_modules', 'lua', 'drizzle'];

const USAGE = `npm test [-- PATH...]
Types, lint and all tests; with PATHs only the test files whose path contains one of them.
TEST_REDIS_URL and TEST_DB_DSN name stores to use instead of private ones.`;

/**
 * `npm test`: one Redis and one Postgres for all files, which get a prefix and a database each (see harness.ts).
 * @returns what failed; nothing when all is well
 */
async function main(filters: string[]): Promise<string[]> {
  const files = (await listTests(join(packageRoot, 'test'))).filter(
    (file) => filters.length === 0 || filters.some((part) => file.includes(part)),
  );
  if (files.length === 0) return ['no test file matches'];
  // As /tmp is: other users work in here too.
  const folder = await mkdtemp(join(tmpdir(), 'poolhub-test-'));
  await chmod(folder, 0o1777);
  // Stores of a test that was cut short may still be leaving.
  undo.push(() => rm(folder, { recursive: true, force: true, maxRetries: 20 }));
  const build = filters.length === 0 ? join(folder, 'build') : '';
  const failed = build === '' ? [] : await checkInto(build);
  const stores = await startStores();
  const env = { ...stores, TMPDIR: folder, TEST_BUILD: build };
  const tally = await runFiles(files, env, join(folder, 'tally.json'));
  if (tally === undefined) return [...failed, 'the test runner itself'];
  console.log(`${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped`);
  if (tally.failed > 0) failed.push(`${tally.failed} tests`);
  if (tally.passed === 0) failed.push('no test ran');
  for (const file of tally.empty) failed.push(`no test in ${relative(packageRoot, file)}`);
  return failed;
}

/** Checks, and leaves what tests start as processes in a folder, compiled, with all that it needs beside it. */
async function checkInto(build: string): Promise<string[]> {
  await mkdir(build);
  for (const name of BESIDE_SOURCES) await symlink(join(packageRoot, name), join(build, name));
  return await check(build);
}

/** Paths from the project folder: Node 20 takes no patterns, and a file must not be left out by mistake. */
async function listTests(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true });
  const tests = entries.filter((entry) => entry.endsWith('.test.ts')).sort();
  return tests.map((entry) => relative(packageRoot, join(folder, entry)));
}

async function startStores(): Promise<Record<string, string>> {
  const { TEST_REDIS_URL, TEST_DB_DSN } = process.env;
  const env = { ...process.env, REDIS_URL: TEST_REDIS_URL, DB_DSN: TEST_DB_DSN };
  const redis = await openRedis({ env, say: console.error });
  undo.push(() => redis.stop());
  const postgres = await openPostgres({ env });
  undo.push(() => postgres.stop());
  const template = await createTemplate(postgres.dsn);
  undo.push(() => dropDatabase(postgres.dsn, template));
  return { TEST_REDIS_URL: redis.url, TEST_DB_DSN: postgres.dsn, TEST_DB_TEMPLATE: template };
}

async function runFiles(
  files: string[],
  env: Record<string, string>,
  tallyFile: string,
): Promise<Tally | undefined> {
  const color = process.stdout.isTTY ? { FORCE_COLOR: '1' } : {};
  const program: Program = await startProgram(
    process.execPath,
    [
      ...['--enable-source-maps', '--import', 'tsx', '--test'],
      // One more than can run: tests wait a lot, for leases and for processes.
      ...[`--test-concurrency=${availableParallelism() + 1}`, `--test-timeout=${TIMEOUT_MS}`],
      ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
      ...['--test-reporter=./test/support/tally.mjs', `--test-reporter-destination=${tallyFile}`],
      ...files,
    ],
    {
      cwd: packageRoot,
      env: { ...process.env, ...color, ...env },
      onOutput: (text) => process.stdout.write(text),
    },
  );
  undo.push(() => program.stop());
  const { code } = await program.exited;
  // Not written when the runner was stopped or crashed.
  const text = await readFile(tallyFile, 'utf8').catch(() => '');
  const tally: Tally | undefined = text === '' ? undefined : JSON.parse(text);
  return tally !== undefined && (code === 0 || tally.failed > 0) ? tally : undefined;
}

const undo: Array<() => unknown> = [];

let cleaning = Promise.resolve();

/** Undoes what was done so far, the last first; a second call waits for the first. */
function cleanUp(): Promise<void> {
  cleaning = cleaning.then(async () => {
    for (let work = undo.pop(); work !== undefined; work = undo.pop()) await work();
  });
  return cleaning;
}

stopOnSignals(cleanUp, (signal) => 128 + constants.signals[signal]);

if (process.argv.includes('--help')) {
  console.log(USAGE);
} else {
  let failed: string[];
  try {
    failed = await main(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    failed = [error.message];
  } finally {
    await cleanUp();
  }
  if (failed.length > 0) console.log(`Failed: ${failed.join(', ')}`);
  process.exitCode = failed.length > 0 ? 1 : 0;
}
