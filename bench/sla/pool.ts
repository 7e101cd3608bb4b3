import { drizzle } from 'drizzle-orm/postgres-js';
import postgres from 'postgres';
import { keepStrategies } from '../../src/hub/registry/strategies.ts';
import type { Orm } from '../../src/platform/db.ts';
import { HubClient } from '../../src/sdk/hub-client.ts';
import { startScript } from '../../test/support/processes.ts';
import { startHub } from '../hub/hub-process.ts';
import { readPool } from '../match/pool.ts';
import { type Shape, shapesOf } from '../match/shapes.ts';
import type { Options } from '../support/benchmark.ts';
import { loadFleet } from '../support/fleet-loader.ts';
import { benchSettings, openRegistry } from '../support/registry.ts';
import { benchDatabase, benchRedis } from '../support/stores.ts';
import type { Undo } from '../support/undo.ts';
import { addFeedback, fillPast } from './past.ts';

/** A fleet with a past, a hub that serves it and a worker that measures it, each in a process of its own. */
export interface MeasuredPool {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly client: HubClient;
  /** The kinds of requests of the match benchmark, for this fleet. */
  readonly shapes: readonly Shape[];
  readonly sql: postgres.Sql;
  readonly orm: Orm;
  /** Rows of the past, and whose they are. */
  readonly pastRows: number;
  readonly pastMiners: readonly string[];
  /** Each miner finishes a job. */
  work(): Promise<void>;
  readonly workerPid: number;
}

/** One collection runs when the worker starts; the others when the run asks for them. */
const INTERVAL_SEC = '86400';
const FIRST_JOBS = 2;
const MATCH_TIMEOUT_MS = 30_000;

/** Loads fleet and past, and starts hub and worker. */
export async function openMeasuredPool(
  { miners, fleet, seed, rows }: Options,
  undo: Undo,
  progress: (line: string) => void,
): Promise<MeasuredPool> {
  const redis = await benchRedis(undo);
  const dsn = await benchDatabase(undo, { migrated: true });
  const settings: Record<string, string> = {
    ...benchSettings(redis, dsn),
    SLA_COLLECTION_INTERVAL_SECONDS: INTERVAL_SEC,
    LOG_LEVEL: 'warn',
  };
  const sql = postgres(dsn, { max: 1, onnotice: () => {} });
  undo.push(() => sql.end({ timeout: 5 }));
  const registry = await openRegistry(settings, undo);
  // As the worker of an empty registry does; else the first to start would rebuild it meanwhile.
  await keepStrategies(registry);
  await loadFleet(registry, { miners, kind: fleet, seed }, 0, (online) =>
    progress(`${online} of ${miners} miners online`),
  );
  const pool = await readPool(registry, miners);
  const minerIds = pool.map(({ id }) => id);
  const past = await fillPast(sql, minerIds, rows, progress);
  await addFeedback(sql, minerIds, FIRST_JOBS);
  const url = await startHub(settings, undo);
  const worker = await startScript('src/bin/worker.ts', { env: settings, ready: /worker is running/ });
  undo.push(() => worker.stop());
  const coordinatorSecret = settings.COORDINATOR_SHARED_SECRET as string;
  return {
    url,
    headers: { 'X-Coordinator-Secret': coordinatorSecret },
    client: new HubClient({ urls: [url], timeoutMs: MATCH_TIMEOUT_MS, coordinatorSecret }),
    shapes: shapesOf(pool),
    sql,
    orm: drizzle(sql),
    pastRows: past.rows,
    pastMiners: past.minerIds,
    work: () => addFeedback(sql, minerIds, 1),
    workerPid: worker.pid,
  };
}
