import type { Server } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { createHubApp } from '../hub/app.ts';
import { startBeacon } from '../hub/beacon.ts';
import { type HubDeps, type HubState, openDeps } from '../hub/deps.ts';
import { HEARTBEAT_PATH, MinerSockets } from '../hub/miners/socket.ts';
import { EVENTS_PATH, EventSockets } from '../hub/sla/events.ts';
import { type Config, loadConfig } from '../platform/config.ts';
import { closeServer, createHttpServer, listen } from '../platform/http.ts';
import { isMainModule, runMain, type Service, startFailure } from '../platform/lifecycle.ts';
import { createLogger, type Logger } from '../platform/logger.ts';
import { keepMigrating } from '../platform/migrate.ts';
import { whenReady } from '../platform/redis.ts';
import { routeUpgrades } from '../platform/upgrade.ts';

/** A hub that listens. */
export interface RunningHub extends Service {
  /** Where it listens, without a slash at the end. */
  readonly url: string;
}

const REDIS_START_BUDGET_MS = 2000;
const MIGRATION_START_BUDGET_MS = 5000;

/** For openDeps().close() and a margin. */
const STORES_CLOSE_MS = 3000;

const SHORT_SECRET_CHARS = 16;

/**
 * Starts one replica of the hub. The stores need not be there yet: until they are, /readyz answers 503.
 * @throws what the server throws when it cannot listen (EADDRINUSE, ...)
 */
export async function startHub(
  config: Config,
  log: Logger = createLogger(config.log_level, 'hub'),
): Promise<RunningHub> {
  warnOfShortSecrets(config, log);
  const deps = openDeps(config, log);
  const state: HubState = { draining: false };
  const server = createHttpServer(createHubApp(deps, state));
  const sockets = new MinerSockets(deps);
  const events = new EventSockets(deps);
  routeUpgrades(server, { [HEARTBEAT_PATH]: sockets.upgrade, [EVENTS_PATH]: events.upgrade });
  const migration = keepMigrating(config.db_dsn, log);
  try {
    await Promise.all([
      waitForRedis(deps),
      Promise.race([migration.settled, sleep(MIGRATION_START_BUDGET_MS, undefined, { ref: false })]),
    ]);
    const url = await listen(server, config.poolhub_bind, config.poolhub_port);
    const stopBeacon = startBeacon(deps);
    log.info({ url }, 'listening');
    let stopped: Promise<void> | undefined;
    return {
      url,
      stop() {
        migration.stop();
        stopped ??= stop({ deps, state, server, sockets, events, stopBeacon });
        return stopped;
      },
    };
  } catch (error) {
    migration.stop();
    await Promise.all([sockets.stop(), events.stop()]);
    await deps.close();
    throw error;
  }
}

interface Parts {
  readonly deps: HubDeps & { close(): Promise<void> };
  readonly state: HubState;
  readonly server: Server;
  readonly sockets: MinerSockets;
  readonly events: EventSockets;
  readonly stopBeacon: () => void;
}

/**
 * Readiness says no first, and requests are still served for SHUTDOWN_DRAIN_MS, so that load balancers turn away before anybody is refused. Then
 * the listener closes, sockets get 1012, requests in flight finish, and the stores are let go.
 */
async function stop({ deps, state, server, sockets, events, stopBeacon }: Parts): Promise<void> {
  state.draining = true;
  await sleep(deps.config.shutdown_drain_ms);
  stopBeacon();
  await Promise.all([
    closeServer(server, requestBudgetMs(deps.config), deps.log),
    sockets.stop(),
    events.stop(),
  ]);
  await deps.close();
}

/** What is left of SHUTDOWN_TIMEOUT_SEC for requests in flight once the drain is over and the stores are left their time. */
function requestBudgetMs(config: Config): number {
  return Math.max(0, config.shutdown_timeout_sec * 1000 - config.shutdown_drain_ms - STORES_CLOSE_MS);
}

/** Redis is usually there: then the first request finds a connection. When it is not, the hub starts without it. */
async function waitForRedis({ redis, log }: HubDeps): Promise<void> {
  try {
    await whenReady(redis, REDIS_START_BUDGET_MS);
  } catch (error) {
    log.warn({ err: error }, 'starting without Redis');
  }
}

function warnOfShortSecrets(config: Config, log: Logger): void {
  const secrets = {
    COORDINATOR_SHARED_SECRET: config.coordinator_shared_secret,
    ADMIN_API_KEY: config.admin_api_key,
  };
  for (const [setting, values] of Object.entries(secrets)) {
    if (values.some((secret) => secret.length < SHORT_SECRET_CHARS)) {
      log.warn({ setting }, `shorter than ${SHORT_SECRET_CHARS} characters: easy to guess`);
    }
  }
}

if (isMainModule(import.meta.url)) {
  try {
    const config = loadConfig();
    const log = createLogger(config.log_level, 'hub');
    await runMain(() => startHub(config, log), log, config.shutdown_timeout_sec);
  } catch (error) {
    console.error(startFailure(error));
    process.exitCode = 1;
  }
}
