import { availableParallelism } from 'node:os';
import postgres from 'postgres';
import { onFreePort } from '../../src/embedded/ports.ts';
import { startProgram } from '../../src/embedded/supervise.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { entryArguments } from '../../test/support/entry.ts';
import { cpuMs, familyCpuMs, parentOf } from '../support/cpu.ts';
import { whenStarted } from '../support/started.ts';
import { benchDatabase } from '../support/stores.ts';
import type { Undo } from '../support/undo.ts';
import { planOfQueue } from './plan.ts';

const FINISHED_BATCH = 100_000;

/** Keys of the coordinator under measurement, which listens on loopback for the length of a run. */
export const BENCH_KEYS = { client: 'bench-client', miner: 'bench-miner', admin: 'bench-admin' } as const;

/** No limit, as far as settings go: what is measured is the work behind it. */
const UNLIMITED_PER_SEC = '1000000';

/** A coordinator in a process of its own, without a pool hub. */
export interface CoordinatorUnderLoad {
  readonly url: string;
  readonly sql: postgres.Sql;
  /** As planOfQueue. */
  readonly queuePlan: readonly string[];
  /** Processor time so far. */
  cpu(): Promise<CpuUse>;
}

/** Processor time, ms, of each that has a part in a run; null for what is not on this Linux. */
export interface CpuUse {
  readonly coordinator: number | null;
  readonly postgres: number | null;
  /** This process: the clients and the miners. */
  readonly bench: number | null;
}

/** Starts a coordinator on a database that has `finished` completed jobs already. */
export async function startCoordinatorUnderLoad(
  finished: number,
  undo: Undo,
  progress: (line: string) => void,
): Promise<CoordinatorUnderLoad> {
  const dsn = await benchDatabase(undo, { migrated: true });
  const sql = postgres(dsn, { max: 1, onnotice: () => {} });
  undo.push(() => sql.end({ timeout: 5 }));
  for (let from = 0; from < finished; from += FINISHED_BATCH) {
    await insertFinished(sql, from, Math.min(finished, from + FINISHED_BATCH));
    progress(`${Math.min(finished, from + FINISHED_BATCH)} of ${finished} finished jobs`);
  }
  await sql`vacuum analyze coordinator.jobs`;
  const queuePlan = await planOfQueue(sql);
  await sql`vacuum coordinator.jobs`;
  const { url, pid } = await onFreePort((port) => start(dsn, port, undo));
  return { url, sql, queuePlan, cpu: await cpuMeter(sql, pid) };
}

async function cpuMeter(sql: postgres.Sql, coordinator: number): Promise<() => Promise<CpuUse>> {
  const [backend] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`;
  const isHere = ['127.0.0.1', 'localhost', '::1'].includes(String(sql.options.host[0]));
  const postmaster = backend === undefined || !isHere ? undefined : await parentOf(backend.pid);
  return async () => ({
    coordinator: (await cpuMs(coordinator)) ?? null,
    postgres: postmaster === undefined ? null : ((await familyCpuMs(postmaster)) ?? null),
    bench: (await cpuMs(process.pid)) ?? null,
  });
}

async function insertFinished(sql: postgres.Sql, from: number, to: number): Promise<void> {
  await sql`
    insert into coordinator.jobs (job_id, client_id, request_digest, state, payload, constraints, requested_at, expires_at,
      started_at, finished_at, assigned_miner_id, attempts, result)
    select md5(n::text), 'past-' || n % 50, '', 'COMPLETED', '{}', '{}', t, t + interval '1 hour', t, t, 'past-' || n % 500, 1, '{}'
    from generate_series(${from}::int, ${to - 1}::int) n, lateral (select now() - n * interval '1 second' as t) moments`;
}

async function start(dsn: string, port: number, undo: Undo): Promise<{ url: string; pid: number }> {
  const program = await startProgram(process.execPath, entryArguments('src/bin/coordinator.ts'), {
    cwd: packageRoot,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      DB_DSN: dsn,
      DB_POOL_MAX: String(2 * availableParallelism()),
      COORDINATOR_PORT: String(port),
      CLIENT_API_KEYS: BENCH_KEYS.client,
      MINER_API_KEYS: BENCH_KEYS.miner,
      ADMIN_API_KEYS: BENCH_KEYS.admin,
      RATE_LIMIT_CLIENT_PER_SEC: UNLIMITED_PER_SEC,
      RATE_LIMIT_MINER_PER_SEC: UNLIMITED_PER_SEC,
      SHUTDOWN_DRAIN_MS: '0',
      LOG_LEVEL: 'warn',
    },
  });
  undo.push(() => program.stop());
  const url = `http://127.0.0.1:${port}`;
  await whenStarted(program, url, 'coordinator');
  return { url, pid: program.pid };
}
