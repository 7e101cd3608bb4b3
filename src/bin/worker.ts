import type { Server } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Hono } from 'hono';
import { countByState } from '../hub/billing/store.ts';
import { openDeps } from '../hub/deps.ts';
import { hubTasks, journalLag, type TaskDeps } from '../hub/tasks.ts';
import type { AppEnv } from '../platform/app-env.ts';
import { type Config, loadConfig } from '../platform/config.ts';
import { createHttpApp, createHttpServer, listen } from '../platform/http.ts';
import { isMainModule, runMain, type Service, startFailure } from '../platform/lifecycle.ts';
import { createLogger, type Logger } from '../platform/logger.ts';
import { migrateDatabase } from '../platform/migrate.ts';
import { connectRedis, type RedisClient, whenReady } from '../platform/redis.ts';
import { sharedProbe } from '../platform/shared-probe.ts';
import { startTasks, type TaskRunner } from '../platform/task-runner.ts';

export interface RunningWorker extends Service {
  /** Where /livez and /metrics answer; undefined without WORKER_PORT. */
  readonly url: string | undefined;
}

const REDIS_START_TIMEOUT_MS = 10_000;
const SCHEDULE_CHECK_MS = 15_000;
const SCRAPE_TIMEOUT_MS = 2_000;

/**
 * Starts the background work of the hub: the catalogue in hub/tasks.ts. Any number
 * of workers share it. Postgres may be away at the start; Redis must answer.
 * @throws Error when Redis does not answer, or WORKER_PORT cannot be listened on
 */
export async function startWorker(
  config: Config,
  log: Logger = createLogger(config.log_level, 'worker'),
): Promise<RunningWorker> {
  const opened = openDeps(config, log);
  const queueRedis = connectQueues(config, log);
  const closers: (() => unknown)[] = [() => opened.close(), () => queueRedis.disconnect()];
  const stop = once(async () => {
    for (const close of closers.reverse()) await close();
  });
  try {
    await whenReady(opened.redis, REDIS_START_TIMEOUT_MS);
    const deps = { ...opened, migrated: untilDone(() => migrateDatabase(config.db_dsn)) };
    const runner = await startTasks(hubTasks(deps), queueRedis, config.redis_prefix, log, deps.metrics);
    closers.push(() => stopRunner(runner, config.shutdown_timeout_sec * 500, log));
    closers.push(watchSchedules(runner, queueRedis, log));
    if (config.worker_port === undefined) return { url: undefined, stop };
    const server = createHttpServer(watchApp(deps, runner));
    const url = await listen(server, config.poolhub_bind, config.worker_port);
    closers.push(() => closeServer(server));
    return { url, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/**
 * BullMQ blocks on its connections and waits out an outage by itself: no limit on commands or retries here. What had no answer when the
 * connection broke is sent again; without a limit of retries ioredis would else forget it, and BullMQ wait for it for good. So it would for a
 * `connect()` that finds a cluster without one of its masters: after that check ioredis connects again, but never settles the call.
 */
function connectQueues(config: Config, log: Logger): RedisClient {
  const target = {
    url: config.redis_url ?? '',
    clusterNodes: config.redis_cluster_nodes,
    commandTimeoutMs: config.redis_command_timeout_ms,
  };
  const redis = connectRedis(target, 'pool-hub-tasks', {
    commandTimeout: undefined,
    maxRetriesPerRequest: null,
    autoResendUnfulfilledCommands: true,
    enableOfflineQueue: true,
    enableAutoPipelining: false,
    clusterReadyCheck: false,
  });
  redis.on('error', (error: Error) => log.debug({ err: error }, 'task connection'));
  return redis;
}

/** A running task may finish, but a stop never waits for a Redis that is away. */
async function stopRunner(runner: TaskRunner, timeoutMs: number, log: Logger): Promise<void> {
  const stopped = runner.stop().then(() => 'stopped');
  const outcome = await Promise.race([stopped, sleep(timeoutMs, 'timeout', { ref: false })]);
  if (outcome === 'timeout')
    log.warn({ timeout_ms: timeoutMs }, 'tasks did not finish in time; another worker repeats them');
}

/**
 * Redis may lose its data in an outage: schedules are looked after when the connection returns, and now and
 * then.
 */
function watchSchedules(runner: TaskRunner, redis: RedisClient, log: Logger): () => void {
  const check = () => {
    if (redis.status !== 'ready') return;
    runner.ensureSchedules().catch((error: unknown) => log.warn({ err: error }, 'schedules not checked'));
  };
  const timer = setInterval(check, SCHEDULE_CHECK_MS);
  redis.on('ready', check);
  return () => {
    clearInterval(timer);
    redis.off('ready', check);
  };
}

/**
 * /livez and /metrics, for watchers. The gauges are read when somebody asks; what Redis or Postgres does not tell in
 * time stays as it was.
 */
function watchApp(deps: TaskDeps, runner: TaskRunner): Hono<AppEnv> {
  const { log, metrics } = deps;
  // Open to all, and the records are counted for it.
  const refresh = sharedProbe(async () => {
    metrics.journalLag.set(await journalLag(deps));
    for (const { queue, state, count } of await runner.counts()) metrics.tasks.set({ queue, state }, count);
    const usage = await deps.db.run(countByState, SCRAPE_TIMEOUT_MS);
    for (const [state, count] of Object.entries(usage)) metrics.usageRecords.set({ state }, count);
  });
  const app = createHttpApp({ ...deps, state: { draining: false } });
  app.get('/livez', (c) => c.json({ status: 'ok' }));
  app.get('/metrics', async (c) => {
    const fresh = refresh().catch((error: unknown) => log.warn({ err: error }, 'gauges are stale'));
    await Promise.race([fresh, sleep(SCRAPE_TIMEOUT_MS, undefined, { ref: false })]);
    return c.body(await metrics.registry.metrics(), 200, { 'Content-Type': metrics.registry.contentType });
  });
  return app;
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

function once(work: () => Promise<void>): () => Promise<void> {
  let result: Promise<void> | undefined;
  return () => {
    result ??= work();
    return result;
  };
}

/** Runs `work` until it has succeeded once; callers at the same time share one run. */
function untilDone(work: () => Promise<void>): () => Promise<void> {
  let result: Promise<void> | undefined;
  return () => {
    result ??= work().catch((error: unknown) => {
      result = undefined;
      throw error;
    });
    return result;
  };
}

if (isMainModule(import.meta.url)) {
  try {
    const config = loadConfig();
    const log = createLogger(config.log_level, 'worker');
    const start = async () => {
      const worker = await startWorker(config, log);
      process.stdout.write(`worker is running${worker.url === undefined ? '' : ` on ${worker.url}`}\n`);
      return worker;
    };
    await runMain(start, log, config.shutdown_timeout_sec);
  } catch (error) {
    console.error(startFailure(error));
    process.exitCode = 1;
  }
}
