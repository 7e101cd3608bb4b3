import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { devSecrets, writeEnvFile } from '../embedded/dev-secrets.ts';
import { openPostgres } from '../embedded/postgres.ts';
import { openRedis } from '../embedded/redis.ts';
import { SetupError } from '../embedded/setup-error.ts';
import { ConfigError, loadConfig } from '../platform/config.ts';
import { describeSettings } from '../platform/environment.ts';
import { startFailure } from '../platform/lifecycle.ts';
import { migrateDatabase } from '../platform/migrate.ts';
import { packageRoot } from '../platform/paths.ts';
import { HubError } from '../sdk/errors.ts';
import { firstCalls } from './first-calls.ts';
import { startHub } from './hub.ts';
import { tryLock } from './lock.mjs';
import { stopOnSignals } from './signals.ts';
import { startWorker } from './worker.ts';

const USAGE = `npm start [-- [--demo] [--data FOLDER]]
Runs one hub and one worker on the stores of REDIS_URL and DB_DSN, or on private ones with their data in FOLDER (.data).
--demo adds 200 simulated miners and a coordinator that gives them jobs, with a live summary.
Settings come from the environment and from .env; .env.example lists them.`;

/** Only for a start on one machine: every other process wants these to be chosen. */
const EMBEDDED_DEFAULTS = { MINER_ENROLLMENT: 'open', LOG_LEVEL: 'warn' };

/** All miners of the demo come from one address, and should not take minutes to. */
const DEMO_DEFAULTS = { RATE_LIMIT_REGISTER_PER_SEC: '50' };

/** Stands for the address of a store that is yet to be started, while the other settings are checked. */
const NOT_YET = { REDIS_URL: 'redis://127.0.0.1', DB_DSN: 'postgres://127.0.0.1/poolhub' };

const HEALTH_TIMEOUT_MS = 5_000;

/** What has been started, to be stopped in the opposite order. */
const started: Array<() => unknown> = [];

async function stopAll(): Promise<void> {
  for (let stop = started.pop(); stop !== undefined; stop = started.pop()) await stop();
}

async function start({ dataDir, demo }: { dataDir: string; demo: boolean }): Promise<void> {
  // Others may pass through (Postgres as root runs under another user), but not list or read.
  await mkdir(dataDir, { recursive: true, mode: 0o711 });
  takeFolder(dataDir);
  const secrets = await devSecrets(join(dataDir, 'secrets.env'));
  const given = Object.fromEntries(Object.entries(process.env).filter(([, value]) => value?.trim()));
  const settings = { ...EMBEDDED_DEFAULTS, ...(demo ? DEMO_DEFAULTS : {}), ...secrets, ...given };
  const early = loadConfig({ ...NOT_YET, ...settings });
  await checkPort(early.poolhub_bind, early.poolhub_port);

  const stores = await openStores(dataDir, settings);
  const config = loadConfig({ ...settings, ...stores });
  await migrateDatabase(config.db_dsn);
  const worker = await startWorker(config);
  started.push(() => worker.stop());
  const hub = await startHub(config);
  started.push(() => hub.stop());
  const runFile = join(dataDir, 'run.env');
  started.push(() => rm(runFile, { force: true }));
  await writeEnvFile(runFile, { ...knownSettings({ ...settings, ...stores }), POOLHUB_URL: hub.url });

  const health = await fetch(`${hub.url}/v1/health`, { signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) });
  const ownSecret = given.COORDINATOR_SHARED_SECRET === undefined;
  const coordinatorSecret = ownSecret ? secrets.COORDINATOR_SHARED_SECRET : '$COORDINATOR_SHARED_SECRET';
  console.log(`Pool Hub: ${hub.url} (API: ${hub.url}/docs, data: ${dataDir})`);
  console.log(`Health: ${await health.text()}\n`);
  console.log(firstCalls({ url: hub.url, coordinatorSecret }));
  console.log('\nCtrl-C stops it.');
  if (demo) await watchDemo(hub.url, config.coordinator_shared_secret[0] ?? '');
}

/** Runs until `stopAll`. @throws what the demo throws */
async function watchDemo(url: string, coordinatorSecret: string): Promise<void> {
  const { runDemo } = await import('../cli/demo/demo.ts');
  const ending = new AbortController();
  const done = runDemo({ urls: [url], coordinatorSecret, screen: process.stdout, signal: ending.signal });
  started.push(async () => {
    ending.abort();
    await Promise.allSettled([done]);
  });
  await done;
}

/** For the command line, which then works on what this start works on. */
function knownSettings(values: Record<string, string | undefined>): Record<string, string> {
  const found = describeSettings().map(({ name }) => [name, values[name]] as const);
  return Object.fromEntries(found.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** @throws SetupError when another start works on the folder */
function takeFolder(dataDir: string): void {
  const lock = tryLock(join(dataDir, 'lock'));
  if ('holderPid' in lock) {
    throw new SetupError(`Pool Hub already runs on ${dataDir} (process ${lock.holderPid})`);
  }
  started.push(lock.release);
}

/** Listens for a moment, so that a taken port is known before the stores are started. @throws what `listen` throws */
async function checkPort(bind: string, port: number): Promise<void> {
  const server = createServer().listen(port, bind);
  await once(server, 'listening');
  server.close();
  await once(server, 'close');
}

async function openStores(dataDir: string, env: NodeJS.ProcessEnv): Promise<Record<string, string>> {
  const say = (line: string) => console.log(line);
  const openings = await Promise.allSettled([
    env.REDIS_CLUSTER_NODES ? undefined : openRedis({ env, say, dataDir: join(dataDir, 'redis') }),
    openPostgres({ env, dataDir: join(dataDir, 'postgres') }),
  ]);
  for (const opening of openings) {
    if (opening.status === 'fulfilled') started.push(() => opening.value?.stop());
  }
  const [redis, postgres] = openings;
  if (redis.status === 'rejected') throw redis.reason;
  if (postgres.status === 'rejected') throw postgres.reason;
  return { ...(redis.value ? { REDIS_URL: redis.value.url } : {}), DB_DSN: postgres.value.dsn };
}

/** What a user can act on, in one line; undefined for a fault of ours. */
function explain(error: unknown): string | undefined {
  if (error instanceof SetupError) return error.message;
  if (error instanceof HubError) return `The demo does not go on: ${error.message}`;
  if (error instanceof ConfigError) return `Bad settings: ${error.message.replaceAll('\n', '; ')}`;
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (syscall === 'listen') return `${startFailure(error)}: set POOLHUB_BIND and POOLHUB_PORT`;
  if (code === 'EACCES' || code === 'EPERM')
    return `Not allowed to use ${path} (${code}): is it another user's?`;
  return undefined;
}

async function main(): Promise<void> {
  const options = { data: { type: 'string' }, demo: { type: 'boolean' }, help: { type: 'boolean' } } as const;
  let values: { data?: string | undefined; demo?: boolean | undefined; help?: boolean | undefined };
  try {
    values = parseArgs({ options }).values;
  } catch (error) {
    throw new SetupError(`${(error as Error).message}\n${USAGE}`);
  }
  if (values.help) {
    console.log(USAGE);
    return;
  }
  stopOnSignals(stopAll, () => 0);
  await start({ dataDir: resolve(values.data ?? join(packageRoot, '.data')), demo: values.demo ?? false });
}

try {
  await main();
} catch (error) {
  console.error(explain(error) ?? error);
  process.exitCode = 1;
  await stopAll();
}
