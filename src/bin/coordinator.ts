import { setTimeout as sleep } from 'node:timers/promises';
import { createCoordinatorApp } from '../coordinator/app.ts';
import { type CoordinatorState, openCoordinator } from '../coordinator/deps.ts';
import { type CoordinatorConfig, loadCoordinatorConfig } from '../coordinator/environment.ts';
import { createGuards } from '../coordinator/guards.ts';
import { JOB_STREAM_PATH, jobStreamUpgrades } from '../coordinator/jobs/stream-socket.ts';
import { type Loops, startLoops } from '../coordinator/loops.ts';
import { closeServer, createHttpServer, listen } from '../platform/http.ts';
import { isMainModule, runMain, type Service, startFailure } from '../platform/lifecycle.ts';
import { createLogger, type Logger } from '../platform/logger.ts';
import { keepMigrating } from '../platform/migrate.ts';
import { routeUpgrades } from '../platform/upgrade.ts';

/** A coordinator that listens. */
export interface RunningCoordinator extends Service {
  /** Where it listens, without a slash at the end. */
  readonly url: string;
}

const MIGRATION_START_BUDGET_MS = 5000;

/** For openCoordinator().close() and a margin. */
const STORES_CLOSE_MS = 3000;

/**
 * Starts one replica of the coordinator, on a database that it brings to the newest schema. Postgres need not be there yet: until it is and
 * has the schema, /readyz answers 503 and the background work waits.
 * @throws what the server throws when it cannot listen (EADDRINUSE, ...)
 */
export async function startCoordinator(
  config: CoordinatorConfig,
  log: Logger = createLogger(config.log_level, 'coordinator'),
): Promise<RunningCoordinator> {
  const deps = openCoordinator(config, log);
  const state: CoordinatorState = { draining: false, migrated: false };
  const guards = createGuards(deps);
  const server = createHttpServer(createCoordinatorApp(deps, guards, state));
  routeUpgrades(server, { [JOB_STREAM_PATH]: jobStreamUpgrades(deps, guards) });
  const migration = keepMigrating(config.db_dsn, log);
  try {
    await Promise.race([migration.settled, sleep(MIGRATION_START_BUDGET_MS, undefined, { ref: false })]);
    const url = await listen(server, config.coordinator_bind, config.coordinator_port);
    deps.notices.listen();
    let loops: Loops | undefined;
    void migration.migrated.then(() => {
      state.migrated = true;
      loops = startLoops(deps);
    });
    log.info({ url }, 'listening');
    let stopped: Promise<void> | undefined;
    const budgetMs = config.shutdown_timeout_sec * 1000 - config.shutdown_drain_ms - STORES_CLOSE_MS;
    // Readiness says no first, so that load balancers turn away; then polls and streams are answered, and what is in flight ends.
    const stop = async () => {
      state.draining = true;
      migration.stop();
      await sleep(config.shutdown_drain_ms);
      deps.dispatcher.stop();
      deps.streams.stop();
      deps.hub?.stop();
      await Promise.all([closeServer(server, Math.max(0, budgetMs), log), loops?.stop()]);
      await deps.close();
    };
    return {
      url,
      stop() {
        stopped ??= stop();
        return stopped;
      },
    };
  } catch (error) {
    migration.stop();
    await deps.close();
    throw error;
  }
}

if (isMainModule(import.meta.url)) {
  try {
    const config = loadCoordinatorConfig();
    const log = createLogger(config.log_level, 'coordinator');
    await runMain(() => startCoordinator(config, log), log, config.shutdown_timeout_sec);
  } catch (error) {
    console.error(startFailure(error));
    process.exitCode = 1;
  }
}
