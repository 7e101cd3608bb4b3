import { setTimeout as sleep } from 'node:timers/promises';
import { forEachLimited } from '../../src/cli/bulk.ts';
import { formatTable } from '../../src/cli/table.ts';
import { waitFor } from '../../test/support/wait-for.ts';
import { Latency } from '../hub/latency.ts';
import type { Benchmark } from '../support/benchmark.ts';
import { round } from '../support/statistics.ts';
import { Caller } from './calls.ts';
import { BENCH_KEYS, type CoordinatorUnderLoad, type CpuUse, startCoordinatorUnderLoad } from './service.ts';

interface CoordinatorReport {
  readonly miners: number;
  /** Jobs a second that were to be submitted. */
  readonly rate: number;
  /** Jobs that had ended before. */
  readonly finished: number;
  readonly submitted: number;
  /** Jobs a second from the first submission to the last result. */
  readonly jobs_per_s: number;
  /** From the submission of a job, sent, to the answer of the poll that gets it. */
  readonly wakeup_p50_ms: number;
  readonly wakeup_p99_ms: number;
  /** Jobs that did not end as COMPLETED. */
  readonly lost: number;
  /** Times a job was given to a miner beside its first. */
  readonly duplicated: number;
  /** Calls that were not answered well; each was repeated. */
  readonly failed_calls: number;
  /** Rows of the job table that were read by scanning it, while the load was on. */
  readonly rows_scanned: number;
  /** Processor time of a completed job, ms: its own calls, and all that goes on beside it. */
  readonly cpu_ms_per_job: CpuUse;
  /** How Postgres finds a pending job beside the finished ones: EXPLAIN ANALYZE, line by line. */
  readonly queue_plan: readonly string[];
}

const POLL_SEC = 20;
const REGISTER_AT_A_TIME = 16;
const CALL_TIMEOUT_MS = 30_000;
const END_TIMEOUT_MS = 60_000;

/** The answer of a poll that has a job. */
interface GivenJob {
  readonly job_id: string;
  readonly payload: { readonly n: number };
}

/** What has happened so far. */
class Tally {
  readonly wakeup = new Latency();
  /** When each job was sent, ms of performance.now, by its number. */
  readonly sentMs: number[] = [];
  readonly given = new Set<string>();
  duplicated = 0;
  delivered = 0;
}

/** Miners that poll while jobs are submitted at a steady rate. */
export const coordinatorBenchmark: Benchmark<CoordinatorReport> = {
  async run({ miners, rate, finished, seconds }, undo, progress) {
    const service = await startCoordinatorUnderLoad(finished, undo, progress);
    const calls = new Caller(service.url, CALL_TIMEOUT_MS);
    undo.push(() => calls.close());
    const tally = new Tally();
    const polls = await startMiners(calls, miners, tally);
    await waitFor(() => pollsHeld(service, miners), { timeoutMs: END_TIMEOUT_MS, what: 'all miners poll' });
    progress(`${miners} miners poll; ${rate} jobs a second for ${seconds} s`);
    const scannedBefore = await rowsScanned(service);
    const cpuBefore = await service.cpu();
    const startedMs = performance.now();
    const submitted = await submitJobs(calls, rate, seconds, tally);
    await waitFor(() => tally.delivered >= submitted, { timeoutMs: END_TIMEOUT_MS }).catch(() => {}); // What is missing is counted below.
    const tookSec = (performance.now() - startedMs) / 1000;
    const cpu = await service.cpu();
    const scanned = (await rowsScanned(service)) - scannedBefore;
    const completed = await completedJobs(service);
    calls.close();
    await Promise.allSettled(polls);
    return {
      miners,
      rate,
      finished,
      submitted,
      jobs_per_s: round(completed / tookSec, 1),
      wakeup_p50_ms: round(tally.wakeup.percentileMs(50), 1),
      wakeup_p99_ms: round(tally.wakeup.percentileMs(99), 1),
      lost: submitted - completed,
      duplicated: tally.duplicated,
      failed_calls: calls.failed,
      rows_scanned: scanned,
      cpu_ms_per_job: perJob(cpuBefore, cpu, completed),
      queue_plan: service.queuePlan,
    };
  },
  failed: ({ lost, duplicated }) => lost > 0 || duplicated > 0,
  table({ queue_plan, cpu_ms_per_job, ...figures }) {
    const cpu = Object.entries(cpu_ms_per_job).map(([who, ms]) => [`cpu_ms_per_job ${who}`, ms]);
    return `${formatTable(['', ''], [...Object.entries(figures), ...cpu])}\n\n${queue_plan.join('\n')}`;
  },
};

