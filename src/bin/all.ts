import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { loadCoordinatorConfig, ownSettings } from '../coordinator/environment.ts';
import { devSecrets, writeEnvFile } from '../embedded/dev-secrets.ts';
import { onFreePort, PortTakenError } from '../embedded/ports.ts';
import { openPostgres } from '../embedded/postgres.ts';
import { openRedis } from '../embedded/redis.ts';
import { SetupError } from '../embedded/setup-error.ts';
import { ConfigError, loadConfig } from '../platform/config.ts';
import { describeSettings } from '../platform/environment.ts';
import { listen } from '../platform/http.ts';
import { startFailure } from '../platform/lifecycle.ts';
import { migrateDatabase } from '../platform/migrate.ts';
import { packageRoot } from '../platform/paths.ts';
import { HubError } from '../sdk/errors.ts';
import { startCoordinator } from './coordinator.ts';
import { firstCalls } from './first-calls.ts';
import { startHub } from './hub.ts';
import { tryLock } from './lock.mjs';
import { stopOnSignals } from './signals.ts';
import { startWorker } from './worker.ts';

const USAGE = `npm start [-- [--demo] [--data FOLDER]]
Runs one hub, one worker and one coordinator on the stores of REDIS_URL and DB_DSN, or on private ones with their data in FOLDER (.data).
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
  const chosen = { ...EMBEDDED_DEFAULTS, ...(demo ? DEMO_DEFAULTS : {}), ...secrets, ...given };
  const settings = { ...chosen, ...(await checkAddresses(chosen)) };
  const stores = await openStores(dataDir, settings);
  const { hubUrl, coordinatorUrl } = await startServices({ ...settings, ...stores });
  const keys = {
    coordinatorSecret: firstKey(settings.COORDINATOR_SHARED_SECRET),
    clientKey: firstKey(settings.CLIENT_API_KEYS),
  };
  const runFile = join(dataDir, 'run.env');
  started.push(() => rm(runFile, { force: true }));
  await writeEnvFile(runFile, {
    ...knownSettings({ ...settings, ...stores }),
    POOLHUB_URL: hubUrl,
    COORDINATOR_URL: coordinatorUrl,
    CLIENT_API_KEY: keys.clientKey,
    COORDINATOR_MINER_KEY: firstKey(settings.MINER_API_KEYS),
    COORDINATOR_ADMIN_KEY: firstKey(settings.ADMIN_API_KEYS),
  });

  const health = await fetch(`${hubUrl}/v1/health`, { signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) });
  console.log(`Pool Hub: ${hubUrl} (API: ${hubUrl}/docs, data: ${dataDir})`);
  console.log(`Coordinator: ${coordinatorUrl} (API: ${coordinatorUrl}/docs)`);
  console.log(`Health: ${await health.text()}\n`);
  // A secret of the user's own is not for the screen.
  const shown = {
    coordinatorSecret: given.COORDINATOR_SHARED_SECRET
      ? '$COORDINATOR_SHARED_SECRET'
      : keys.coordinatorSecret,
    clientKey: given.CLIENT_API_KEYS ? '$CLIENT_API_KEY' : keys.clientKey,
  };
  console.log(firstCalls({ hubUrl, coordinatorUrl, ...shown }));
  console.log('\nCtrl-C stops it.');
  if (demo) await watchDemo(hubUrl, keys.coordinatorSecret);
}

/**
 * Starts hub, coordinator and worker. Whatever the user's settings name, this coordinator asks this hub for miners.
 */
async function startServices(
  settings: Record<string, string | undefined>,
): Promise<{ hubUrl: string; coordinatorUrl: string }> {
  const config = loadConfig(settings);
  await migrateDatabase(config.db_dsn);
  const hub = await startHub(config);
  started.push(() => hub.stop());
  const coordinator = await startCoordinator(
    loadCoordinatorConfig({
      ...settings,
      POOLHUB_URL: hub.url,
      POOLHUB_SECRET: config.coordinator_shared_secret[0],
    }),
  );
  started.push(() => coordinator.stop());
  const worker = await startWorker(config);
  started.push(() => worker.stop());
  return { hubUrl: hub.url, coordinatorUrl: coordinator.url };
}

/** The first key of a list whose entries are `key` or `id=key`. */
function firstKey(list = ''): string {
  const [first = ''] = list.split(',');
  return first.trim().replace(/^[A-Za-z0-9._:-]{1,64}=(?=[^=])/, '');
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
  const found = [...describeSettings(), ...describeSettings(ownSettings)].map(
    ({ name }) => [name, values[name]] as const,
  );
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

/**
 * Checks the settings and that both ports are free, before the stores are started.
 * @returns settings by which hub and worker bill at this coordinator, unless the user names another
 * @throws ConfigError; what `listen` throws for a port that is taken
 */
async function checkAddresses(settings: Record<string, string | undefined>): Promise<Record<string, string>> {
  const { poolhub_bind, poolhub_port } = loadConfig({ ...NOT_YET, ...settings });
  const { coordinator_bind, coordinator_port } = loadCoordinatorConfig({ ...NOT_YET, ...settings });
  await tryPort(poolhub_bind, poolhub_port);
  // The hub is told before the coordinator listens, so 0 does not do.
  const port = coordinator_port || (await freePort(coordinator_bind));
  const url = await tryPort(coordinator_bind, port);
  const coordinator = { COORDINATOR_PORT: String(port) };
  if (settings.COORDINATOR_BILLING_URL !== undefined) return coordinator;
  const key = firstKey(settings.ADMIN_API_KEYS);
  return { ...coordinator, COORDINATOR_BILLING_URL: url, COORDINATOR_API_KEY: key };
}

/** Listens for a moment. @returns the base URL; @throws what `listen` throws */
async function tryPort(bind: string, port: number): Promise<string> {
  const server = createServer();
  const url = await listen(server, bind, port);
  server.close();
  await once(server, 'close');
  return url;
}

function freePort(bind: string): Promise<number> {
  return onFreePort(async (port) => {
    await tryPort(bind, port).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'EADDRINUSE' ? new PortTakenError(error.message) : error;
    });
    return port;
  });
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
  if (syscall === 'listen')
    return `${startFailure(error)}: set POOLHUB_BIND and POOLHUB_PORT (COORDINATOR_BIND and COORDINATOR_PORT for the coordinator)`;
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