function perJob(before: CpuUse, after: CpuUse, completed: number): CpuUse {
  const share = (from: number | null, to: number | null) =>
    from === null || to === null || completed === 0 ? null : round((to - from) / completed, 2);
  return {
    coordinator: share(before.coordinator, after.coordinator),
    postgres: share(before.postgres, after.postgres),
    bench: share(before.bench, after.bench),
  };
}

/** Miners that poll and deliver until the caller is closed. */
async function startMiners(calls: Caller, count: number, tally: Tally): Promise<Promise<void>[]> {
  const polls: Promise<void>[] = [];
  await forEachLimited(Array.from({ length: count }).keys(), REGISTER_AT_A_TIME, undefined, async (index) => {
    const headers = { 'X-Api-Key': BENCH_KEYS.miner, 'X-Miner-ID': `bench-${index}` };
    const registered = await calls.post('/v1/miners/register', headers, { capabilities: {} });
    if (registered === undefined) throw new Error('a miner could not register');
    const { session_token } = JSON.parse(registered) as { session_token: string };
    polls.push(work(calls, { ...headers, 'X-Session-Token': session_token }, tally));
  });
  return polls;
}

async function work(calls: Caller, headers: Record<string, string>, tally: Tally): Promise<void> {
  const poll = { max_wait_seconds: POLL_SEC };
  while (!calls.isClosed) {
    const given = await calls.post('/v1/miners/poll', headers, poll, POLL_SEC * 1000);
    if (!given) continue; // None in time.
    const { job_id: jobId, payload } = JSON.parse(given) as GivenJob;
    tally.wakeup.record(performance.now() - (tally.sentMs[payload.n] as number));
    if (tally.given.has(jobId)) tally.duplicated += 1;
    tally.given.add(jobId);
    await calls.post(`/v1/miners/${jobId}/result`, headers, { result: { n: payload.n } });
    tally.delivered += 1;
  }
}

/** Sends jobs at their moments, however long the answers take. @returns how many */
async function submitJobs(calls: Caller, rate: number, seconds: number, tally: Tally): Promise<number> {
  const total = Math.ceil(rate * seconds);
  const startedMs = performance.now();
  const answers: Promise<unknown>[] = [];
  for (let n = 0; n < total; n += 1) {
    const waitMs = startedMs + (n * 1000) / rate - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    tally.sentMs[n] = performance.now();
    const headers = { 'X-Api-Key': BENCH_KEYS.client, 'Idempotency-Key': `bench-${n}` };
    answers.push(calls.post('/v1/jobs', headers, { payload: { n } }));
  }
  await Promise.all(answers);
  return total;
}

async function pollsHeld({ url }: CoordinatorUnderLoad, miners: number): Promise<boolean> {
  const answer = await fetch(`${url}/v1/health`, { signal: AbortSignal.timeout(CALL_TIMEOUT_MS) });
  return ((await answer.json()) as { polls_held: number }).polls_held >= miners;
}

async function completedJobs({ sql }: CoordinatorUnderLoad): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n from coordinator.jobs where state = 'COMPLETED' and client_id not like 'past-%'`;
  return row?.n ?? 0;
}

/** As far as the backends have told: each does so at least every minute, and when it rests. */
async function rowsScanned({ sql }: CoordinatorUnderLoad): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select seq_tup_read::float8 as n from pg_stat_user_tables where schemaname = 'coordinator' and relname = 'jobs'`;
  return row?.n ?? 0;
}
